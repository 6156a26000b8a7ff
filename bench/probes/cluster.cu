#include "bench/probes/probe.cuh"

// Exchange within a cluster: stores and bulk copies that complete on the receiver's mbarrier.

namespace carousel::bench::probes {

namespace {

constexpr unsigned kThreads = 256;

struct ExchangeArgs {
    Common common;
    unsigned bytes = 0;  ///< of one block's message, a multiple of 16
};

__device__ __forceinline__ uint4 filled(std::uint32_t v) { return {v, v, v, v}; }
__device__ __forceinline__ bool all_equal(uint4 v, std::uint32_t want) {
    return v.x == want && v.y == want && v.z == want && v.w == want;
}

/// One message goes round the cluster; each word counts the hops it made.
__global__ void __launch_bounds__(kThreads) ring_kernel(ExchangeArgs args) {
    CAROUSEL_DYNAMIC_SHARED(uint4, message);
    CAROUSEL_SHARED(std::uint64_t, arrived, 1);
    const unsigned rank = ptx::cluster_rank(), size = ptx::cluster_size();
    const unsigned next = (rank + 1) % size, words = args.bytes / 16;
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(arrived, 1);
        ptx::fence_mbarrier_init();
    }
    for (unsigned i = threadIdx.x; i < words; i += kThreads) message[i] = filled(0);
    __syncthreads();
    ptx::cluster_arrive();
    ptx::cluster_wait();
    const ptx::SharedAddress to = ptx::map_to_rank(ptx::shared_address(message), next);
    const ptx::SharedAddress barrier = ptx::map_to_rank(ptx::shared_address(arrived), next);
    const auto pass_on = [&] {
        for (unsigned i = threadIdx.x; i < words; i += kThreads) {
            ptx::store_async_16(to + 16 * i, filled(message[i].x + 1), barrier);
        }
    };
    Deadline deadline(args.common);
    bool fine = true;
    if (threadIdx.x == 0) ptx::mbarrier_arrive_expect(arrived, args.bytes);
    if (rank == 0) pass_on();
    // Only threads with a part of the message: one that lags behind by two rounds would take the parity
    // of a later one for its own.
    const std::uint32_t rounds = threadIdx.x < words ? args.common.iterations : 0;
    for (std::uint32_t round = 0; fine && round < rounds; ++round) {
        fine = deadline.wait(
            [&] { return ptx::mbarrier_try_wait<ptx::Scope::kCluster>(arrived, round & 1); });
        if (!fine) break;
        const std::uint32_t hops = round * size + (rank == 0 ? size : rank);
        for (unsigned i = threadIdx.x; i < words; i += kThreads) {
            if (!all_equal(message[i], hops)) deadline.fail(kWrongData);
        }
        const bool last = round + 1 == args.common.iterations;
        if (threadIdx.x == 0 && !last) ptx::mbarrier_arrive_expect(arrived, args.bytes);
        // Block 0 ends the last round; the others hand it on.
        if (!(last && rank == 0)) pass_on();
    }
    // No block leaves while another may still write to it.
    __syncwarp();  // the barrier wants whole warps, and waits end thread by thread
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

/// Each block's message to all others, in two buffers by parity; the next message is made of what
/// came from the neighbour.
template <bool kBulk>
__global__ void __launch_bounds__(kThreads) all_to_all_kernel(ExchangeArgs args) {
    CAROUSEL_DYNAMIC_SHARED(uint4,
                            buffers);  // [2][size][words], then the message to send [2][words]
    CAROUSEL_SHARED(std::uint64_t, arrived, 2);
    const unsigned rank = ptx::cluster_rank(), size = ptx::cluster_size();
    const unsigned words = args.bytes / 16, expected = args.bytes * (size - 1);
    uint4* outgoing = buffers + 2 * size * words;
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(&arrived[0], 1);
        ptx::mbarrier_init(&arrived[1], 1);
        ptx::fence_mbarrier_init();
    }
    for (unsigned i = threadIdx.x; i < 2 * size * words; i += kThreads) buffers[i] = filled(0);
    ptx::fence_proxy_async();  // the others' bulk copies write here next
    __syncthreads();
    ptx::cluster_arrive();
    ptx::cluster_wait();
    Deadline deadline(args.common);
    bool fine = true;
    // As in the ring; bulk copies are issued by the block as a whole.
    const std::uint32_t steps = kBulk || threadIdx.x < words ? args.common.iterations : 0;
    for (std::uint32_t step = 0; step < steps; ++step) {
        const unsigned parity = step & 1;
        uint4* incoming = buffers + parity * size * words;
        const uint4* before = buffers + (parity ^ 1) * size * words + ((rank + 1) % size) * words;
        if (threadIdx.x == 0) ptx::mbarrier_arrive_expect(&arrived[parity], expected);
        if (kBulk) {
            uint4* message = outgoing + parity * words;
            for (unsigned i = threadIdx.x; i < words; i += kThreads) {
                message[i] = filled(before[i].x + 1);
            }
            ptx::fence_proxy_async();
            // Either all threads go on or none: one alone would wait here for ever.
            if (__syncthreads_and(fine) == 0) break;
            const unsigned peer = threadIdx.x;
            if (peer < size && peer != rank) {
                ptx::bulk_push(ptx::map_to_rank(ptx::shared_address(incoming + rank * words), peer),
                               message, args.bytes,
                               ptx::map_to_rank(ptx::shared_address(&arrived[parity]), peer));
            }
        } else {
            for (unsigned i = threadIdx.x; i < words; i += kThreads) {
                const uint4 value = filled(before[i].x + 1);
                for (unsigned p = 1; p < size; ++p) {
                    const unsigned peer = (rank + p) % size;
                    ptx::store_async_16(
                        ptx::map_to_rank(ptx::shared_address(incoming + rank * words + i), peer),
                        value, ptx::map_to_rank(ptx::shared_address(&arrived[parity]), peer));
                }
            }
        }
        fine = deadline.wait([&] {
            return ptx::mbarrier_try_wait<ptx::Scope::kCluster>(&arrived[parity], (step >> 1) & 1);
        });
        if (!fine) {
            if (kBulk) continue;
            break;
        }
        const uint4* got = incoming + ((rank + 1) % size) * words;
        for (unsigned i = threadIdx.x; i < words; i += kThreads) {
            if (!all_equal(got[i], step + 1)) deadline.fail(kWrongData);
        }
    }
    __syncwarp();  // the barrier wants whole warps, and waits end thread by thread
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

}  // namespace

cuda::Launch cluster_exchange(const Common& common, Exchange exchange, unsigned cluster,
                              unsigned clusters, unsigned bytes) {
    const ExchangeArgs args{common, bytes};
    const cuda::Dim3 grid{cluster * clusters}, block{kThreads};
    const unsigned shared = exchange == Exchange::kRing ? bytes : (2 * cluster + 2) * bytes;
    cuda::Launch launch =
        exchange == Exchange::kRing
            ? cuda::make_launch("probe_ring", &ring_kernel, args, grid, block, shared)
        : exchange == Exchange::kAllToAll
            ? cuda::make_launch("probe_all_to_all", &all_to_all_kernel<false>, args, grid, block,
                                shared)
            : cuda::make_launch("probe_all_to_all_bulk", &all_to_all_kernel<true>, args, grid,
                                block, shared);
    launch.cluster = cluster;
    return launch;
}

}  // namespace carousel::bench::probes
