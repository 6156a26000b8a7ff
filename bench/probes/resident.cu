#include "bench/probes/probe.cuh"
#include "bench/probes/wgmma.cuh"

// Products of one recurrent step with the weights in registers: 192 KiB of bf16 per SM, 8 warps of 192
// registers each. N columns of the state lie in shared memory; each step's sums become the next step's
// state, so that no step can begin before the last has ended.

namespace carousel::bench::probes {

namespace {

constexpr unsigned kThreads = 256;

struct ResidentArgs {
    Common common;
    const std::uint32_t* weights = nullptr;  ///< kResidentBytes
    float* out = nullptr;                    ///< a value per thread
};

__device__ __forceinline__ std::uint32_t packed(float a, float b) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const std::uint32_t*>(&both);
}

/// A warp holds 32 rows by K = 384; the block 256 rows.
template <int kN>
__global__ void __launch_bounds__(kThreads, 1) mma_kernel(ResidentArgs args) {
    constexpr int kSlices = 24;                 // of 16 along K
    constexpr int kPitch = kSlices * 16 + 8;    // elements; odd in units of 16 bytes: no conflicts
    constexpr int kColumns = kN < 16 ? 8 : 16;  // summed at a time
    constexpr int kTiles = kColumns / 8;
    CAROUSEL_DYNAMIC_SHARED(__nv_bfloat16, state);  // [2][kN][kPitch]
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    std::uint32_t a[2][kSlices][4];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
#pragma unroll
        for (int k = 0; k < kSlices; ++k) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                a[row][k][i] = args.weights[((warp * 2 + row) * kSlices + k) * 128 + i * 32 + lane];
            }
        }
    }
    for (unsigned i = threadIdx.x; i < 2 * kN * kPitch; i += kThreads) {
        state[i] = __float2bfloat16_rn(0.5F);
    }
    __syncthreads();
    for (std::uint32_t step = 0; step < args.common.iterations; ++step) {
        const __nv_bfloat16* h = state + (step & 1) * kN * kPitch;
        __nv_bfloat16* next = state + ((step & 1) ^ 1) * kN * kPitch;
        for (int column = 0; column < kN; column += kColumns) {
            float d[2][kTiles][4] = {};
#pragma unroll
            for (int k = 0; k < kSlices; ++k) {
#pragma unroll
                for (int tile = 0; tile < kTiles; ++tile) {
                    std::uint32_t b[2];
                    ptx::load_matrix_x2(b, h + (column + tile * 8 + lane % 8) * kPitch + k * 16 +
                                               (lane / 8 % 2) * 8);
                    ptx::mma_bf16(d[0][tile], a[0][k], b);
                    ptx::mma_bf16(d[1][tile], a[1][k], b);
                }
            }
            // Rows of this warp are 32 of the next state's 256 (of 384) elements.
#pragma unroll
            for (int row = 0; row < 2; ++row) {
#pragma unroll
                for (int tile = 0; tile < kTiles; ++tile) {
                    const int n = column + tile * 8 + static_cast<int>(lane % 4) * 2;
                    const int j =
                        static_cast<int>(warp) * 32 + row * 16 + static_cast<int>(lane / 4);
                    next[n * kPitch + j] = __float2bfloat16_rn(d[row][tile][0]);
                    next[(n + 1) * kPitch + j] = __float2bfloat16_rn(d[row][tile][1]);
                    next[n * kPitch + j + 8] = __float2bfloat16_rn(d[row][tile][2]);
                    next[(n + 1) * kPitch + j + 8] = __float2bfloat16_rn(d[row][tile][3]);
                }
            }
        }
        __syncthreads();
    }
    args.out[blockIdx.x * kThreads + threadIdx.x] = __bfloat162float(state[threadIdx.x]);
}

/// A warpgroup holds 64 rows by K = 768; the block 128 rows.
template <int kN>
__global__ void __launch_bounds__(kThreads, 1) wgmma_kernel(ResidentArgs args) {
    constexpr int kSlices = 48;
    constexpr unsigned kCore = 128;  // bytes of a core matrix: 8 columns by 8 of K
    constexpr unsigned kAlongK = kN / 8 * kCore;
    CAROUSEL_DYNAMIC_SHARED(std::byte, state);  // [2][96 along K][kN / 8] core matrices
    constexpr unsigned kStateBytes = 2 * kSlices * kAlongK;
    const unsigned group = threadIdx.x / 128, member = threadIdx.x % 128;
    std::uint32_t a[kSlices][4];
#pragma unroll
    for (int k = 0; k < kSlices; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            a[k][i] = args.weights[(group * kSlices + k) * 512 + i * 128 + member];
        }
    }
    auto* words = reinterpret_cast<std::uint32_t*>(state);
    for (unsigned i = threadIdx.x; i < 2 * kStateBytes / 4; i += kThreads) {
        words[i] = packed(0.5F, 0.5F);
    }
    ptx::fence_proxy_async();
    __syncthreads();
    float last = 0.0F;
    for (std::uint32_t step = 0; step < args.common.iterations; ++step) {
        const std::byte* h = state + (step & 1) * kStateBytes;
        std::byte* next = state + ((step & 1) ^ 1) * kStateBytes;
        float d[kN / 2] = {};
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kSlices; ++k) {
            wgmma(d, a[k], wgmma_descriptor(h + 2 * k * kAlongK, kAlongK, kCore));
        }
        wgmma_commit();
        wgmma_wait();
        // Two neighbours of a row go out together; where they land does not matter here.
#pragma unroll
        for (int i = 0; i < kN / 2; i += 2) {
            const unsigned at = (threadIdx.x * (kN / 4) + i / 2) * 4;
            *reinterpret_cast<std::uint32_t*>(next + at) = packed(d[i], d[i + 1]);
        }
        last = d[0];
        ptx::fence_proxy_async();
        __syncthreads();
    }
    args.out[blockIdx.x * kThreads + threadIdx.x] = last;
}

template <int kN>
cuda::Launch mma(const ResidentArgs& args, unsigned blocks) {
    return cuda::make_launch("probe_mma_resident", &mma_kernel<kN>, args, {blocks}, {kThreads},
                             2 * kN * (24 * 16 + 8) * 2);
}
template <int kN>
cuda::Launch group_mma(const ResidentArgs& args, unsigned blocks) {
    return cuda::make_launch("probe_wgmma_resident", &wgmma_kernel<kN>, args, {blocks}, {kThreads},
                             2 * 2 * 48 * (kN / 8) * 128);
}

}  // namespace

cuda::Launch mma_resident(const Common& common, unsigned n, unsigned blocks, const void* weights,
                          float* out) {
    const ResidentArgs args{common, static_cast<const std::uint32_t*>(weights), out};
    return n == 8 ? mma<8>(args, blocks) : n == 16 ? mma<16>(args, blocks) : mma<32>(args, blocks);
}

cuda::Launch wgmma_resident(const Common& common, unsigned n, unsigned blocks, const void* weights,
                            float* out) {
    const ResidentArgs args{common, static_cast<const std::uint32_t*>(weights), out};
    return n == 8    ? group_mma<8>(args, blocks)
           : n == 16 ? group_mma<16>(args, blocks)
           : n == 32 ? group_mma<32>(args, blocks)
                     : group_mma<64>(args, blocks);
}

}  // namespace carousel::bench::probes
