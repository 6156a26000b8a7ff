#include "src/backend/cuda/runtime/cuda_check.hpp"

#include "carousel/device.hpp"
#include "carousel/error.hpp"

namespace carousel::cuda {

namespace {

std::atomic<bool> exiting = false;

/// The device whose context a DeviceScope bound to this thread last.
thread_local int bound_device = -1;

cudaError_t bind(int index) noexcept {
    const cudaError_t error = cudaSetDevice(index);
    if (error == cudaSuccess) bound_device = index;
    return error;
}

// Destroyed at exit or dlclose. The flag itself has no destructor and can be read after.
struct ExitNotice {
    ~ExitNotice() { exiting.store(true, std::memory_order_release); }
};

}  // namespace

void watch_exit() { static const ExitNotice notice; }

bool process_exiting() noexcept { return exiting.load(std::memory_order_acquire); }

std::string error_text(cudaError_t error) {
    return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

bool is_sticky(cudaError_t error) noexcept {
    switch (error) {
        case cudaErrorCudartUnloading:
        case cudaErrorECCUncorrectable:
        case cudaErrorNvlinkUncorrectable:
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchTimeout:
        case cudaErrorContextIsDestroyed:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorLaunchFailure:
        case cudaErrorMpsClientTerminated:
        case cudaErrorExternalDevice:
        case cudaErrorUnknown:
#if CUDART_VERSION >= 13000
        case cudaErrorTensorMemoryLeak:
        case cudaErrorContained:
#endif
            return true;
        default:
            return false;
    }
}

std::string DeviceHealth::device_name() const { return Device::cuda(index_).name(); }

void DeviceHealth::require() const {
    if (!lost()) return;
    const std::lock_guard lock(mutex_);
    throw Error(ErrorCode::kDeviceLost, device_name() + " was lost: " + first_ +
                                            "; nothing can run on it until the process restarts");
}

void DeviceHealth::remember(cudaError_t error, const char* call, const char* step) {
    const std::lock_guard lock(mutex_);
    if (first_.empty()) {
        first_ = error_text(error) + " was first seen at " + call;
        if (step != nullptr) first_ += std::string(" of ") + step;
    }
    lost_.store(true, std::memory_order_release);
}

void DeviceHealth::check(cudaError_t error, const char* call, const char* step) {
    if (error == cudaSuccess) return;
    cudaGetLastError();
    if (is_sticky(error)) {
        remember(error, call, step);
        require();
    }
    std::string sentence = std::string(call) + " failed on " + device_name();
    if (step != nullptr) sentence += std::string(" for ") + step;
    throw Error(ErrorCode::kCuda, sentence + ": " + error_text(error));
}

void DeviceHealth::check_alive(const char* call, const char* step) {
    cudaError_t error = cudaPeekAtLastError();
    if (!is_sticky(error)) {
        // "may also return error codes from previous, asynchronous launches" (CUDA Runtime API,
        // cudaMemGetInfo), and touches no stream that may be recording.
        const RelaxedCapture relaxed;
        std::size_t free_bytes = 0, total_bytes = 0;
        const cudaError_t found = cudaMemGetInfo(&free_bytes, &total_bytes);
        if (found == cudaSuccess) return;
        if (!is_sticky(found)) {
            cudaGetLastError();
            return;
        }
        error = found;
    }
    check(error, call, step);
}

void DeviceHealth::note(cudaError_t error, const char* call) noexcept {
    if (error == cudaSuccess) return;
    cudaGetLastError();
    if (!is_sticky(error)) return;
    try {
        remember(error, call, nullptr);
    } catch (...) {
        lost_.store(true, std::memory_order_release);
    }
}

DeviceScope::DeviceScope(int index) noexcept {
    int current = -1;
    error_ = cudaGetDevice(&current);
    if (error_ != cudaSuccess || (current == index && bound_device == index)) return;
    error_ = bind(index);
    if (error_ == cudaSuccess && current != index) previous_ = current;
}

DeviceScope::~DeviceScope() {
    if (previous_ >= 0 && bind(previous_) != cudaSuccess) cudaGetLastError();
}

RelaxedCapture::RelaxedCapture() noexcept {
    exchanged_ = cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess;
    if (!exchanged_) cudaGetLastError();
}

// The first exchange left the thread's own mode in mode_; the second puts it back.
RelaxedCapture::~RelaxedCapture() {
    if (exchanged_ && cudaThreadExchangeStreamCaptureMode(&mode_) != cudaSuccess) {
        cudaGetLastError();
    }
}

}  // namespace carousel::cuda
