#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "simt/simt.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/gemm_choice.hpp"

// A CUDA device for tests: launches go to the SIMT executor, products to a reference GEMM that takes
// cuBLAS's own arguments. Queues are real: work waits in them and runs in any order that events allow,
// so a missing event shows as a wrong result under some order.

namespace carousel::simt {

/// How work of different queues is interleaved.
enum class QueueOrder {
    kEnqueued,   ///< as it was enqueued, if events allow
    kSideLate,   ///< the queue made first goes as far as it can before any other moves
    kSideEarly,  ///< the queue made last goes first
    kRandom,
};

struct DeviceOptions {
    Options simt;
    QueueOrder order = QueueOrder::kEnqueued;
    std::uint64_t seed = 1;
    bool folds_bias = true;  ///< as cuBLAS does for all but f64
};

/// What was asked of the device since the last reset.
struct DeviceCounts {
    std::int64_t launches = 0, products = 0, copies = 0, host_waits = 0, allocations = 0;
    std::int64_t graph_launches = 0;
    std::int64_t timed_products = 0;  ///< that tuning had not met before
    std::uint64_t races = 0;
};

class Device final : public cuda::DeviceApi, public cuda::GemmTuning {
public:
    explicit Device(int index, DeviceOptions options = {});
    ~Device() override;

    carousel::Device device() const noexcept override { return carousel::Device::cuda(index_); }
    const cuda::DeviceCaps& caps() const noexcept override { return caps_; }
    const cuda::KernelTable& kernels() const noexcept override { return table_; }

    void* allocate(std::size_t bytes, const char* what) override;
    void release(void* memory) noexcept override;
    std::size_t free_bytes() override { return caps_.memory_bytes; }
    void copy_to_device(void* to, const void* from, std::size_t bytes) override;
    void copy_to_host(void* to, const void* from, std::size_t bytes) override;
    void* allocate_pinned(std::size_t bytes, const char* what) override;
    void release_pinned(void* memory) noexcept override;

    cuda::Queue default_queue() override;
    cuda::Queue make_queue() override;
    void release_queue(cuda::Queue queue) noexcept override;
    cuda::Event make_event() override;
    void release_event(cuda::Event event) noexcept override;
    void record(cuda::Queue queue, cuda::Event event) override;
    void wait(cuda::Queue queue, cuda::Event event) override;
    bool done(cuda::Event event) override;
    void wait_on_host(cuda::Event event) override;
    void synchronize(cuda::Queue queue) override;

    void launch(cuda::Queue queue, const cuda::Launch& launch) override;
    void gemm(cuda::Queue queue, const cuda::GemmArgs& args) override;
    void copy(cuda::Queue queue, void* to, const void* from, std::size_t bytes) override;
    void copy_2d(cuda::Queue queue, void* to, std::size_t to_pitch, const void* from,
                 std::size_t from_pitch, std::size_t row_bytes, std::size_t rows) override;
    void zero(cuda::Queue queue, void* to, std::size_t bytes) override;
    bool folds_bias(DType dtype) const noexcept override;
    std::size_t gemm_workspace_bytes() const noexcept override { return 256; }

    void begin_capture(cuda::Queue queue) override;
    void* end_capture(cuda::Queue queue, bool keep) override;
    void launch_graph(cuda::Queue queue, void* graph) override;
    void release_graph(void* graph) noexcept override;
    std::size_t graph_bytes(void* graph) const noexcept override;
    std::int64_t graph_nodes(void* graph) const noexcept override;
    std::uint32_t* status_word() noexcept override { return status_; }

    /// There is one way to multiply: what is "chosen" is which products came up while it was on.
    void set_gemm_tuning(bool on) override { tuning_ = on; }
    bool gemm_tuning() override { return tuning_; }
    std::string gemm_choices() override;
    void load_gemm_choices(const std::string& text, const std::string& name) override;

    /// Work of a library that enqueues on the queue's stream by itself; runs, or is recorded, in turn.
    void push(cuda::Queue queue, std::function<void()> work);
    const DeviceCounts& counts() const noexcept { return counts_; }
    void reset_counts() { counts_ = {}; }
    /// Waits of the kind `event` are left out from now on: a planted fault. -1 = none.
    void drop_wait(std::int64_t number) { dropped_wait_ = number; }
    std::int64_t waits() const noexcept { return waits_; }
    DeviceOptions& options() noexcept { return options_; }
    /// What a single allocation may have at most.
    void limit_memory(std::size_t bytes) noexcept { caps_.memory_bytes = bytes; }

private:
    struct Operation {
        std::function<void()> work;  ///< empty for events
        int record = -1, wait = -1;  ///< event index
        std::uint64_t version = 0;   ///< of the event
    };
    struct QueueState {
        std::deque<Operation> operations;
        bool capturing = false;
    };
    struct EventState {
        std::uint64_t recorded = 0, reached = 0;
        bool capturing = false;
    };
    struct Graph {
        std::vector<std::function<void()>> nodes;
    };
    bool step(std::size_t queue);
    void drain();
    static std::size_t index_of(cuda::Queue queue) {
        return reinterpret_cast<std::size_t>(queue.native) - 1;
    }
    static std::size_t index_of(cuda::Event event) {
        return reinterpret_cast<std::size_t>(event.native) - 1;
    }

    int index_;
    DeviceOptions options_;
    cuda::DeviceCaps caps_;
    cuda::KernelTable table_;
    std::vector<QueueState> queues_;
    std::vector<EventState> events_;
    std::unique_ptr<Graph> recording_;
    std::mt19937_64 random_;
    std::uint32_t* status_ = nullptr;
    DeviceCounts counts_;
    bool tuning_ = false;
    cuda::GemmChoices choices_;
    std::int64_t waits_ = 0, dropped_wait_ = -1;
};

/// The GEMM of the device: f64 in double, all else summed in double and rounded once.
void reference_gemm(const cuda::GemmArgs& args);

/// Installs a Device for the life of the object.
class InstalledDevice {
public:
    explicit InstalledDevice(int index, DeviceOptions options = {})
        : index_(index), device_(std::make_shared<Device>(index, options)) {
        cuda::install_device_api(index, device_);
    }
    ~InstalledDevice() { cuda::install_device_api(index_, nullptr); }
    InstalledDevice(const InstalledDevice&) = delete;
    InstalledDevice& operator=(const InstalledDevice&) = delete;
    Device& operator*() { return *device_; }
    Device* operator->() { return device_.get(); }
    carousel::Device device() const { return carousel::Device::cuda(index_); }

private:
    int index_;
    std::shared_ptr<Device> device_;
};

}  // namespace carousel::simt
