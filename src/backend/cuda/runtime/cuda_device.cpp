#include "src/backend/cuda/runtime/cuda_device.hpp"

#include <string>

#include "carousel/error.hpp"
#include "src/backend/cuda/runtime/cublaslt.hpp"
#include "src/backend/cuda/runtime/cuda_device_class.hpp"
#include "src/backend/cuda/runtime/cuda_graph.hpp"

namespace carousel::cuda {

void CudaDevice::open() {
    const DeviceScope scope(index_);
    const RelaxedCapture relaxed;
    health_.check(scope.error(), "cudaSetDevice");
    pool_ = std::make_unique<DevicePool>(health_, index_, caps_.memory_pools);
    health_.check(cudaStreamCreateWithFlags(&default_, cudaStreamNonBlocking),
                  "cudaStreamCreateWithFlags");
    pool_->add_queue(default_);
    gemm_ = std::make_unique<GemmLt>(health_, *pool_, caps_.name);
    status_ = static_cast<std::uint32_t*>(pool_->allocate(sizeof(*status_), "the status word"));
    health_.check(cudaMemsetAsync(status_, 0, sizeof(*status_), default_), "cudaMemsetAsync");
    health_.check(cudaStreamSynchronize(default_), "cudaStreamSynchronize");
}

CudaDevice::~CudaDevice() {
    if (gone()) return;
    const DeviceScope scope(index_);
    const RelaxedCapture relaxed;
    if (default_ != nullptr) {
        health_.note(cudaStreamSynchronize(default_), "cudaStreamSynchronize");
    }
    gemm_.reset();
    if (pool_ != nullptr) {
        pool_->release(status_);
        if (default_ != nullptr) pool_->remove_queue(default_);
        pool_.reset();
    }
    if (default_ != nullptr && !gone()) {
        health_.note(cudaStreamDestroy(default_), "cudaStreamDestroy");
    }
}

// --- memory

void* CudaDevice::allocate(std::size_t bytes, const char* what) {
    const Call call(*this);
    return pool_->allocate(bytes, what);
}

void CudaDevice::release(void* memory) noexcept {
    if (memory == nullptr || gone()) return;
    const DeviceScope scope(index_);
    pool_->release(memory);
}

// CUDA would record the copy and then fail at the wait, and the capture with it.
void CudaDevice::refuse_recording(cudaStream_t stream, const char* what) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    health_.check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing", what);
    if (status != cudaStreamCaptureStatusNone) {
        throw Error(ErrorCode::kInvalidArgument,
                    std::string(what) +
                        " waits for the device and cannot be recorded in a graph; "
                        "do it before the capture or after it");
    }
}

void CudaDevice::copy_and_wait(void* to, const void* from, std::size_t bytes, const char* what) {
    if (bytes == 0) return;
    const Call call(*this, default_);
    refuse_recording(default_, what);
    const RelaxedCapture relaxed;
    health_.check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, default_), "cudaMemcpyAsync",
                  what);
    health_.check(cudaStreamSynchronize(default_), "cudaStreamSynchronize", what);
}

void CudaDevice::copy_to_device(void* to, const void* from, std::size_t bytes) {
    copy_and_wait(to, from, bytes, "a copy to the device");
}

void CudaDevice::copy_to_host(void* to, const void* from, std::size_t bytes) {
    copy_and_wait(to, from, bytes, "a copy to the host");
}

std::size_t CudaDevice::free_bytes() {
    const DeviceScope scope(index_);
    std::size_t free_bytes = 0, total_bytes = 0;
    health_.check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    return free_bytes;
}

void* CudaDevice::allocate_pinned(std::size_t bytes, const char* what) {
    const Call call(*this);
    const RelaxedCapture relaxed;
    void* memory = nullptr;
    const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw Error(ErrorCode::kOutOfMemory,
                    "out of page-locked host memory: " + std::to_string(bytes) +
                        " bytes needed for " + what +
                        "; use a smaller batch, or raise the limit "
                        "of locked memory (ulimit -l)");
    }
    health_.check(error, "cudaHostAlloc", what);
    return memory;
}

void CudaDevice::release_pinned(void* memory) noexcept {
    if (memory == nullptr || gone()) return;
    const DeviceScope scope(index_);
    const RelaxedCapture relaxed;
    health_.note(cudaFreeHost(memory), "cudaFreeHost");
}

// --- queues and events

Queue CudaDevice::make_queue() {
    const Call call(*this);
    cudaStream_t stream = nullptr;
    health_.check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                  "cudaStreamCreateWithFlags");
    try {
        pool_->add_queue(stream);
    } catch (...) {
        cudaStreamDestroy(stream);
        throw;
    }
    return {stream};
}

void CudaDevice::release_queue(Queue queue) noexcept {
    if (queue.native == nullptr || gone()) return;
    const DeviceScope scope(index_);
    pool_->remove_queue(stream_of(queue));
    if (!gone()) health_.note(cudaStreamDestroy(stream_of(queue)), "cudaStreamDestroy");
}

Event CudaDevice::make_event() {
    const Call call(*this);
    cudaEvent_t event = nullptr;
    health_.check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                  "cudaEventCreateWithFlags");
    return {event};
}

void CudaDevice::release_event(Event event) noexcept {
    if (event.native == nullptr || gone()) return;
    const DeviceScope scope(index_);
    health_.note(cudaEventDestroy(event_of(event)), "cudaEventDestroy");
}

void CudaDevice::record(Queue queue, Event event) {
    const Call call(*this, stream_of(queue));
    health_.check(cudaEventRecord(event_of(event), stream_of(queue)), "cudaEventRecord");
}

void CudaDevice::wait(Queue queue, Event event) {
    const Call call(*this, stream_of(queue));
    const std::lock_guard lock(pool_->mutex());
    health_.check(cudaStreamWaitEvent(stream_of(queue), event_of(event), 0), "cudaStreamWaitEvent");
}

bool CudaDevice::done(Event event) {
    const Call call(*this);
    const RelaxedCapture relaxed;
    const cudaError_t error = cudaEventQuery(event_of(event));
    if (error == cudaErrorNotReady) {
        cudaGetLastError();
        return false;
    }
    health_.check(error, "cudaEventQuery");
    return true;
}

void CudaDevice::wait_on_host(Event event) {
    const Call call(*this);
    const RelaxedCapture relaxed;
    health_.check(cudaEventSynchronize(event_of(event)), "cudaEventSynchronize");
}

void CudaDevice::synchronize(Queue queue) {
    const Call call(*this, stream_of(queue));
    refuse_recording(stream_of(queue), "synchronize");
    const RelaxedCapture relaxed;
    health_.check(cudaStreamSynchronize(stream_of(queue)), "cudaStreamSynchronize");
}

// --- graphs

void CudaDevice::begin_capture(Queue queue) {
    const Call call(*this);
    const bool shared = stream_of(queue) == default_ && !gate_.closed_here();
    if (shared) gate_.close();
    pool_->capture_opened();
    const cudaError_t error =
        cudaStreamBeginCapture(stream_of(queue), cudaStreamCaptureModeThreadLocal);
    if (error == cudaSuccess) return;
    pool_->capture_closed();
    if (shared) gate_.open();
    health_.check(error, "cudaStreamBeginCapture");
}

void* CudaDevice::end_capture(Queue queue, bool keep) {
    // Not a Call: a capture is ended on a lost device too.
    const DeviceScope scope(index_);
    cudaGraph_t recorded = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream_of(queue), &recorded);
    pool_->capture_closed();
    if (stream_of(queue) == default_ && gate_.closed_here()) gate_.open();
    // A stream of the caller's may still be recording, and a graph takes memory.
    const RelaxedCapture relaxed;
    if (error != cudaSuccess || !keep) {
        if (recorded != nullptr) health_.note(cudaGraphDestroy(recorded), "cudaGraphDestroy");
        if (!keep) {
            health_.note(error, "cudaStreamEndCapture");
            return nullptr;
        }
        health_.check(error, "cudaStreamEndCapture");
    }
    const Call call(*this, stream_of(queue));
    return CudaGraph::make(health_, recorded, stream_of(queue)).release();
}

void CudaDevice::launch_graph(Queue queue, void* graph) {
    const Call call(*this, stream_of(queue));
    static_cast<CudaGraph*>(graph)->launch(stream_of(queue));
}

void CudaDevice::release_graph(void* graph) noexcept {
    const DeviceScope scope(index_);
    const RelaxedCapture relaxed;
    delete static_cast<CudaGraph*>(graph);
}

std::size_t CudaDevice::graph_bytes(void* graph) const noexcept {
    return static_cast<const CudaGraph*>(graph)->bytes();
}

std::int64_t CudaDevice::graph_nodes(void* graph) const noexcept {
    return static_cast<const CudaGraph*>(graph)->nodes();
}

std::shared_ptr<DeviceApi> make_cuda_device(int index, const DeviceCaps& caps) {
    if (const std::string reason = cublaslt_reason(); !reason.empty()) {
        throw Error(ErrorCode::kUnsupported,
                    "cannot use " + Device::cuda(index).name() + ": " + reason);
    }
    watch_exit();
    auto device = std::make_shared<CudaDevice>(index, caps);
    device->open();
    return device;
}

}  // namespace carousel::cuda
