#include "simt/simt_device.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "carousel/error.hpp"
#include "simt/memory.hpp"

namespace carousel::simt {

Device::Device(int index, DeviceOptions options)
    : index_(index), options_(options), random_(options.seed) {
    caps_.name = "SIMT executor";
    caps_.compute_major = 9;
    caps_.num_sms = 132;
    caps_.shared_bytes_per_sm = 228 << 10;
    caps_.shared_bytes_per_block = 227 << 10;
    caps_.l2_bytes = std::size_t{50} << 20;
    caps_.memory_bytes = std::size_t{8} << 30;
    caps_.cooperative_launch = true;
    caps_.memory_pools = true;
    caps_.driver_version = caps_.runtime_version = 13000;
    table_.rnn = &cuda_simt::rnn_launchers();
    table_.nn = &cuda_simt::nn_launchers();
    queues_.emplace_back();
    status_ = static_cast<std::uint32_t*>(simt::allocate(sizeof(std::uint32_t), "status word"));
    *status_ = 0;
}

Device::~Device() { simt::release(status_); }

// --- memory

void* Device::allocate(std::size_t bytes, const char* what) {
    ++counts_.allocations;
    if (bytes > caps_.memory_bytes) {
        throw Error(ErrorCode::kOutOfMemory, std::to_string(bytes) + " bytes needed for " + what);
    }
    return simt::allocate(bytes, what);
}

void Device::release(void* memory) noexcept {
    try {
        drain();  // what still uses it
    } catch (...) {
        for (QueueState& queue : queues_) queue.operations.clear();
    }
    simt::release(memory);
}

void Device::copy_to_device(void* to, const void* from, std::size_t bytes) {
    ++counts_.host_waits;
    drain();
    if (bytes > 0) std::memcpy(to, from, bytes);
}

void Device::copy_to_host(void* to, const void* from, std::size_t bytes) {
    ++counts_.host_waits;
    drain();
    if (bytes > 0) std::memcpy(to, from, bytes);
}

void* Device::allocate_pinned(std::size_t bytes, const char* what) {
    ++counts_.allocations;
    return simt::allocate(bytes, what);
}

void Device::release_pinned(void* memory) noexcept { release(memory); }

// --- queues

cuda::Queue Device::default_queue() { return {reinterpret_cast<void*>(std::size_t{1})}; }

cuda::Queue Device::make_queue() {
    queues_.emplace_back();
    return {reinterpret_cast<void*>(queues_.size())};
}

void Device::release_queue(cuda::Queue) noexcept {}

cuda::Event Device::make_event() {
    events_.emplace_back();
    return {reinterpret_cast<void*>(events_.size())};
}

void Device::release_event(cuda::Event) noexcept {}

void Device::push(cuda::Queue queue, std::function<void()> work) {
    QueueState& state = queues_.at(index_of(queue));
    if (state.capturing) {
        recording_->nodes.push_back(std::move(work));
        return;
    }
    state.operations.push_back({std::move(work)});
}

void Device::record(cuda::Queue queue, cuda::Event event) {
    QueueState& state = queues_.at(index_of(queue));
    EventState& target = events_.at(index_of(event));
    target.capturing = state.capturing;
    if (state.capturing) return;
    Operation operation;
    operation.record = static_cast<int>(index_of(event));
    operation.version = ++target.recorded;
    state.operations.push_back(std::move(operation));
}

void Device::wait(cuda::Queue queue, cuda::Event event) {
    QueueState& state = queues_.at(index_of(queue));
    EventState& source = events_.at(index_of(event));
    if (waits_++ == dropped_wait_) return;
    if (source.capturing) {
        state.capturing = true;  // the queue joins the capture, as a forked stream does
        return;
    }
    Operation operation;
    operation.wait = static_cast<int>(index_of(event));
    operation.version = source.recorded;
    state.operations.push_back(std::move(operation));
}

/// Runs the first operation of a queue; false if it has none that may run.
bool Device::step(std::size_t index) {
    std::deque<Operation>& operations = queues_[index].operations;
    if (operations.empty()) return false;
    Operation& front = operations.front();
    if (front.wait >= 0) {
        if (events_[static_cast<std::size_t>(front.wait)].reached < front.version) return false;
    } else if (front.record >= 0) {
        EventState& event = events_[static_cast<std::size_t>(front.record)];
        event.reached = std::max(event.reached, front.version);
    }
    const Operation taken = std::move(front);
    operations.pop_front();
    if (taken.work) taken.work();
    return true;
}

void Device::drain() {
    const std::size_t count = queues_.size();
    std::vector<std::size_t> order(count);
    for (std::size_t i = 0; i < count; ++i)
        order[i] = options_.order == QueueOrder::kSideEarly ? count - 1 - i : i;
    for (;;) {
        bool moved = false;
        if (options_.order == QueueOrder::kRandom)
            std::shuffle(order.begin(), order.end(), random_);
        for (const std::size_t index : order) {
            if (options_.order == QueueOrder::kEnqueued || options_.order == QueueOrder::kRandom) {
                moved = step(index) || moved;
                continue;
            }
            // As far as it can; then again from the first queue of the order.
            bool any = false;
            while (step(index)) any = true;
            if (any) {
                moved = true;
                break;
            }
        }
        if (!moved) break;
    }
    for (const QueueState& queue : queues_) {
        if (!queue.operations.empty())
            throw std::logic_error("a queue waits for an event that is never recorded");
    }
}

bool Device::done(cuda::Event event) {
    const EventState& state = events_.at(index_of(event));
    return state.reached >= state.recorded;
}

void Device::wait_on_host(cuda::Event) {
    ++counts_.host_waits;
    drain();
}

void Device::synchronize(cuda::Queue) {
    ++counts_.host_waits;
    drain();
}

// --- work

void Device::launch(cuda::Queue queue, const cuda::Launch& launch) {
    ++counts_.launches;
    push(queue, [this, copy = std::make_shared<cuda::Launch>(launch)] {
        const Report report = simt::launch(*copy, options_.simt);
        counts_.races += report.races;
        if (report.races > 0 || report.uninitialised > 0) throw KernelError(report.text());
    });
}

void Device::gemm(cuda::Queue queue, const cuda::GemmArgs& args) {
    ++counts_.products;
    if (args.workspace_bytes < gemm_workspace_bytes() || args.workspace == nullptr)
        throw std::logic_error("a product without a workspace");
    if (tuning_ && recording_ == nullptr) {
        const bool is_new = choices_.emplace(cuda::gemm_key(args), cuda::GemmChoice{}).second;
        counts_.timed_products += is_new ? 1 : 0;
    }
    push(queue, [args] { reference_gemm(args); });
}

namespace {
const cuda::GemmPlace kPlace = {"executor", 1};
}  // namespace

std::string Device::gemm_choices() { return cuda::print_gemm_choices(kPlace, choices_); }

void Device::load_gemm_choices(const std::string& text, const std::string& name) {
    choices_.merge(cuda::parse_gemm_choices(text, kPlace, name));
}

void Device::copy(cuda::Queue queue, void* to, const void* from, std::size_t bytes) {
    ++counts_.copies;
    push(queue, [=] {
        if (bytes > 0) std::memcpy(to, from, bytes);
    });
}

void Device::copy_2d(cuda::Queue queue, void* to, std::size_t to_pitch, const void* from,
                     std::size_t from_pitch, std::size_t row_bytes, std::size_t rows) {
    ++counts_.copies;
    push(queue, [=] {
        for (std::size_t r = 0; r < rows; ++r) {
            std::memcpy(static_cast<std::byte*>(to) + r * to_pitch,
                        static_cast<const std::byte*>(from) + r * from_pitch, row_bytes);
        }
    });
}

void Device::zero(cuda::Queue queue, void* to, std::size_t bytes) {
    push(queue, [=] { std::memset(to, 0, bytes); });
}

bool Device::folds_bias(DType dtype) const noexcept {
    return options_.folds_bias && dtype != DType::kF64;
}

// --- graphs

void Device::begin_capture(cuda::Queue queue) {
    if (recording_ != nullptr) throw std::logic_error("a capture inside a capture");
    recording_ = std::make_unique<Graph>();
    queues_.at(index_of(queue)).capturing = true;
}

void* Device::end_capture(cuda::Queue, bool keep) {
    for (QueueState& state : queues_) state.capturing = false;
    std::unique_ptr<Graph> graph = std::move(recording_);
    return keep ? graph.release() : nullptr;
}

void Device::launch_graph(cuda::Queue queue, void* graph) {
    ++counts_.graph_launches;
    push(queue, [nodes = static_cast<Graph*>(graph)->nodes] {
        for (const std::function<void()>& node : nodes) node();
    });
}

void Device::release_graph(void* graph) noexcept { delete static_cast<Graph*>(graph); }

std::size_t Device::graph_bytes(void* graph) const noexcept {
    return static_cast<Graph*>(graph)->nodes.size() * 1024;
}

std::int64_t Device::graph_nodes(void* graph) const noexcept {
    return static_cast<std::int64_t>(static_cast<Graph*>(graph)->nodes.size());
}

}  // namespace carousel::simt
