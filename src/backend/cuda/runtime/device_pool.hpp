#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <mutex>
#include <vector>

#include "src/backend/cuda/runtime/cuda_check.hpp"

namespace carousel::cuda {

/// Memory of one device: a private stream-ordered pool that keeps what it once had, so that the
/// caller's own pool and its settings stay untouched.
///
/// Blocks come from and go back to a stream that carries nothing else. allocate() waits for that
/// stream, so a block is usable on any stream when it returns. release() makes the stream wait for
/// what the queues of the device have been given so far, so a block is not handed out again before
/// that is done, and the host does not wait.
///
/// The device must be current in every call. Threads may share it.
class DevicePool {
public:
    /// `pooled` false, or no pool to be had: cudaMalloc and cudaFree serve, and release() waits.
    DevicePool(DeviceHealth& health, int index, bool pooled);
    ~DevicePool();
    DevicePool(const DevicePool&) = delete;
    DevicePool& operator=(const DevicePool&) = delete;

    /// Errors: OutOfMemory: bytes asked, for what, bytes free.
    void* allocate(std::size_t bytes, const char* what);
    void release(void* memory) noexcept;

    /// Queues whose work release() orders itself after.
    void add_queue(cudaStream_t queue);
    /// Before the queue is destroyed: what it still has to do counts for later releases.
    void remove_queue(cudaStream_t queue) noexcept;

    /// While a capture is open on a queue, nothing may wait for that queue's events: releases are put
    /// off until the last capture has closed. Events are waited for under the same lock, because
    /// such a wait takes a queue into a capture.
    void capture_opened();
    void capture_closed() noexcept;
    std::mutex& mutex() noexcept { return mutex_; }

private:
    bool recording() noexcept;
    void free_after_queues(void* memory) noexcept;
    void free_deferred() noexcept;
    cudaError_t follow(cudaStream_t queue) noexcept;
    cudaError_t take(std::size_t bytes, void** memory) noexcept;
    void trim() noexcept;

    DeviceHealth& health_;
    int index_;
    bool pooled_;
    cudaMemPool_t pool_ = nullptr;
    cudaStream_t stream_ = nullptr;
    cudaEvent_t event_ = nullptr;
    std::mutex mutex_;  // guards what follows
    std::vector<cudaStream_t> queues_;
    std::vector<void*> deferred_;
    int captures_ = 0;
};

}  // namespace carousel::cuda
