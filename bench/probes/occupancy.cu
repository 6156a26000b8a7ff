#include "bench/probes/probe.cuh"

// How many clusters of the largest blocks a card holds at once.

namespace carousel::bench::probes {

namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kSharedBytes = 227 * 1024;

struct BigArgs {
    Common common;
};

/// All of an SM: 256 threads of nearly all registers, 227 KiB of shared memory. The registers hold a chain
/// of values that the compiler cannot know.
__global__ void __launch_bounds__(kThreads, 1) big_kernel_body(BigArgs args) {
    CAROUSEL_DYNAMIC_SHARED(std::uint32_t, shared);
    std::uint32_t held[236];
#pragma unroll
    for (int i = 0; i < 236; ++i) held[i] = threadIdx.x * static_cast<unsigned>(i + 1);
    for (std::uint32_t step = 0; step < args.common.iterations; ++step) {
#pragma unroll
        for (int i = 0; i < 236; ++i) held[i] = held[i] * 3 + held[(i + 1) % 236];
    }
    std::uint32_t sum = 0;
#pragma unroll
    for (int i = 0; i < 236; ++i) sum ^= held[i];
    shared[threadIdx.x] = sum;
    __syncthreads();
    // Never true; keeps the values alive.
    if (shared[(threadIdx.x + 1) % kThreads] == 0x12345678U && args.common.iterations == 77) {
        ptx::store_relaxed<ptx::Scope::kDevice>(args.common.status, sum);
    }
}

}  // namespace

int clusters_that_fit(unsigned cluster) {
    const auto set = [](cudaFuncAttribute attribute, int value) {
        return cudaFuncSetAttribute(big_kernel_body, attribute, value);
    };
    cudaError_t error = set(cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
    if (error == cudaSuccess && cluster > 8) {
        error = set(cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    }
    int clusters = 0;
    if (error == cudaSuccess) {
        cudaLaunchAttribute attribute{};
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = cluster;
        attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
        cudaLaunchConfig_t config{};
        config.gridDim = {cluster * 128, 1, 1};
        config.blockDim = {kThreads, 1, 1};
        config.dynamicSmemBytes = kSharedBytes;
        config.attrs = &attribute;
        config.numAttrs = 1;
        error = cudaOccupancyMaxActiveClusters(&clusters, big_kernel_body, &config);
    }
    if (error == cudaSuccess) return clusters;
    cudaGetLastError();  // not for the next call to find
    return -static_cast<int>(error);
}

cuda::Launch big_kernel(const Common& common, unsigned cluster, unsigned blocks) {
    cuda::Launch launch = cuda::make_launch("probe_big", &big_kernel_body, BigArgs{common},
                                            {blocks}, {kThreads}, kSharedBytes);
    launch.cluster = cluster;
    return launch;
}

}  // namespace carousel::bench::probes
