// One small kernel per family of wrappers; see conformance.hpp. Words in, words out: thread i of the
// launch owns out[i], out[i + threads], ...

#include "kernels/cuda/conformance.hpp"

#include "kernels/cuda/kernel_table.hpp"
#include "kernels/cuda/ptx.cuh"

namespace carousel::CAROUSEL_KERNELS {

using namespace cuda;

namespace {

constexpr unsigned kAllLanes = 0xFFFFFFFFU;
constexpr unsigned kBlock = 64;

/// Strong loads, stores and updates of one thread each; every result is the value of the input.
__global__ void strong_access_kernel(ConformanceArgs args) {
    using ptx::Scope;
    const unsigned i = threadIdx.x;
    std::uint32_t* out = args.out + i;
    ptx::store_relaxed<Scope::kDevice>(out, ptx::load_relaxed<Scope::kDevice>(args.in + i));
    ptx::store_release<Scope::kDevice>(out + kBlock,
                                       ptx::load_acquire<Scope::kDevice>(args.in + i));
    ptx::store_relaxed<Scope::kSystem>(out + 2 * kBlock,
                                       ptx::load_acquire<Scope::kBlock>(args.in + i));
    std::uint32_t* sum = out + 3 * kBlock;
    ptx::store_relaxed<Scope::kBlock>(sum, 0U);
    const std::uint32_t first = ptx::add_relaxed<Scope::kDevice>(sum, args.in[i]);
    const std::uint32_t second = ptx::add_release<Scope::kDevice>(sum, 5);
    const std::uint32_t third = ptx::add_acq_rel<Scope::kSystem>(sum, 7);
    out[4 * kBlock] = first;
    out[5 * kBlock] = second;
    out[6 * kBlock] = third;
    if (i < kBlock / 4) {
        auto* quads = reinterpret_cast<uint4*>(args.out + 7 * kBlock);
        ptx::store_relaxed_16(quads + i,
                              ptx::load_relaxed_16(reinterpret_cast<const uint4*>(args.in) + i));
    }
    if (i < kBlock / 2) {
        auto* pairs = reinterpret_cast<std::uint64_t*>(args.out + 8 * kBlock);
        ptx::store_release<Scope::kDevice>(
            pairs + i,
            ptx::load_acquire<Scope::kDevice>(reinterpret_cast<const std::uint64_t*>(args.in) + i));
    }
}

/// A sum over all blocks that each of them waits for: fences around relaxed accesses. The last two
/// words of `out` are the sum and the count of blocks that have come; they start at zero.
__global__ void grid_sum_kernel(ConformanceArgs args) {
    using ptx::Scope;
    std::uint32_t* total = args.out + gridDim.x;
    std::uint32_t* arrived = total + 1;
    if (threadIdx.x == 0) {
        ptx::add_relaxed<Scope::kDevice>(total, args.in[blockIdx.x]);
        ptx::fence_acq_rel<Scope::kDevice>();
        ptx::add_relaxed<Scope::kDevice>(arrived, 1);
        while (ptx::load_relaxed<Scope::kDevice>(arrived) < gridDim.x) {
        }
        ptx::fence_acq_rel<Scope::kDevice>();
        args.out[blockIdx.x] = ptx::load_relaxed<Scope::kDevice>(total);
    }
}

__global__ void shuffle_kernel(ConformanceArgs args) {
    const unsigned lane = threadIdx.x;
    const std::uint32_t value = args.in[lane];
    std::uint32_t* out = args.out + lane;
    const auto by = static_cast<int>(args.in[32 + lane] % 32);
    out[0] = __shfl_sync(kAllLanes, value, by);
    out[32] = __shfl_sync(kAllLanes, value, by, 8);
    out[64] = __shfl_up_sync(kAllLanes, value, 5);
    out[96] = __shfl_up_sync(kAllLanes, value, 3, 8);
    out[128] = __shfl_down_sync(kAllLanes, value, 5);
    out[160] = __shfl_down_sync(kAllLanes, value, 3, 8);
    out[192] = __shfl_xor_sync(kAllLanes, value, 21);
    out[224] = __shfl_xor_sync(kAllLanes, value, 3, 4);
    out[256] = __ballot_sync(kAllLanes, static_cast<int>(value & 1U));
    out[288] = static_cast<std::uint32_t>(__any_sync(kAllLanes, value % 64 == 0) != 0);
    out[320] = static_cast<std::uint32_t>(__all_sync(kAllLanes, value != 0) != 0);
    out[352] = __reduce_add_sync(kAllLanes, value);
    out[384] = __reduce_max_sync(kAllLanes, value);
    out[416] = __reduce_min_sync(kAllLanes, value);
    out[448] = __reduce_xor_sync(kAllLanes, value);
}

/// Rounding to the 16-bit types and back, of any bits that are a number.
__global__ void conversion_kernel(ConformanceArgs args) {
    const unsigned i = threadIdx.x;
    const float x = __uint_as_float(args.in[i]);
    const float number = x == x ? x : 1.0F;
    args.out[i] = __bfloat16_as_ushort(__float2bfloat16_rn(number));
    args.out[kBlock + i] = __half_as_ushort(__float2half_rn(number * 1e-20F));
    const auto bits = static_cast<unsigned short>(args.in[i]);
    const float wide = __bfloat162float(__ushort_as_bfloat16(bits));
    const float half_wide = __half2float(__ushort_as_half(bits));
    args.out[2 * kBlock + i] = wide == wide ? __float_as_uint(wide) : 0U;
    args.out[3 * kBlock + i] = half_wide == half_wide ? __float_as_uint(half_wide) : 0U;
}

/// A first warp produces, a second consumes, by two named barriers.
__global__ void named_barrier_kernel(ConformanceArgs args) {
    CAROUSEL_SHARED(std::uint32_t, slot, 32);
    const unsigned lane = threadIdx.x % 32;
    for (unsigned step = 0; step < 4; ++step) {
        if (threadIdx.x < 32) {
            slot[lane] = args.in[step * 32 + lane];
            ptx::bar_arrive(1, kBlock);
            ptx::bar_sync(2, kBlock);
        } else {
            ptx::bar_sync(1, kBlock);
            args.out[step * 32 + lane] = slot[31 - lane];
            ptx::bar_arrive(2, kBlock);
        }
    }
}

/// Whole and partial copies of 16, 8 and 4 bytes, two groups deep.
__global__ void copy_async_kernel(ConformanceArgs args) {
    CAROUSEL_SHARED(uint4, wide, 32);
    CAROUSEL_SHARED(uint2, middle, 32);
    CAROUSEL_SHARED(std::uint32_t, narrow, 32);
    const unsigned lane = threadIdx.x;
    ptx::copy_async<16>(&wide[lane], reinterpret_cast<const uint4*>(args.in) + lane, lane % 5 * 4);
    ptx::copy_async_commit();
    ptx::copy_async<8>(&middle[lane], reinterpret_cast<const uint2*>(args.in) + lane);
    ptx::copy_async<4>(&narrow[lane], args.in + lane);
    ptx::copy_async_commit();
    ptx::copy_async_wait<1>();
    __syncthreads();
    const uint4 neighbour = wide[31 - lane];
    args.out[lane] = neighbour.x;
    args.out[32 + lane] = neighbour.y;
    args.out[64 + lane] = neighbour.z;
    args.out[96 + lane] = neighbour.w;
    ptx::copy_async_wait<0>();
    __syncthreads();
    args.out[128 + lane] = middle[31 - lane].x;
    args.out[160 + lane] = middle[31 - lane].y;
    args.out[192 + lane] = narrow[31 - lane];
}

/// Four 8x8 matrices of 16-bit elements, rows of 16 bytes.
__global__ void load_matrix_kernel(ConformanceArgs args) {
    CAROUSEL_SHARED(uint4, rows, 32);
    const unsigned lane = threadIdx.x;
    rows[lane] = reinterpret_cast<const uint4*>(args.in)[lane];
    __syncwarp();
    std::uint32_t four[4], two[2];
    ptx::load_matrix_x4(four, &rows[lane]);
    for (unsigned i = 0; i < 4; ++i) {
        args.out[i * 32 + lane] = four[i];
    }
    ptx::load_matrix_x4_transposed(four, &rows[lane]);
    for (unsigned i = 0; i < 4; ++i) {
        args.out[(4 + i) * 32 + lane] = four[i];
    }
    ptx::load_matrix_x2(two, &rows[lane % 16]);
    args.out[8 * 32 + lane] = two[0];
    args.out[9 * 32 + lane] = two[1];
    ptx::load_matrix_x2_transposed(two, &rows[lane % 16]);
    args.out[10 * 32 + lane] = two[0];
    args.out[11 * 32 + lane] = two[1];
}

/// d = a b + c; in: a [32,4], b [32,2] pairs of elements, c [32,4] f32, each by lanes.
template <bool kBf16>
__global__ void mma_kernel(ConformanceArgs args) {
    const unsigned lane = threadIdx.x;
    std::uint32_t a[4], b[2];
    float d[4];
    for (unsigned i = 0; i < 4; ++i) {
        a[i] = args.in[lane * 4 + i];
        d[i] = __uint_as_float(args.in[192 + lane * 4 + i]);
    }
    b[0] = args.in[128 + lane * 2];
    b[1] = args.in[128 + lane * 2 + 1];
    if constexpr (kBf16) {
        ptx::mma_bf16(d, a, b);
    } else {
        ptx::mma_f16(d, a, b);
    }
    for (unsigned i = 0; i < 4; ++i) {
        args.out[lane * 4 + i] = __float_as_uint(d[i]);
    }
}

/// Ranks, and words through the shared memory of the next block and the one before.
__global__ void cluster_kernel(ConformanceArgs args) {
    CAROUSEL_SHARED(std::uint32_t, inbox, kBlock);
    CAROUSEL_SHARED(std::uint32_t, own, kBlock);
    const unsigned i = threadIdx.x, rank = ptx::cluster_rank(), size = ptx::cluster_size();
    own[i] = args.in[blockIdx.x * kBlock + i];
    ptx::cluster_arrive();
    ptx::cluster_wait();
    ptx::store_cluster(ptx::map_to_rank(ptx::shared_address(&inbox[i]), (rank + 1) % size), own[i]);
    const std::uint32_t before =
        ptx::load_cluster(ptx::map_to_rank(ptx::shared_address(&own[i]), (rank + 1) % size));
    ptx::cluster_arrive();
    ptx::cluster_wait();
    std::uint32_t* out = args.out + blockIdx.x * 4 * kBlock + i;
    out[0] = inbox[i];
    out[kBlock] = before;
    out[2 * kBlock] = rank;
    out[3 * kBlock] = size;
}

/// The phases of an mbarrier as parities see them.
__global__ void mbarrier_kernel(ConformanceArgs args) {
    using ptx::Scope;
    CAROUSEL_SHARED(std::uint64_t, barrier, 1);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(barrier, kBlock);
    }
    __syncthreads();
    args.out[threadIdx.x] = ptx::mbarrier_try_wait<Scope::kBlock>(barrier, 1);
    for (unsigned phase = 0; phase < 4; ++phase) {
        __syncthreads();
        ptx::mbarrier_arrive(barrier);
        ptx::mbarrier_wait<Scope::kBlock>(barrier, phase % 2);
        args.out[(1 + phase) * kBlock + threadIdx.x] =
            ptx::mbarrier_try_wait<Scope::kBlock>(barrier, phase % 2);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::mbarrier_invalidate(barrier);
    }
}

/// Every block of the cluster sends words and quads to the next one, twice, then a bulk copy.
__global__ void exchange_kernel(ConformanceArgs args) {
    using ptx::Scope;
    CAROUSEL_SHARED(std::uint64_t, barriers, 2);
    CAROUSEL_SHARED(std::uint32_t, words, 2 * kBlock);
    CAROUSEL_DYNAMIC_SHARED(uint4, quads);  // [kBlock] sent, [kBlock] received, [kBlock] pushed
    const unsigned i = threadIdx.x, rank = ptx::cluster_rank(), size = ptx::cluster_size();
    const std::uint32_t* in = args.in + rank * 4 * kBlock;
    std::uint32_t* out = args.out + rank * 10 * kBlock;
    if (i == 0) {
        ptx::mbarrier_init(&barriers[0], 1);
        ptx::mbarrier_init(&barriers[1], 1);
        ptx::fence_mbarrier_init();
    }
    quads[i] = reinterpret_cast<const uint4*>(in)[i];
    ptx::fence_proxy_async();
    ptx::cluster_arrive();
    ptx::cluster_wait();
    const unsigned next = (rank + 1) % size;
    const auto over_there = [&](const void* p) {
        return ptx::map_to_rank(ptx::shared_address(p), next);
    };
    for (unsigned phase = 0; phase < 2; ++phase) {
        if (i == 0) {
            ptx::mbarrier_arrive_expect(&barriers[0], phase == 0 ? 4 * kBlock : 20 * kBlock);
        }
        ptx::store_async(over_there(&words[phase * kBlock + i]), in[i + phase * kBlock],
                         over_there(&barriers[0]));
        if (phase == 1) {
            ptx::store_async_16(over_there(&quads[kBlock + i]), quads[i], over_there(&barriers[0]));
        }
        ptx::mbarrier_wait<Scope::kCluster>(&barriers[0], phase);
        out[phase * kBlock + i] = words[phase * kBlock + (i + 1) % kBlock];
        // A neighbour's bytes of the next phase must not count in this one.
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
    if (i == 0) {
        ptx::mbarrier_arrive_expect(&barriers[1], 16 * kBlock);
        ptx::bulk_push(over_there(&quads[2 * kBlock]), quads, 16 * kBlock,
                       over_there(&barriers[1]));
    }
    ptx::mbarrier_wait<Scope::kCluster>(&barriers[1], 0);
    const uint4 received = quads[kBlock + i], pushed = quads[2 * kBlock + i];
    out[2 * kBlock + 4 * i] = received.x;
    out[2 * kBlock + 4 * i + 1] = received.y;
    out[2 * kBlock + 4 * i + 2] = received.z;
    out[2 * kBlock + 4 * i + 3] = received.w;
    out[6 * kBlock + 4 * i] = pushed.x;
    out[6 * kBlock + 4 * i + 1] = pushed.y;
    out[6 * kBlock + 4 * i + 2] = pushed.z;
    out[6 * kBlock + 4 * i + 3] = pushed.w;
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

/// Remote arrivals: block 0 waits for a thread of each other block.
__global__ void remote_arrival_kernel(ConformanceArgs args) {
    using ptx::Scope;
    CAROUSEL_SHARED(std::uint64_t, barrier, 1);
    CAROUSEL_SHARED(std::uint32_t, words, 8);
    const unsigned rank = ptx::cluster_rank(), size = ptx::cluster_size();
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(barrier, size - 1);
        ptx::fence_mbarrier_init();
    }
    ptx::cluster_arrive_relaxed();
    ptx::cluster_wait();
    if (rank != 0 && threadIdx.x == 0) {
        ptx::store_cluster(ptx::map_to_rank(ptx::shared_address(&words[rank]), 0), args.in[rank]);
        ptx::mbarrier_arrive_remote<Scope::kCluster>(
            ptx::map_to_rank(ptx::shared_address(barrier), 0));
    }
    if (rank == 0) {
        ptx::mbarrier_wait<Scope::kCluster>(barrier, 0);
        if (threadIdx.x > 0 && threadIdx.x < size) {
            args.out[threadIdx.x - 1] = words[threadIdx.x];
        }
    }
    ptx::cluster_arrive();
    ptx::cluster_wait();
}

/// Global to shared by bulk copy, plus one, and back by bulk copy.
__global__ void bulk_kernel(ConformanceArgs args) {
    using ptx::Scope;
    CAROUSEL_SHARED(std::uint64_t, barrier, 1);
    CAROUSEL_DYNAMIC_SHARED(std::uint32_t, tile);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(barrier, 1);
        ptx::fence_proxy_async();
        ptx::mbarrier_arrive_expect(barrier, kBlock * 4);
        ptx::bulk_load(tile, args.in, kBlock * 4, barrier);
    }
    __syncthreads();
    ptx::mbarrier_wait<Scope::kBlock>(barrier, 0);
    tile[threadIdx.x] += 1;
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::bulk_store(args.out, tile, kBlock * 4);
        ptx::bulk_commit();
        ptx::bulk_wait<0>();
    }
}

/// Whether time passes.
__global__ void timer_kernel(ConformanceArgs args) {
    const std::uint64_t begin = ptx::global_timer_ns();
    while (ptx::global_timer_ns() - begin < 1000) {
    }
    args.out[threadIdx.x] = 1;
}

constexpr unsigned kCluster = 4;

Launch clustered(Launch launch) {
    launch.cluster = kCluster;
    return launch;
}

}  // namespace

std::span<const ConformanceCase> conformance_cases() {
    using enum ConformanceInput;
    static const ConformanceCase kCases[] = {
        {"strong_access", kBits, kBlock, 9 * kBlock, false, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_strong_access", &strong_access_kernel, args, {1},
                                {kBlock});
         }},
        {"shuffle", kBits, 64, 480, false, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_shuffle", &shuffle_kernel, args, {1}, {32});
         }},
        {"conversion", kBits, kBlock, 4 * kBlock, false, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_conversion", &conversion_kernel, args, {1}, {kBlock});
         }},
        {"named_barrier", kBits, 128, 128, false, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_named_barrier", &named_barrier_kernel, args, {1},
                                {kBlock});
         }},
        {"copy_async", kBits, 128, 224, false, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_copy_async", &copy_async_kernel, args, {1}, {32});
         }},
        {"load_matrix", kBits, 128, 384, false, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_load_matrix", &load_matrix_kernel, args, {1}, {32});
         }},
        {"mma_bf16", kMmaBf16, 320, 128, true, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_mma_bf16", &mma_kernel<true>, args, {1}, {32});
         }},
        {"mma_f16", kMmaF16, 320, 128, true, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_mma_f16", &mma_kernel<false>, args, {1}, {32});
         }},
        {"grid_sum", kBits, 8, 10, false, 80,
         [](const ConformanceArgs& args) {
             Launch launch = make_launch("conformance_grid_sum", &grid_sum_kernel, args, {8}, {32});
             launch.cooperative = true;
             return launch;
         }},
        {"timer", kBits, 1, 32, false, 80,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_timer", &timer_kernel, args, {1}, {32});
         }},
        {"cluster", kBits, kCluster * kBlock, 4 * kCluster * kBlock, false, 90,
         [](const ConformanceArgs& args) {
             return clustered(
                 make_launch("conformance_cluster", &cluster_kernel, args, {kCluster}, {kBlock}));
         }},
        {"mbarrier", kBits, 1, 5 * kBlock, false, 90,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_mbarrier", &mbarrier_kernel, args, {1}, {kBlock});
         }},
        {"exchange", kBits, 4 * kCluster * kBlock, 10 * kCluster * kBlock, false, 90,
         [](const ConformanceArgs& args) {
             return clustered(make_launch("conformance_exchange", &exchange_kernel, args,
                                          {kCluster}, {kBlock}, 3 * kBlock * 16));
         }},
        {"remote_arrival", kBits, kCluster, kCluster - 1, false, 90,
         [](const ConformanceArgs& args) {
             return clustered(make_launch("conformance_remote_arrival", &remote_arrival_kernel,
                                          args, {kCluster}, {32}));
         }},
        {"bulk", kBits, kBlock, kBlock, false, 90,
         [](const ConformanceArgs& args) {
             return make_launch("conformance_bulk", &bulk_kernel, args, {1}, {kBlock}, kBlock * 4);
         }},
    };
    return kCases;
}

}  // namespace carousel::CAROUSEL_KERNELS
