#include "src/backend/cuda/device_query.hpp"

#if CAROUSEL_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

namespace carousel {

#if CAROUSEL_HAS_CUDA

namespace {

std::string version_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// "No driver" and "driver older than the runtime" are both cudaErrorInsufficientDriver (35); the
// driver's version, 0 when there is none, tells them apart.
std::string insufficient_driver_reason() {
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        return "no NVIDIA driver is loaded on this machine, and this release runs no plan on a GPU "
               "yet; use the CPU";
    }
    return "the NVIDIA driver supports CUDA " + version_text(driver) +
           ", but Carousel was built with CUDA " + version_text(CUDART_VERSION) +
           "; update the driver, or rebuild with an older CUDA toolkit";
}

}  // namespace

CudaStatus cuda_status() {
    CudaStatus status;
    status.compiled = true;
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver) {
        status.reason = insufficient_driver_reason();
    } else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
        status.reason =
            "the NVIDIA driver shows no GPU to this process; check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES";
    } else if (error != cudaSuccess) {
        status.reason = std::string("the CUDA runtime failed to list its devices: ") +
                        cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
    } else {
        status.device_count = count;
        status.reason =
            "this release compiles the cells for CUDA but does not run plans there yet; "
            "use the CPU";
    }
    // A failed query leaves its code as the runtime's last error; the caller's next check must not
    // find it.
    cudaGetLastError();
    return status;
}

#else

CudaStatus cuda_status() {
    CudaStatus status;
    status.reason =
        "this build has no CUDA part, and this release runs no plan on a GPU yet; use the CPU";
    return status;
}

#endif

}  // namespace carousel
