// Planted faults in what orders memory between blocks, in clusters and around asynchronous copies,
// each beside the kernel it was made from. kFault 0 is the kernel as it should be.

#include "simt/toy.hpp"

namespace carousel::simt {
namespace {

// -- Flags and fences ----------------------------------------------------------------------------

enum class Message { kRight, kRelaxedStore, kRelaxedLoad, kBlockStore, kBlockLoad, kPlainFlag };

template <Message kFault>
__global__ void message_kernel(Args args) {
    using ptx::Scope;
    if (threadIdx.x != 0) {
        return;
    }
    if (blockIdx.x == 0) {
        args.y[0] = 5.0F;
        if constexpr (kFault == Message::kRelaxedStore) {
            ptx::store_relaxed<Scope::kDevice>(args.flags, 1);
        } else if constexpr (kFault == Message::kBlockStore) {
            ptx::store_release<Scope::kBlock>(args.flags, 1);
        } else if constexpr (kFault == Message::kPlainFlag) {
            *args.flags = 1;
        } else {
            ptx::store_release<Scope::kDevice>(args.flags, 1);
        }
    } else {
        if constexpr (kFault == Message::kRelaxedLoad) {
            while (ptx::load_relaxed<Scope::kDevice>(args.flags) == 0) {
            }
        } else if constexpr (kFault == Message::kBlockLoad) {
            while (ptx::load_acquire<Scope::kBlock>(args.flags) == 0) {
            }
        } else {
            while (ptx::load_acquire<Scope::kDevice>(args.flags) == 0) {
            }
        }
        args.y[1] = args.y[0];
    }
}

constexpr Shape kTwoBlocks{.grid = {2}, .cooperative = true};

TEST(SimtSyncFaults, ReleaseAcquire) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&message_kernel<Message::kRight>, kTwoBlocks);
}
TEST(SimtSyncFaults, RelaxedWhereReleaseIsNeeded) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&message_kernel<Message::kRelaxedStore>, kTwoBlocks);
}
TEST(SimtSyncFaults, RelaxedWhereAcquireIsNeeded) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&message_kernel<Message::kRelaxedLoad>, kTwoBlocks);
}
TEST(SimtSyncFaults, ScopeOfStoreTooNarrow) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&message_kernel<Message::kBlockStore>, kTwoBlocks);
}
TEST(SimtSyncFaults, ScopeOfLoadTooNarrow) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&message_kernel<Message::kBlockLoad>, kTwoBlocks);
}
TEST(SimtSyncFaults, PlainFlag) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&message_kernel<Message::kPlainFlag>, kTwoBlocks);
}

enum class Fence { kRight, kNoRelease, kNoAcquire, kBlockRelease, kBlockAcquire };

template <Fence kFault>
__global__ void fence_kernel(Args args) {
    if (threadIdx.x != 0) {
        return;
    }
    if (blockIdx.x == 0) {
        args.y[0] = 5.0F;
        if constexpr (kFault == Fence::kBlockRelease) {
            __threadfence_block();
        } else if constexpr (kFault != Fence::kNoRelease) {
            __threadfence();
        }
        atomicExch(args.flags, 1U);
    } else {
        while (ptx::load_relaxed<ptx::Scope::kDevice>(args.flags) == 0) {
        }
        if constexpr (kFault == Fence::kBlockAcquire) {
            __threadfence_block();
        } else if constexpr (kFault != Fence::kNoAcquire) {
            __threadfence();
        }
        args.y[1] = args.y[0];
    }
}

TEST(SimtSyncFaults, Fences) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&fence_kernel<Fence::kRight>, kTwoBlocks);
}
TEST(SimtSyncFaults, FenceMissing) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&fence_kernel<Fence::kNoRelease>, kTwoBlocks);
    expect_race(&fence_kernel<Fence::kNoAcquire>, kTwoBlocks);
}
TEST(SimtSyncFaults, FenceTooNarrow) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&fence_kernel<Fence::kBlockRelease>, kTwoBlocks);
    expect_race(&fence_kernel<Fence::kBlockAcquire>, kTwoBlocks);
}

/// All blocks write, meet at a barrier through memory, and read each other's.
template <int kFault>
__global__ void grid_barrier_kernel(Args args) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned all = gridDim.x * blockDim.x;
    args.y[i] = static_cast<float>(i);
    if constexpr (kFault != 2) {
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        ptx::add_acq_rel<ptx::Scope::kDevice>(args.flags, 1);
        while (ptx::load_acquire<ptx::Scope::kDevice>(args.flags) < gridDim.x) {
        }
    }
    if constexpr (kFault != 3) {
        __syncthreads();
    }
    args.y[all + i] = args.y[(i + blockDim.x) % all];
}

TEST(SimtSyncFaults, GridBarrier) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&grid_barrier_kernel<0>, {.grid = {8}, .cooperative = true});
}
TEST(SimtSyncFaults, GridBarrierInAPlainLaunch) {
    expect_fault(&grid_barrier_kernel<0>, "only a cooperative launch", {.grid = {8}});
}
TEST(SimtSyncFaults, GridBarrierWithoutBlockBarrier) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&grid_barrier_kernel<2>, {.grid = {8}, .cooperative = true});
    expect_race(&grid_barrier_kernel<3>, {.grid = {8}, .cooperative = true});
}

/// Spins with a limit in time; nobody ever sets the flag.
__global__ void bounded_spin_kernel(Args args) {
    const std::uint64_t begin = ptx::global_timer_ns();
    constexpr std::uint64_t kLimitNs = 2'000'000'000;
    while (ptx::load_acquire<ptx::Scope::kDevice>(args.flags) == 0) {
        if (ptx::global_timer_ns() - begin > kLimitNs) {
            args.y[threadIdx.x] = -1.0F;
            return;
        }
    }
}
__global__ void endless_spin_kernel(Args args) {
    while (ptx::load_acquire<ptx::Scope::kDevice>(args.flags) == 0) {
    }
}

TEST(SimtSyncFaults, DeadlockByLine) {
    expect_clean(&bounded_spin_kernel);
    expect_fault(&endless_spin_kernel,
                 "deadlock: 64 threads wait in a loop that polls at "
                 "executor_sync_test.cpp:");
}

// -- Clusters ------------------------------------------------------------------------------------

enum class Push { kRight, kNoFirst, kNoLast, kRelaxedArrival, kWrongRank };

template <Push kFault>
__global__ void cluster_push_kernel(Args args) {
    CAROUSEL_SHARED(std::uint32_t, inbox, kThreads);
    const unsigned rank = ptx::cluster_rank(), size = ptx::cluster_size();
    inbox[threadIdx.x] = 0;
    if constexpr (kFault != Push::kNoFirst) {
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
    const unsigned next = kFault == Push::kWrongRank ? rank + 1 : (rank + 1) % size;
    ptx::store_cluster(ptx::map_to_rank(ptx::shared_address(&inbox[threadIdx.x]), next), rank);
    if constexpr (kFault == Push::kRelaxedArrival) {
        ptx::cluster_arrive_relaxed();
    } else {
        ptx::cluster_arrive();
    }
    ptx::cluster_wait();
    args.y[blockIdx.x * kThreads + threadIdx.x] = static_cast<float>(inbox[threadIdx.x]);
}

constexpr Shape kClusters{.grid = {8}, .cluster = 4};

TEST(SimtSyncFaults, ClusterExchange) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&cluster_push_kernel<Push::kRight>, kClusters);
}
TEST(SimtSyncFaults, ClusterArrivalRelaxed) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&cluster_push_kernel<Push::kRelaxedArrival>, kClusters);
}
TEST(SimtSyncFaults, ClusterNeighbourNotYetThere) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome =
            run(&cluster_push_kernel<Push::kNoFirst>, kClusters, checked(policy));
        EXPECT_TRUE(outcome.report.races > 0 || !outcome.fault.empty());
    }
}
TEST(SimtSyncFaults, ClusterRankOutside) {
    expect_fault(&cluster_push_kernel<Push::kWrongRank>, "rank 4 of a cluster of 4", kClusters);
}

__global__ void early_exit_kernel(Args args) {
    CAROUSEL_SHARED(std::uint32_t, inbox, kThreads);
    inbox[threadIdx.x] = 7;
    ptx::cluster_arrive();
    ptx::cluster_wait();
    const unsigned rank = ptx::cluster_rank();
    if (rank == 0) {
        return;  // while the others still read its memory
    }
    for (int i = 0; i < 4; ++i) {
        __syncthreads();
    }
    args.y[blockIdx.x * kThreads + threadIdx.x] = static_cast<float>(
        ptx::load_cluster(ptx::map_to_rank(ptx::shared_address(&inbox[threadIdx.x]), 0)));
}

TEST(SimtSyncFaults, ClusterNeighbourHasLeft) {
    const Outcome outcome = run(&early_exit_kernel, kClusters, checked(Policy::kAscending));
    EXPECT_THAT(outcome.fault, HasSubstr("out of bounds: reads 4 bytes of shared memory"));
}

// -- mbarriers -----------------------------------------------------------------------------------

enum class Ring { kRight, kWrongParity, kBlockArrival, kBlockWait, kNoInitBarrier, kManyArrivals };

/// Block 0 of the cluster collects a value of each thread of the others, over and over.
template <Ring kFault>
__global__ void mbarrier_kernel(Args args) {
    using ptx::Scope;
    CAROUSEL_SHARED(std::uint64_t, barrier, 1);
    CAROUSEL_SHARED(std::uint32_t, inbox, 2 * kThreads);
    const unsigned rank = ptx::cluster_rank();
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(barrier, kFault == Ring::kManyArrivals ? kThreads / 2 : kThreads);
        ptx::fence_mbarrier_init();
    }
    if constexpr (kFault == Ring::kNoInitBarrier) {
        __syncthreads();
    } else {
        ptx::cluster_arrive();
        ptx::cluster_wait();
    }
    for (unsigned step = 0; step < 2; ++step) {
        const unsigned slot = step * kThreads + threadIdx.x;
        if (rank == 1) {
            ptx::store_cluster(ptx::map_to_rank(ptx::shared_address(&inbox[slot]), 0), step + 1);
            ptx::mbarrier_arrive_remote<kFault == Ring::kBlockArrival ? Scope::kBlock
                                                                      : Scope::kCluster>(
                ptx::map_to_rank(ptx::shared_address(barrier), 0));
        } else {
            const unsigned parity = kFault == Ring::kWrongParity ? (step + 1) % 2 : step;
            ptx::mbarrier_wait<kFault == Ring::kBlockWait ? Scope::kBlock : Scope::kCluster>(
                barrier, parity);
            args.y[slot] = static_cast<float>(inbox[step * kThreads + (threadIdx.x + 1) % 64]);
        }
        ptx::cluster_arrive_relaxed();  // keeps the steps in step; orders nothing
        ptx::cluster_wait();
    }
}

constexpr Shape kPair{.grid = {2}, .cluster = 2};

TEST(SimtSyncFaults, Mbarrier) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&mbarrier_kernel<Ring::kRight>, kPair);
}
TEST(SimtSyncFaults, MbarrierScopeTooNarrow) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&mbarrier_kernel<Ring::kBlockArrival>, kPair);
    expect_race(&mbarrier_kernel<Ring::kBlockWait>, kPair);
}
TEST(SimtSyncFaults, MbarrierWrongParity) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&mbarrier_kernel<Ring::kWrongParity>, kPair, checked(policy));
        EXPECT_TRUE(outcome.report.races + outcome.report.uninitialised > 0 ||
                    outcome.fault.find("deadlock") != std::string::npos);
    }
}
TEST(SimtSyncFaults, MbarrierUsedBeforeItsInitialisation) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&mbarrier_kernel<Ring::kNoInitBarrier>, kPair, checked(policy));
        EXPECT_TRUE(outcome.report.races > 0 || !outcome.fault.empty());
    }
}
TEST(SimtSyncFaults, MbarrierExpectsTooFew) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&mbarrier_kernel<Ring::kManyArrivals>, kPair, checked(policy));
        EXPECT_TRUE(outcome.report.races + outcome.report.uninitialised > 0 ||
                    !outcome.fault.empty());
    }
}

// -- Asynchronous stores and copies --------------------------------------------------------------

enum class Async { kRight, kNoWait, kFewBytes, kNoReuseBarrier };

template <Async kFault>
__global__ void store_async_kernel(Args args) {
    using ptx::Scope;
    CAROUSEL_SHARED(std::uint64_t, barrier, 1);
    CAROUSEL_SHARED(std::uint32_t, inbox, kThreads);
    const unsigned rank = ptx::cluster_rank();
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(barrier, 1);
        ptx::mbarrier_arrive_expect(barrier, kFault == Async::kFewBytes ? 128 : 256);
    }
    ptx::cluster_arrive();
    ptx::cluster_wait();
    const unsigned other = 1 - rank;
    ptx::store_async(ptx::map_to_rank(ptx::shared_address(&inbox[threadIdx.x]), other), rank + 1,
                     ptx::map_to_rank(ptx::shared_address(barrier), other));
    if constexpr (kFault != Async::kNoWait) {
        ptx::mbarrier_wait<Scope::kCluster>(barrier, 0);
    }
    args.y[rank * kThreads + threadIdx.x] = static_cast<float>(inbox[(threadIdx.x + 1) % kThreads]);
    ptx::cluster_arrive();  // nobody leaves while stores are on their way to it
    ptx::cluster_wait();
}

TEST(SimtSyncFaults, StoreAsync) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&store_async_kernel<Async::kRight>, kPair);
}
TEST(SimtSyncFaults, StoreAsyncWithoutWait) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&store_async_kernel<Async::kNoWait>, kPair, checked(policy));
        EXPECT_TRUE(outcome.report.races + outcome.report.uninitialised > 0 ||
                    !outcome.fault.empty());
    }
}
TEST(SimtSyncFaults, StoreAsyncExpectsTooFewBytes) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&store_async_kernel<Async::kFewBytes>, kPair, checked(policy));
        EXPECT_TRUE(outcome.report.races + outcome.report.uninitialised > 0 ||
                    !outcome.fault.empty());
    }
}

enum class Copy { kRight, kNoWait, kNoBarrier, kWaitTooMany, kSourceChanged };

template <Copy kFault>
__global__ void copy_async_kernel(Args args) {
    CAROUSEL_SHARED(float4, tiles, 2 * kThreads);
    const unsigned i = threadIdx.x;
    const auto* x = reinterpret_cast<const float4*>(args.x);
    for (unsigned part = 0; part < 2; ++part) {
        ptx::copy_async<16>(&tiles[part * kThreads + i], &x[part * kThreads + i]);
        ptx::copy_async_commit();
    }
    if constexpr (kFault == Copy::kSourceChanged) {
        args.x[4 * i] = 0.0F;
    }
    if constexpr (kFault == Copy::kWaitTooMany) {
        ptx::copy_async_wait<1>();
        ptx::copy_async_wait<1>();
    } else if constexpr (kFault != Copy::kNoWait) {
        ptx::copy_async_wait<0>();
    }
    if constexpr (kFault != Copy::kNoBarrier) {
        __syncthreads();
    }
    args.y[i] = tiles[kThreads + (i + 1) % kThreads].y;
    if constexpr (kFault == Copy::kNoWait || kFault == Copy::kWaitTooMany) {
        ptx::copy_async_wait<0>();
    }
}

TEST(SimtSyncFaults, CopyAsync) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&copy_async_kernel<Copy::kRight>);
}
TEST(SimtSyncFaults, CopyAsyncWithoutWait) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&copy_async_kernel<Copy::kNoWait>, {}, checked(policy));
        EXPECT_GT(outcome.report.races + outcome.report.uninitialised, 0U);
    }
}
TEST(SimtSyncFaults, CopyAsyncWaitsForTooFewGroups) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&copy_async_kernel<Copy::kWaitTooMany>, {}, checked(policy));
        EXPECT_GT(outcome.report.races + outcome.report.uninitialised, 0U);
    }
}
TEST(SimtSyncFaults, CopyAsyncWaitWithoutBarrier) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&copy_async_kernel<Copy::kNoBarrier>, {}, checked(policy));
        EXPECT_GT(outcome.report.races + outcome.report.uninitialised, 0U);
    }
}
TEST(SimtSyncFaults, CopyAsyncSourceOverwritten) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&copy_async_kernel<Copy::kSourceChanged>);
}

__global__ void copy_never_waited_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, kThreads);
    ptx::copy_async<4>(&tile[threadIdx.x], &args.x[threadIdx.x]);
    ptx::copy_async_commit();
}

TEST(SimtSyncFaults, CopyAsyncNeverWaitedFor) {
    expect_fault(&copy_never_waited_kernel, "returns without waiting for its cp.async copies");
}

enum class Bulk { kRight, kNoProxyFence, kNoWait, kWrongPhase };

/// In by bulk copy, doubled, out by bulk copy.
template <Bulk kFault>
__global__ void bulk_kernel(Args args) {
    using ptx::Scope;
    CAROUSEL_SHARED(std::uint64_t, barrier, 1);
    CAROUSEL_DYNAMIC_SHARED(float, tile);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(barrier, 1);
        ptx::fence_proxy_async();
        ptx::mbarrier_arrive_expect(barrier, kThreads * 4);
        ptx::bulk_load(tile, args.x, kThreads * 4, barrier);
    }
    __syncthreads();
    if constexpr (kFault != Bulk::kNoWait) {
        ptx::mbarrier_wait<Scope::kBlock>(barrier, kFault == Bulk::kWrongPhase ? 1 : 0);
    }
    tile[threadIdx.x] *= 2.0F;
    if constexpr (kFault != Bulk::kNoProxyFence) {
        ptx::fence_proxy_async();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::bulk_store(args.y, tile, kThreads * 4);
        ptx::bulk_commit();
        ptx::bulk_wait<0>();
    }
}

constexpr Shape kTile{.shared_bytes = kThreads * 4};

TEST(SimtSyncFaults, BulkCopies) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&bulk_kernel<Bulk::kRight>, kTile);
}
TEST(SimtSyncFaults, ProxyFenceMissing) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&bulk_kernel<Bulk::kNoProxyFence>, kTile);
}
TEST(SimtSyncFaults, BulkLoadWithoutWait) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&bulk_kernel<Bulk::kNoWait>, kTile, checked(policy));
        EXPECT_GT(outcome.report.races + outcome.report.uninitialised, 0U);
    }
}
TEST(SimtSyncFaults, MbarrierWrongPhase) {
    CAROUSEL_REQUIRE_RACES();
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&bulk_kernel<Bulk::kWrongPhase>, kTile, checked(policy));
        EXPECT_TRUE(outcome.report.races + outcome.report.uninitialised > 0 ||
                    outcome.fault.find("deadlock") != std::string::npos);
    }
}

}  // namespace
}  // namespace carousel::simt
