#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "carousel/device.hpp"
#include "carousel/tensor.hpp"
#include "kernels/cuda/kernel_table.hpp"
#include "src/backend/cuda/device_caps.hpp"

// The small interface between the host code that runs plans and training steps and the device that
// executes them. No CUDA header: the executors compile and are tested on machines without a GPU, over
// an implementation that sends launches to tests/simt and products to a reference GEMM.

namespace carousel::cuda {

/// C = alpha * op(A) op(B) + beta * C (+ bias) in cuBLAS's own terms: column-major, op(A) [m,k],
/// op(B) [k,n], C [m,n], leading dimensions and batch strides in elements, none of
/// them negative.
struct GemmArgs {
    bool trans_a = false, trans_b = false;
    std::int64_t m = 0, n = 0, k = 0;
    DType dtype = DType::kF32;      ///< of A and B, and the arithmetic (tf32: f32 operands rounded)
    DType out_dtype = DType::kF32;  ///< of C; f32 or `dtype` for bf16, f16; else f32 | f64
    double alpha = 1.0, beta = 0.0;
    const void* a = nullptr;
    std::int64_t lda = 0, stride_a = 0;
    const void* b = nullptr;
    std::int64_t ldb = 0, stride_b = 0;
    void* c = nullptr;
    std::int64_t ldc = 0, stride_c = 0;
    std::int64_t batch = 1;
    const void* bias = nullptr;  ///< [m] of `dtype`, added to every column; see folds_bias
    void* workspace = nullptr;   ///< of this call alone until it is done on its queue
    std::size_t workspace_bytes = 0;
};

/// Graphs above this are not made: instantiation grows with the nodes, and what is gained over plain
/// launches does not.
inline constexpr std::int64_t kMaxGraphNodes = 20'000;

/// A queue of work on the device: a `cudaStream_t`.
struct Queue {
    void* native = nullptr;
};

/// A point in a queue: owned by the DeviceApi that made it.
struct Event {
    void* native = nullptr;
};

/// Thread-compatible: objects that share one (plans, modules) may live on different threads; calls on
/// one queue come from one thread at a time. The default queue is all threads': while one records it,
/// the calls of others on it wait. Every call but those marked "waits" only enqueues.
class DeviceApi {
public:
    virtual ~DeviceApi() = default;

    virtual Device device() const noexcept = 0;
    virtual const DeviceCaps& caps() const noexcept = 0;
    virtual const KernelTable& kernels() const noexcept = 0;

    // --- memory. Blocks are at least 256-byte aligned.
    /// Usable on any queue on return. May wait for work that still uses released memory; not for a
    /// step. Errors: OutOfMemory: bytes asked, for what, bytes free.
    virtual void* allocate(std::size_t bytes, const char* what) = 0;
    /// The memory is used again only after all that was enqueued before on queues of this DeviceApi;
    /// work on a caller's own stream must be done, or be awaited by one of them.
    virtual void release(void* memory) noexcept = 0;
    /// Of device memory, as the driver counts it now.
    virtual std::size_t free_bytes() = 0;
    /// Waits: host memory can be reused, device memory read, on return. In order with what was
    /// enqueued on default_queue().
    virtual void copy_to_device(void* to, const void* from, std::size_t bytes) = 0;
    virtual void copy_to_host(void* to, const void* from, std::size_t bytes) = 0;
    /// Page-locked host memory, for copies that only enqueue.
    virtual void* allocate_pinned(std::size_t bytes, const char* what) = 0;
    virtual void release_pinned(void* memory) noexcept = 0;

    // --- queues and events
    /// The library's own non-blocking queue of this device.
    virtual Queue default_queue() = 0;
    virtual Queue make_queue() = 0;
    virtual void release_queue(Queue queue) noexcept = 0;
    virtual Event make_event() = 0;
    virtual void release_event(Event event) noexcept = 0;
    virtual void record(Queue queue, Event event) = 0;
    virtual void wait(Queue queue, Event event) = 0;  ///< the queue waits, not the host
    virtual bool done(Event event) = 0;
    virtual void wait_on_host(Event event) = 0;  ///< waits
    virtual void synchronize(Queue queue) = 0;   ///< waits; throws DeviceLost after a sticky error

    // --- work
    virtual void launch(Queue queue, const Launch& launch) = 0;
    /// While choice by timing is on (carousel/gemm_tuning.hpp), the first use of a shape waits.
    virtual void gemm(Queue queue, const GemmArgs& args) = 0;
    /// Any of device and pinned host memory on either side.
    virtual void copy(Queue queue, void* to, const void* from, std::size_t bytes) = 0;
    /// `rows` rows of `row_bytes`; pitches in bytes.
    virtual void copy_2d(Queue queue, void* to, std::size_t to_pitch, const void* from,
                         std::size_t from_pitch, std::size_t row_bytes, std::size_t rows) = 0;
    virtual void zero(Queue queue, void* to, std::size_t bytes) = 0;
    /// True if gemm() takes a bias for this dtype.
    virtual bool folds_bias(DType dtype) const noexcept = 0;
    /// Workspace that gemm() wants to be offered per concurrent queue.
    virtual std::size_t gemm_workspace_bytes() const noexcept = 0;

    // --- graphs
    /// Everything enqueued on `queue`, and on queues forked from it by events, until end_capture is
    /// recorded instead of run.
    virtual void begin_capture(Queue queue) = 0;
    /// Ends a capture, on every path; from the thread that began it. Null if `keep` is false (error
    /// paths) or the capture failed, unless the failure is thrown; else a graph, which can be
    /// launched if it has at most kMaxGraphNodes.
    virtual void* end_capture(Queue queue, bool keep) = 0;
    virtual void launch_graph(Queue queue, void* graph) = 0;
    virtual void release_graph(void* graph) noexcept = 0;
    virtual std::size_t graph_bytes(void* graph) const noexcept = 0;  ///< estimate of device memory
    virtual std::int64_t graph_nodes(void* graph) const noexcept = 0;

    /// The status word (StatusBit) that kernels set: device memory, zero at the start.
    virtual std::uint32_t* status_word() noexcept = 0;
};

/// The CUDA device `index` of this process, made at first use and kept. Errors: Unsupported with the
/// reason that device_usable gives.
std::shared_ptr<DeviceApi> device_api(int index);

/// The device of that index if device_api or install_device_api made one before, else null.
std::shared_ptr<DeviceApi> find_device_api(int index);

/// Makes `api` the device of that index, for tests; null takes it away again. Plans, buffers and
/// modules made meanwhile hold on to it.
void install_device_api(int index, std::shared_ptr<DeviceApi> api);

}  // namespace carousel::cuda
