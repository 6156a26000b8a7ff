#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_api.hpp"

namespace carousel::test {

/// A DeviceApi over host memory whose work happens late: copies and fills run when somebody waits for
/// them, in the order of their enqueuing, so code that reuses memory too early shows. It records
/// graphs, counts what it was asked, and fails on request. It has no kernels and no products.
class QueuedDevice final : public cuda::DeviceApi {
public:
    /// Set by tests.
    bool fail_begin = false;          ///< begin_capture throws
    bool null_graph = false;          ///< end_capture(keep) returns null
    bool fail_end = false;            ///< end_capture(keep) throws Cuda
    bool lost = false;                ///< calls that can throw answer DeviceLost
    std::int64_t extra_nodes = 0;     ///< added to every graph's count
    std::size_t bytes_per_node = 10;  ///< graph_bytes
    std::size_t memory_limit = SIZE_MAX;
    /// Counted.
    int host_waits = 0;
    int captures = 0, open_captures = 0, graphs = 0, graph_launches = 0;
    int queues = 0, events = 0;

    std::size_t free_bytes() override { return memory_limit; }

    explicit QueuedDevice(int index = 0) : index_(index) {
        caps_ = cuda::known_device("h100");
        default_ = make_queue();
        queues = 0;
        status_ = static_cast<std::uint32_t*>(allocate(sizeof(*status_), "status"));
        *status_ = 0;
    }
    ~QueuedDevice() override {
        release(status_);
        delete static_cast<FakeQueue*>(default_.native);
    }

    /// Blocks of device and pinned memory that are not released, without the device's own.
    std::size_t live_blocks() const { return blocks_.size() - 1; }
    bool idle() const { return pending_.empty(); }
    /// Does all enqueued work.
    void finish() {
        while (!pending_.empty()) step();
    }
    /// Does the first piece of enqueued work.
    void step() {
        const auto work = std::move(pending_.front());
        pending_.pop_front();
        work();
    }

    Device device() const noexcept override { return Device::cuda(index_); }
    const cuda::DeviceCaps& caps() const noexcept override { return caps_; }
    const cuda::KernelTable& kernels() const noexcept override { return kernels_; }

    void* allocate(std::size_t bytes, const char* what) override {
        alive();
        if (bytes > memory_limit) {
            throw Error(ErrorCode::kOutOfMemory,
                        "out of memory: " + std::to_string(bytes) + " bytes needed for " + what);
        }
        auto block = std::make_unique<std::byte[]>(bytes + kAlign);
        const auto begin = reinterpret_cast<std::uintptr_t>(block.get());
        void* memory = reinterpret_cast<void*>((begin + kAlign - 1) / kAlign * kAlign);
        std::memset(memory, 0xCD, bytes);
        blocks_.emplace(memory, std::move(block));
        return memory;
    }
    /// As on a card, the memory goes after the work enqueued so far.
    void release(void* memory) noexcept override {
        const auto block = blocks_.find(memory);
        if (block == blocks_.end()) return;
        auto kept = std::make_shared<std::unique_ptr<std::byte[]>>(std::move(block->second));
        blocks_.erase(block);
        if (!pending_.empty()) pending_.push_back([kept] {});
    }
    void copy_to_device(void* to, const void* from, std::size_t bytes) override {
        alive();
        finish();
        std::memcpy(to, from, bytes);
    }
    void copy_to_host(void* to, const void* from, std::size_t bytes) override {
        copy_to_device(to, from, bytes);
    }
    void* allocate_pinned(std::size_t bytes, const char* what) override {
        return allocate(bytes, what);
    }
    /// Unlike device memory, gone at once.
    void release_pinned(void* memory) noexcept override { blocks_.erase(memory); }

    cuda::Queue default_queue() override { return default_; }
    cuda::Queue make_queue() override {
        alive();
        ++queues;
        return {new FakeQueue};
    }
    void release_queue(cuda::Queue queue) noexcept override {
        --queues;
        delete static_cast<FakeQueue*>(queue.native);
    }
    cuda::Event make_event() override {
        alive();
        ++events;
        return {new std::shared_ptr<Mark>(std::make_shared<Mark>())};
    }
    void release_event(cuda::Event event) noexcept override {
        --events;
        delete static_cast<std::shared_ptr<Mark>*>(event.native);
    }
    void record(cuda::Queue queue, cuda::Event event) override {
        auto mark = mark_of(event);
        const std::uint64_t serial = ++mark->recorded;
        enqueue(queue, [mark, serial] { mark->reached = serial; });
    }
    void wait(cuda::Queue queue, cuda::Event) override {
        enqueue(queue, [] {});  // one order for all queues
    }
    bool done(cuda::Event event) override {
        alive();
        return mark_of(event)->reached == mark_of(event)->recorded;
    }
    void wait_on_host(cuda::Event event) override {
        alive();
        ++host_waits;
        while (!done(event)) step();
    }
    void synchronize(cuda::Queue) override {
        alive();
        finish();
    }

    void launch(cuda::Queue, const cuda::Launch&) override {
        throw Error(ErrorCode::kInternal, "QueuedDevice has no kernels");
    }
    void gemm(cuda::Queue, const cuda::GemmArgs&) override {
        throw Error(ErrorCode::kInternal, "QueuedDevice has no products");
    }
    void copy(cuda::Queue queue, void* to, const void* from, std::size_t bytes) override {
        enqueue(queue, [to, from, bytes] { std::memcpy(to, from, bytes); });
    }
    void copy_2d(cuda::Queue queue, void* to, std::size_t to_pitch, const void* from,
                 std::size_t from_pitch, std::size_t row_bytes, std::size_t rows) override {
        enqueue(queue, [=] {
            for (std::size_t r = 0; r < rows; ++r) {
                std::memcpy(static_cast<std::byte*>(to) + r * to_pitch,
                            static_cast<const std::byte*>(from) + r * from_pitch, row_bytes);
            }
        });
    }
    void zero(cuda::Queue queue, void* to, std::size_t bytes) override {
        enqueue(queue, [to, bytes] { std::memset(to, 0, bytes); });
    }
    bool folds_bias(DType) const noexcept override { return false; }
    std::size_t gemm_workspace_bytes() const noexcept override { return 0; }

    void begin_capture(cuda::Queue queue) override {
        alive();
        if (fail_begin) throw Error(ErrorCode::kCuda, "begin_capture failed");
        ++captures;
        ++open_captures;
        static_cast<FakeQueue*>(queue.native)->recording = std::make_unique<Graph>();
    }
    void* end_capture(cuda::Queue queue, bool keep) override {
        --open_captures;
        auto graph = std::move(static_cast<FakeQueue*>(queue.native)->recording);
        if (!keep) return nullptr;
        alive();
        if (fail_end) throw Error(ErrorCode::kCuda, "end_capture failed");
        if (null_graph) return nullptr;
        ++graphs;
        return graph.release();
    }
    void launch_graph(cuda::Queue queue, void* graph) override {
        ++graph_launches;
        for (const auto& work : static_cast<Graph*>(graph)->work) enqueue(queue, work);
    }
    void release_graph(void* graph) noexcept override {
        --graphs;
        delete static_cast<Graph*>(graph);
    }
    std::size_t graph_bytes(void* graph) const noexcept override {
        return static_cast<std::size_t>(graph_nodes(graph)) * bytes_per_node;
    }
    std::int64_t graph_nodes(void* graph) const noexcept override {
        return static_cast<std::int64_t>(static_cast<Graph*>(graph)->work.size()) + extra_nodes;
    }
    std::uint32_t* status_word() noexcept override { return status_; }

private:
    static constexpr std::size_t kAlign = 256;
    using Work = std::function<void()>;
    struct Graph {
        std::vector<Work> work;
    };
    struct FakeQueue {
        std::unique_ptr<Graph> recording;
    };
    struct Mark {
        std::uint64_t recorded = 0, reached = 0;
    };

    void alive() const {
        if (lost) throw Error(ErrorCode::kDeviceLost, "the device was lost on request");
    }
    static std::shared_ptr<Mark> mark_of(cuda::Event event) {
        return *static_cast<std::shared_ptr<Mark>*>(event.native);
    }
    void enqueue(cuda::Queue queue, Work work) {
        alive();
        auto& recording = static_cast<FakeQueue*>(queue.native)->recording;
        if (recording != nullptr) {
            recording->work.push_back(std::move(work));
        } else {
            pending_.push_back(std::move(work));
        }
    }

    int index_;
    cuda::DeviceCaps caps_;
    cuda::KernelTable kernels_;
    cuda::Queue default_;
    std::uint32_t* status_ = nullptr;
    std::map<void*, std::unique_ptr<std::byte[]>> blocks_;
    std::deque<Work> pending_;
};

}  // namespace carousel::test
