#include "src/backend/cuda/runtime/cuda_probe.hpp"

#include <cuda_runtime_api.h>

#include "src/backend/cuda/runtime/cublaslt.hpp"
#include "src/backend/cuda/runtime/cuda_check.hpp"

namespace carousel::cuda {

namespace {

// device_query.cpp knows these by number.
static_assert(cudaErrorInsufficientDriver == 35 && cudaErrorNoDevice == 100);

// What a plan needs at least beside its own buffers: cuBLASLt's workspace of one queue, the code of the
// kernels and the driver's own tables.
constexpr std::size_t kMinFreeBytes = std::size_t{64} << 20;

DeviceCaps caps_of(const cudaDeviceProp& properties, int driver_version) {
    DeviceCaps caps;
    caps.name = properties.name;
    caps.compute_major = properties.major;
    caps.compute_minor = properties.minor;
    caps.num_sms = properties.multiProcessorCount;
    caps.shared_bytes_per_sm = properties.sharedMemPerMultiprocessor;
    caps.shared_bytes_per_block = properties.sharedMemPerBlockOptin;
    caps.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
    caps.memory_bytes = properties.totalGlobalMem;
    caps.cooperative_launch = properties.cooperativeLaunch != 0;
    caps.memory_pools = properties.memoryPoolsSupported != 0;
    caps.driver_version = driver_version;
    caps.runtime_version = CUDART_VERSION;
    return caps;
}

}  // namespace

CudaAnswer probe_devices() {
    CudaAnswer answer;
    answer.compiled = true;
    answer.runtime_version = CUDART_VERSION;
    if (cudaDriverGetVersion(&answer.driver_version) != cudaSuccess) answer.driver_version = 0;
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    for (int index = 0; error == cudaSuccess && index < count; ++index) {
        cudaDeviceProp properties{};
        error = cudaGetDeviceProperties(&properties, index);
        if (error != cudaSuccess) break;
        answer.devices.push_back(caps_of(properties, answer.driver_version));
    }
    answer.error = error;
    if (error != cudaSuccess) {
        answer.error_text = error_text(error);
        answer.devices.clear();
    }
    // A failed query leaves its code as the runtime's last error; the caller's next check must not
    // find it.
    cudaGetLastError();
    return answer;
}

std::string probe_use(int index) {
    if (std::string reason = cublaslt_reason(); !reason.empty()) return reason;
    const DeviceScope scope(index);
    // A thread that records a graph of its own may ask this.
    const RelaxedCapture relaxed;
    std::size_t free_bytes = 0, total_bytes = 0;
    cudaError_t error = scope.error();
    if (error == cudaSuccess) error = cudaMemGetInfo(&free_bytes, &total_bytes);
    cudaGetLastError();
    if (error == cudaErrorMemoryAllocation ||
        (error == cudaSuccess && free_bytes < kMinFreeBytes)) {
        return "its memory is taken: " + std::to_string(free_bytes) +
               " bytes are free, and plans need at least " + std::to_string(kMinFreeBytes) +
               "; end what uses it (nvidia-smi lists that), or use the CPU";
    }
    if (error != cudaSuccess) return "the CUDA runtime cannot use it: " + error_text(error);
    return "";
}

}  // namespace carousel::cuda
