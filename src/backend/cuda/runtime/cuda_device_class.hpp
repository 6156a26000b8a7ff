#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/gemm_choice.hpp"
#include "src/backend/cuda/runtime/cuda_check.hpp"
#include "src/backend/cuda/runtime/device_pool.hpp"
#include "src/backend/cuda/runtime/gemm_lt.hpp"
#include "src/backend/cuda/runtime/recording_gate.hpp"

// Private to cuda_device.cpp (memory, queues, graphs) and cuda_device_work.cpp (what is enqueued).

namespace carousel::cuda {

inline cudaStream_t stream_of(Queue queue) { return static_cast<cudaStream_t>(queue.native); }
inline cudaEvent_t event_of(Event event) { return static_cast<cudaEvent_t>(event.native); }

/// A card. Streams and events travel as Queue and Event.
class CudaDevice final : public DeviceApi, public GemmTuning {
public:
    CudaDevice(int index, const DeviceCaps& caps)
        : index_(index), caps_(caps), health_(index), kernels_{&rnn_launchers(), &nn_launchers()} {}
    ~CudaDevice() override;
    /// What can fail; the destructor takes down what was put up before it did.
    void open();

    Device device() const noexcept override { return Device::cuda(index_); }
    const DeviceCaps& caps() const noexcept override { return caps_; }
    const KernelTable& kernels() const noexcept override { return kernels_; }

    void* allocate(std::size_t bytes, const char* what) override;
    void release(void* memory) noexcept override;
    std::size_t free_bytes() override;
    void copy_to_device(void* to, const void* from, std::size_t bytes) override;
    void copy_to_host(void* to, const void* from, std::size_t bytes) override;
    void* allocate_pinned(std::size_t bytes, const char* what) override;
    void release_pinned(void* memory) noexcept override;

    Queue default_queue() override { return {default_}; }
    Queue make_queue() override;
    void release_queue(Queue queue) noexcept override;
    Event make_event() override;
    void release_event(Event event) noexcept override;
    void record(Queue queue, Event event) override;
    void wait(Queue queue, Event event) override;
    bool done(Event event) override;
    void wait_on_host(Event event) override;
    void synchronize(Queue queue) override;

    void launch(Queue queue, const Launch& launch) override;
    void gemm(Queue queue, const GemmArgs& args) override;
    void copy(Queue queue, void* to, const void* from, std::size_t bytes) override;
    void copy_2d(Queue queue, void* to, std::size_t to_pitch, const void* from,
                 std::size_t from_pitch, std::size_t row_bytes, std::size_t rows) override;
    void zero(Queue queue, void* to, std::size_t bytes) override;
    bool folds_bias(DType dtype) const noexcept override { return dtype != DType::kF64; }
    std::size_t gemm_workspace_bytes() const noexcept override;

    void begin_capture(Queue queue) override;
    void* end_capture(Queue queue, bool keep) override;
    void launch_graph(Queue queue, void* graph) override;
    void release_graph(void* graph) noexcept override;
    std::size_t graph_bytes(void* graph) const noexcept override;
    std::int64_t graph_nodes(void* graph) const noexcept override;

    std::uint32_t* status_word() noexcept override { return status_; }

    void set_gemm_tuning(bool on) override { gemm_->set_tuning(on); }
    bool gemm_tuning() override { return gemm_->tuning(); }
    std::string gemm_choices() override { return gemm_->print_choices(); }
    void load_gemm_choices(const std::string& text, const std::string& name) override {
        gemm_->load_choices(text, name);
    }

private:
    class Call;
    void copy_and_wait(void* to, const void* from, std::size_t bytes, const char* what);
    void refuse_recording(cudaStream_t stream, const char* what);
    void prepare_kernel(const Launch& launch);
    void enqueue(cudaStream_t stream, const Launch& launch);
    void add_bias(cudaStream_t stream, const GemmArgs& product);
    bool gone() const noexcept { return process_exiting() || health_.lost(); }

    int index_;
    DeviceCaps caps_;
    DeviceHealth health_;
    KernelTable kernels_;
    std::unique_ptr<DevicePool> pool_;
    std::unique_ptr<GemmLt> gemm_;
    cudaStream_t default_ = nullptr;
    RecordingGate gate_;  ///< of default_, which threads share
    std::uint32_t* status_ = nullptr;
    std::mutex kernels_mutex_;
    struct Allowed {
        int shared_bytes = 0;
        bool wide_clusters = false;
    };
    /// Kernels seen -> what their launches were allowed so far.
    std::unordered_map<const void*, Allowed> allowed_;
};

/// Every call that can fail starts with one: refuses a lost device and makes this one current. One that
/// touches a queue names it, and waits while another thread records it.
class CudaDevice::Call {
public:
    explicit Call(CudaDevice& device) : Call(device, nullptr) {}
    Call(CudaDevice& device, cudaStream_t stream)
        : passage_(passage(device, stream)), scope_(alive_index(device)) {
        device.health_.check(scope_.error(), "cudaSetDevice");
    }

private:
    static std::optional<RecordingGate::Passage> passage(CudaDevice& device, cudaStream_t stream) {
        if (stream == nullptr || stream != device.default_) return std::nullopt;
        return std::make_optional<RecordingGate::Passage>(device.gate_);
    }
    static int alive_index(const CudaDevice& device) {
        device.health_.require();
        return device.index_;
    }
    std::optional<RecordingGate::Passage> passage_;
    DeviceScope scope_;
};

}  // namespace carousel::cuda
