#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <mutex>
#include <string>

// Every CUDA call goes through a DeviceHealth: it turns error codes into sentences and remembers the
// first error after which the device's context is dead.

namespace carousel::cuda {

/// "out of memory (cudaErrorMemoryAllocation)".
std::string error_text(cudaError_t error);

/// True for errors after which every later call of the process on that device fails.
bool is_sticky(cudaError_t error) noexcept;

/// From the first call on, process_exiting() turns true before statics older than it are destroyed.
void watch_exit();

/// True when CUDA must not be called any more: it may have been taken down.
bool process_exiting() noexcept;

class DeviceHealth {
public:
    explicit DeviceHealth(int index) : index_(index) {}

    /// Throws DeviceLost if a sticky error was seen before.
    void require() const;
    /// Throws if `error` is one: DeviceLost if sticky, else Cuda. The sentence names `call` and, where
    /// there is one, the step or kernel it was for. Clears the runtime's last error.
    void check(cudaError_t error, const char* call, const char* step = nullptr);
    /// After a call that is not the runtime's failed: throws DeviceLost if the context is dead. Asks
    /// the driver, because a kernel's death is no error of this thread until a runtime call met it.
    /// Another last error is left for whoever it belongs to.
    void check_alive(const char* call, const char* step = nullptr);
    /// For destructors: remembers a sticky error, clears the last one.
    void note(cudaError_t error, const char* call) noexcept;
    bool lost() const noexcept { return lost_.load(std::memory_order_acquire); }

private:
    void remember(cudaError_t error, const char* call, const char* step);
    std::string device_name() const;

    int index_;
    std::atomic<bool> lost_ = false;
    mutable std::mutex mutex_;
    std::string first_;  ///< guarded by mutex_
};

/// Makes a device current and restores the caller's. Restoring one that has no context yet makes it:
/// CUDA has no call that sets a device and does not.
///
/// A thread that has called nothing yet has a current device, number 0, but no context. The runtime's
/// calls bind one; cuBLASLt, parts of which are on the driver, may be the first to be called, and need it.
class DeviceScope {
public:
    explicit DeviceScope(int index) noexcept;
    ~DeviceScope();
    DeviceScope(const DeviceScope&) = delete;
    DeviceScope& operator=(const DeviceScope&) = delete;

    cudaError_t error() const noexcept { return error_; }

private:
    int previous_ = -1;  ///< -1: nothing to restore
    cudaError_t error_ = cudaSuccess;
};

/// Lets this thread call what is refused while it records a graph: allocations, queries. Such calls
/// touch no queue that is recording.
class RelaxedCapture {
public:
    RelaxedCapture() noexcept;
    ~RelaxedCapture();
    RelaxedCapture(const RelaxedCapture&) = delete;
    RelaxedCapture& operator=(const RelaxedCapture&) = delete;

private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
    bool exchanged_ = false;
};

}  // namespace carousel::cuda
