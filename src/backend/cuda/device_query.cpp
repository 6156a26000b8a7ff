#include "src/backend/cuda/device_query.hpp"

#if CAROUSEL_HAS_CUDA
#include "src/backend/cuda/runtime/cuda_probe.hpp"
#endif

namespace carousel {

namespace {

// Numbers of cudaError_t; cuda_probe.cpp asserts them.
constexpr int kInsufficientDriver = 35;
constexpr int kNoDevice = 100;

#if CAROUSEL_HAS_CUDA
const CudaAnswer& answer() {
    static const CudaAnswer asked = cuda::probe_devices();
    return asked;
}
std::string use_reason(int index) { return cuda::probe_use(index); }
#else
CudaAnswer answer() { return {}; }
std::string use_reason(int) { return ""; }
#endif

}  // namespace

CudaStatus status_of(const CudaAnswer& answer) {
    CudaStatus status;
    status.compiled = answer.compiled;
    if (!answer.compiled) {
        status.reason =
            "this build has no CUDA part; use the CPU, or configure with CAROUSEL_CUDA=ON";
        return status;
    }
    // "No driver" and "driver older than the runtime" are the same error; the driver's version, 0
    // when there is none, tells them apart.
    if (answer.error == kInsufficientDriver) {
        status.reason = cuda::driver_reason(answer.driver_version, answer.runtime_version);
        if (status.reason.empty()) {
            status.reason = "the NVIDIA driver is too old for this build's CUDA runtime; update it";
        }
    } else if (answer.error == kNoDevice || (answer.error == 0 && answer.devices.empty())) {
        status.reason =
            "the NVIDIA driver shows no GPU to this process; check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES";
    } else if (answer.error != 0) {
        status.reason = "the CUDA runtime failed to list its devices: " + answer.error_text;
    } else {
        status.device_count = static_cast<int>(answer.devices.size());
        status.devices = answer.devices;
        for (const cuda::DeviceCaps& caps : answer.devices) {
            const std::string reason = cuda::unusable_reason(caps);
            if (reason.empty()) {
                status.reason.clear();
                break;
            }
            if (status.reason.empty()) status.reason = reason;
        }
    }
    return status;
}

CudaStatus cuda_status() { return status_of(answer()); }

std::string cuda_unusable_reason(int index) {
    const CudaStatus status = cuda_status();
    if (status.device_count == 0) return status.reason;
    if (index < 0 || index >= status.device_count) {
        return "there are " + std::to_string(status.device_count) + " CUDA devices, counted from 0";
    }
    const std::string reason =
        cuda::unusable_reason(status.devices[static_cast<std::size_t>(index)]);
    return reason.empty() ? use_reason(index) : reason;
}

}  // namespace carousel
