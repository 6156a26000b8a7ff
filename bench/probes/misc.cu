#include "bench/probes/probe.cuh"

// An empty kernel, a chain of cells, and reads past L1.

namespace carousel::bench::probes {

namespace {

struct EmptyArgs {
    int unused = 0;
};
__global__ void empty_kernel(EmptyArgs) {}

struct PointwiseArgs {
    Common common;
    float* out = nullptr;
};

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0F, 1.0F + __expf(-x)); }
__device__ __forceinline__ float tanh_of(float x) { return 2.0F * sigmoid(2.0F * x) - 1.0F; }

__global__ void __launch_bounds__(32) pointwise_kernel(PointwiseArgs args) {
    float h = 0.01F * static_cast<float>(threadIdx.x), c = 0.5F;
    for (std::uint32_t step = 0; step < args.common.iterations; ++step) {
        const float i = sigmoid(h + 0.1F), f = sigmoid(h + 0.9F), o = sigmoid(h - 0.2F);
        c = f * c + i * tanh_of(h + 0.3F);
        h = o * tanh_of(c);
    }
    args.out[threadIdx.x] = h;
}

struct ReadArgs {
    Common common;
    const uint4* data = nullptr;
    std::size_t count = 0;  ///< of 16 bytes
    std::uint32_t* out = nullptr;
};

/// Four loads of a thread are under way at once: with 1,024 threads on a multiprocessor, more than
/// L2's latency times its bandwidth.
__global__ void __launch_bounds__(512) read_l2_kernel(ReadArgs args) {
    constexpr std::size_t kLoads = 4;
    std::uint32_t sum = 0;
    const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
    const std::size_t first = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (std::uint32_t i = 0; i < args.common.iterations; ++i) {
        for (std::size_t at = first; at < args.count; at += kLoads * stride) {
            uint4 v[kLoads] = {};
#pragma unroll
            for (std::size_t k = 0; k < kLoads; ++k) {
                if (at + k * stride < args.count) v[k] = __ldcg(args.data + at + k * stride);
            }
#pragma unroll
            for (std::size_t k = 0; k < kLoads; ++k) sum += v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
        }
    }
    if (sum == 0xFFFFFFFFU) args.out[0] = sum;
}

}  // namespace

cuda::Launch empty() {
    return cuda::make_launch("probe_empty", &empty_kernel, EmptyArgs{}, {1}, {32});
}

cuda::Launch pointwise(const Common& common, float* out) {
    return cuda::make_launch("probe_pointwise", &pointwise_kernel, PointwiseArgs{common, out}, {1},
                             {32});
}

cuda::Launch read_l2(const Common& common, const void* data, std::size_t bytes, unsigned blocks,
                     std::uint32_t* out) {
    const ReadArgs args{common, static_cast<const uint4*>(data), bytes / sizeof(uint4), out};
    return cuda::make_launch("probe_read_l2", &read_l2_kernel, args, {blocks}, {512});
}

}  // namespace carousel::bench::probes
