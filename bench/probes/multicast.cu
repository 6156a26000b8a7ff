#include "bench/probes/probe.cuh"
#include "bench/probes/wgmma.cuh"

// What a large state costs each cluster of a grid kernel: a flag in L2, then one load for four blocks.

namespace carousel::bench::probes {

namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kCluster = 4;
constexpr unsigned kAnswer = 32;  // word of the answers' counter
constexpr auto kDevice = ptx::Scope::kDevice;

struct MulticastArgs {
    Common common;
    unsigned bytes = 0;
    bool split = false;
    const std::byte* data = nullptr;
    std::uint32_t* flags = nullptr;
};

/// Raises the flag and waits for the answers of all four.
__device__ void raise_flags(const MulticastArgs& args) {
    Deadline deadline(args.common);
    for (std::uint32_t epoch = 1; epoch <= args.common.iterations; ++epoch) {
        ptx::store_release<kDevice>(args.flags, epoch);
        if (!deadline.wait([&] {
                return ptx::load_acquire<kDevice>(args.flags + kAnswer) >= epoch * kCluster;
            })) {
            return;
        }
    }
}

/// The first cluster's first block raises flags, the second cluster answers.
__global__ void __launch_bounds__(kThreads) multicast_kernel(MulticastArgs args) {
    CAROUSEL_DYNAMIC_SHARED(std::byte, state);
    CAROUSEL_SHARED(std::uint64_t, arrived, 1);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(arrived, 1);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    ptx::cluster_arrive();
    ptx::cluster_wait();
    const unsigned rank = ptx::cluster_rank();
    if (blockIdx.x < kCluster) {
        if (rank == 0 && threadIdx.x == 0) raise_flags(args);
        return;
    }
    if (threadIdx.x == 0) {
        Deadline deadline(args.common);
        const unsigned part = args.split ? args.bytes / kCluster : args.bytes;
        const unsigned offset = args.split ? rank * part : 0;
        for (std::uint32_t epoch = 1; epoch <= args.common.iterations; ++epoch) {
            if (args.bytes > 0) ptx::mbarrier_arrive_expect(arrived, args.bytes);
            if (args.split || rank == 0 || args.bytes == 0) {
                if (!deadline.wait(
                        [&] { return ptx::load_acquire<kDevice>(args.flags) >= epoch; })) {
                    break;
                }
                if (args.bytes > 0) {
                    bulk_load_multicast(state + offset, args.data + offset, part, arrived, 0xF);
                }
            }
            if (args.bytes > 0 && !deadline.wait([&] {
                    return ptx::mbarrier_try_wait<ptx::Scope::kCluster>(arrived, (epoch - 1) & 1);
                })) {
                break;
            }
            ptx::add_release<kDevice>(args.flags + kAnswer, 1U);
        }
        // The data is ones.
        const auto* words = reinterpret_cast<const std::uint32_t*>(state);
        for (unsigned i = 0; i < args.bytes / 4; i += 997) {
            if (words[i] != 1) deadline.fail(kWrongData);
        }
    }
    __syncthreads();
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

}  // namespace

cuda::Launch multicast(const Common& common, bool split, unsigned bytes, const void* data,
                       std::uint32_t* flags) {
    const MulticastArgs args{common, bytes, split, static_cast<const std::byte*>(data), flags};
    cuda::Launch launch = cuda::make_launch("probe_multicast", &multicast_kernel, args,
                                            {2 * kCluster}, {kThreads}, bytes);
    launch.cluster = kCluster;
    return launch;
}

}  // namespace carousel::bench::probes
