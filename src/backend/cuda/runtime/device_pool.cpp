#include "src/backend/cuda/runtime/device_pool.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

#include "carousel/device.hpp"
#include "carousel/error.hpp"

namespace carousel::cuda {

DevicePool::DevicePool(DeviceHealth& health, int index, bool pooled)
    : health_(health), index_(index), pooled_(pooled) {
    if (!pooled_) return;
    try {
        health_.check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                      "cudaStreamCreateWithFlags");
        health_.check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming),
                      "cudaEventCreateWithFlags");
        cudaMemPoolProps properties{};
        properties.allocType = cudaMemAllocationTypePinned;
        properties.handleTypes = cudaMemHandleTypeNone;
        properties.location.type = cudaMemLocationTypeDevice;
        properties.location.id = index;
        const cudaError_t error = cudaMemPoolCreate(&pool_, &properties);
        if (error == cudaErrorNotSupported) {
            // Devices that are passed on to a sandbox may say that they have pools, and have none.
            cudaGetLastError();
            pooled_ = false;
            health_.note(cudaEventDestroy(event_), "cudaEventDestroy");
            health_.note(cudaStreamDestroy(stream_), "cudaStreamDestroy");
            return;
        }
        health_.check(error, "cudaMemPoolCreate");
        std::uint64_t keep_all = UINT64_MAX;
        health_.check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep_all),
                      "cudaMemPoolSetAttribute");
    } catch (...) {
        if (event_ != nullptr) cudaEventDestroy(event_);
        if (stream_ != nullptr) cudaStreamDestroy(stream_);
        if (pool_ != nullptr) cudaMemPoolDestroy(pool_);
        throw;
    }
}

DevicePool::~DevicePool() {
    if (process_exiting() || health_.lost()) return;
    for (void* memory : deferred_) free_after_queues(memory);
    if (!pooled_) return;
    health_.note(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    health_.note(cudaEventDestroy(event_), "cudaEventDestroy");
    health_.note(cudaStreamDestroy(stream_), "cudaStreamDestroy");
    health_.note(cudaMemPoolDestroy(pool_), "cudaMemPoolDestroy");
}

cudaError_t DevicePool::take(std::size_t bytes, void** memory) noexcept {
    return pooled_ ? cudaMallocFromPoolAsync(memory, bytes, pool_, stream_)
                   : cudaMalloc(memory, bytes);
}

// Gives unused memory back to the driver, ours and that of graphs.
void DevicePool::trim() noexcept {
    if (pooled_) {
        health_.note(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
        health_.note(cudaMemPoolTrimTo(pool_, 0), "cudaMemPoolTrimTo");
    }
    health_.note(cudaDeviceGraphMemTrim(index_), "cudaDeviceGraphMemTrim");
}

void* DevicePool::allocate(std::size_t bytes, const char* what) {
    const RelaxedCapture relaxed;
    void* memory = nullptr;
    cudaError_t error = cudaSuccess;
    {
        const std::lock_guard lock(mutex_);
        free_deferred();
        const std::size_t asked = std::max<std::size_t>(bytes, 1);
        error = take(asked, &memory);
        if (error == cudaErrorMemoryAllocation) {
            cudaGetLastError();
            trim();
            error = take(asked, &memory);
        }
    }
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        std::size_t free_bytes = 0, total_bytes = 0;
        health_.check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
        throw Error(ErrorCode::kOutOfMemory,
                    "out of memory on " + Device::cuda(index_).name() + ": " +
                        std::to_string(bytes) + " bytes needed for " + what + ", " +
                        std::to_string(free_bytes) + " of " + std::to_string(total_bytes) +
                        " free; use smaller layers, a smaller batch or shorter sequences");
    }
    health_.check(error, pooled_ ? "cudaMallocFromPoolAsync" : "cudaMalloc", what);
    if (pooled_) health_.check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize", what);
    return memory;
}

// True while any queue is recording: by our own begin_capture, or because the caller records a stream
// that one of ours was joined to.
bool DevicePool::recording() noexcept {
    if (captures_ > 0) return true;
    for (cudaStream_t queue : queues_) {
        cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
        if (cudaStreamIsCapturing(queue, &status) != cudaSuccess) {
            cudaGetLastError();
            return true;
        }
        if (status != cudaStreamCaptureStatusNone) return true;
    }
    return false;
}

// One event serves all queues: a wait takes the event's latest record at the time of the call.
cudaError_t DevicePool::follow(cudaStream_t queue) noexcept {
    const cudaError_t error = cudaEventRecord(event_, queue);
    return error == cudaSuccess ? cudaStreamWaitEvent(stream_, event_, 0) : error;
}

void DevicePool::free_after_queues(void* memory) noexcept {
    if (!pooled_) {
        health_.note(cudaFree(memory), "cudaFree");
        return;
    }
    for (cudaStream_t queue : queues_) {
        const cudaError_t error = follow(queue);
        if (error == cudaSuccess) continue;
        // Unordered memory must not be handed out again: better lost than shared.
        health_.note(error, "ordering a release");
        return;
    }
    health_.note(cudaFreeAsync(memory, stream_), "cudaFreeAsync");
}

void DevicePool::free_deferred() noexcept {
    if (deferred_.empty() || recording()) return;
    for (void* memory : deferred_) free_after_queues(memory);
    deferred_.clear();
}

void DevicePool::release(void* memory) noexcept {
    if (memory == nullptr || process_exiting() || health_.lost()) return;
    const RelaxedCapture relaxed;
    const std::lock_guard lock(mutex_);
    if (!recording()) {
        free_after_queues(memory);
        return;
    }
    try {
        deferred_.push_back(memory);
    } catch (...) {  // NOLINT(bugprone-empty-catch)
        // No host memory to remember it by: the block is lost.
    }
}

void DevicePool::add_queue(cudaStream_t queue) {
    const std::lock_guard lock(mutex_);
    queues_.push_back(queue);
}

void DevicePool::remove_queue(cudaStream_t queue) noexcept {
    const RelaxedCapture relaxed;
    const std::lock_guard lock(mutex_);
    queues_.erase(std::remove(queues_.begin(), queues_.end(), queue), queues_.end());
    if (!pooled_ || process_exiting() || health_.lost()) return;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    health_.note(cudaStreamIsCapturing(queue, &status), "cudaStreamIsCapturing");
    if (status == cudaStreamCaptureStatusNone) {
        health_.note(follow(queue), "ordering releases after a queue");
    }
}

void DevicePool::capture_opened() {
    const std::lock_guard lock(mutex_);
    ++captures_;
}

void DevicePool::capture_closed() noexcept {
    const RelaxedCapture relaxed;
    const std::lock_guard lock(mutex_);
    --captures_;
    free_deferred();
}

}  // namespace carousel::cuda
