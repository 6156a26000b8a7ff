#include "bench/probes/probe.cuh"

// From block to block through L2. In every iteration each block writes its part of the shared vector
// and reads the whole, as a recurrent step over the whole card does; two buffers by parity. A block
// that writes iteration e + 2 has read all of e + 1, whose writers had read all of e: nothing is
// overwritten that is still wanted.

namespace carousel::bench::probes {

namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kFlagStride = 32;  // words: a line of L2 for each flag
constexpr unsigned kShards = 4;
constexpr auto kDevice = ptx::Scope::kDevice;

struct HopArgs {
    Common common;
    unsigned words = 0;  ///< of 16 bytes, all blocks together; a multiple of the blocks
    uint4* data = nullptr;
    std::uint32_t* flags = nullptr;
};

__device__ __forceinline__ uint4 filled(std::uint32_t v) { return {v, v, v, v}; }
__device__ __forceinline__ bool all_equal(uint4 v, std::uint32_t want) {
    return v.x == want && v.y == want && v.z == want && v.w == want;
}

/// Whether the thread's words of a vector all hold `want`. Their loads are under way together, eight
/// at a time: one after the other, a long vector would cost its latency several times.
template <class Load>
__device__ __forceinline__ bool own_words_equal(unsigned words, std::uint32_t want, Load load) {
    constexpr unsigned kLoads = 8;
    bool equal = true;
    for (unsigned first = threadIdx.x; first < words; first += kLoads * kThreads) {
        uint4 got[kLoads];
#pragma unroll
        for (unsigned k = 0; k < kLoads; ++k) {
            got[k] = filled(want);
            if (first + k * kThreads < words) got[k] = load(first + k * kThreads);
        }
#pragma unroll
        for (unsigned k = 0; k < kLoads; ++k) equal = all_equal(got[k], want) && equal;
    }
    return equal;
}

/// Every value is the iteration's number, so each tells by itself whether it is new.
__global__ void __launch_bounds__(kThreads) self_validating_kernel(HopArgs args) {
    const unsigned part = args.words / gridDim.x;
    Deadline deadline(args.common);
    bool fine = true;
    for (std::uint32_t epoch = 1; fine && epoch <= args.common.iterations; ++epoch) {
        uint4* buffer = args.data + (epoch & 1) * args.words;
        for (unsigned i = threadIdx.x; i < part; i += kThreads) {
            ptx::store_relaxed_16(buffer + blockIdx.x * part + i, filled(epoch));
        }
        fine = deadline.wait([&] {
            return own_words_equal(args.words, epoch,
                                   [&](unsigned i) { return ptx::load_relaxed_16(buffer + i); });
        });
        fine = __syncthreads_and(fine) != 0;
    }
}

/// `kFlags`: one flag per writer; else a few counters that all writers add to.
template <bool kFlags>
__global__ void __launch_bounds__(kThreads) signalled_kernel(HopArgs args) {
    const unsigned part = args.words / gridDim.x;
    Deadline deadline(args.common);
    bool fine = true;
    for (std::uint32_t epoch = 1; fine && epoch <= args.common.iterations; ++epoch) {
        uint4* buffer = args.data + (epoch & 1) * args.words;
        for (unsigned i = threadIdx.x; i < part; i += kThreads) {
            __stcg(buffer + blockIdx.x * part + i, filled(epoch));
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            if (kFlags) {
                ptx::store_release<kDevice>(args.flags + blockIdx.x * kFlagStride, epoch);
            } else {
                ptx::add_release<kDevice>(args.flags + (blockIdx.x % kShards) * kFlagStride, 1U);
            }
        }
        const unsigned watched = kFlags ? gridDim.x : kShards;
        if (threadIdx.x < watched) {
            const unsigned writers = (gridDim.x + kShards - 1 - threadIdx.x) / kShards;
            const std::uint32_t want = kFlags ? epoch : epoch * writers;
            fine = deadline.wait([&] {
                return ptx::load_acquire<kDevice>(args.flags + threadIdx.x * kFlagStride) >= want;
            });
        }
        fine = __syncthreads_and(fine) != 0;
        if (!own_words_equal(args.words, epoch, [&](unsigned i) { return __ldcg(buffer + i); }) &&
            fine) {
            deadline.fail(kWrongData);
        }
    }
}

struct BarrierArgs {
    Common common;
    std::uint32_t* counter = nullptr;
};

__global__ void __launch_bounds__(kThreads) grid_barrier_kernel(BarrierArgs args) {
    Deadline deadline(args.common);
    bool fine = true;
    for (std::uint32_t round = 1; fine && round <= args.common.iterations; ++round) {
        __syncthreads();
        if (threadIdx.x == 0) {
            ptx::add_release<kDevice>(args.counter, 1U);
            fine = deadline.wait(
                [&] { return ptx::load_acquire<kDevice>(args.counter) >= round * gridDim.x; });
        }
        fine = __syncthreads_and(fine) != 0;
    }
}

}  // namespace

cuda::Launch l2_hop(const Common& common, Hop hop, unsigned blocks, unsigned bytes, void* data,
                    std::uint32_t* flags) {
    const HopArgs args{common, bytes / 16, static_cast<uint4*>(data), flags};
    const cuda::Dim3 grid{blocks}, block{kThreads};
    cuda::Launch launch =
        hop == Hop::kSelfValidating
            ? cuda::make_launch("probe_self_validating", &self_validating_kernel, args, grid, block)
        : hop == Hop::kReleaseFlag
            ? cuda::make_launch("probe_release_flag", &signalled_kernel<true>, args, grid, block)
            : cuda::make_launch("probe_counter", &signalled_kernel<false>, args, grid, block);
    launch.cooperative = true;
    return launch;
}

cuda::Launch grid_barrier(const Common& common, unsigned blocks, std::uint32_t* counter) {
    cuda::Launch launch = cuda::make_launch("probe_grid_barrier", &grid_barrier_kernel,
                                            BarrierArgs{common, counter}, {blocks}, {kThreads});
    launch.cooperative = true;
    return launch;
}

}  // namespace carousel::bench::probes
