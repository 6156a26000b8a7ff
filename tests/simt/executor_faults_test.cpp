// Planted faults, one per class, each beside the kernel it was made from: the executor must report
// the one and stay silent on the other. kFault 0 is the kernel as it should be.

#include "simt/toy.hpp"

namespace carousel::simt {
namespace {

// -- Barriers ------------------------------------------------------------------------------------

template <int kFault>
__global__ void reverse_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, kThreads);
    const unsigned i = threadIdx.x;
    tile[i] = args.x[i];
    if constexpr (kFault != 1) {
        __syncthreads();
    }
    args.y[i] = tile[kThreads - 1 - i];
}

TEST(SimtFaults, MissingBarrier) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&reverse_kernel<0>);
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&reverse_kernel<1>, {}, checked(policy));
        // Where nothing has been written yet, the read is of memory nobody wrote.
        EXPECT_GT(outcome.report.races + outcome.report.uninitialised, 0U);
    }
}

template <int kFault>
__global__ void two_rounds_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, kThreads);
    const unsigned i = threadIdx.x;
    float sum = 0.0F;
    for (int round = 0; round < 3; ++round) {
        tile[i] = args.x[i + 64 * static_cast<unsigned>(round)];
        __syncthreads();
        sum += tile[(i + 32) % kThreads];
        if constexpr (kFault != 1) {
            __syncthreads();
        }
    }
    args.y[i] = sum;
}

TEST(SimtFaults, SingleBuffering) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&two_rounds_kernel<0>);
    expect_race(&two_rounds_kernel<1>);
}

template <int kFault>
__global__ void double_buffer_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, 2 * kThreads);
    const unsigned i = threadIdx.x;
    float sum = 0.0F;
    for (unsigned round = 0; round < 4; ++round) {
        float* now = tile + (kFault == 1 ? 0 : round % 2 * kThreads);
        now[i] = args.x[i + 64 * round];
        __syncthreads();
        sum += now[(i + 32) % kThreads];
    }
    args.y[i] = sum;
}

TEST(SimtFaults, WrongHalfOfDoubleBuffer) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&double_buffer_kernel<0>);
    expect_race(&double_buffer_kernel<1>);
}

template <int kFault>
__global__ void branch_barrier_kernel(Args args) {
    if constexpr (kFault == 0) {
        __syncthreads();
    } else if constexpr (kFault == 1) {  // half of the block returns first
        if (threadIdx.x < 32) {
            return;
        }
        __syncthreads();
    } else {  // as many barriers, from different lines
        if (threadIdx.x < 32) {
            __syncthreads();
        } else {
            __syncthreads();
        }
    }
    args.y[threadIdx.x] = 0.0F;
}

TEST(SimtFaults, DivergentBarrier) {
    expect_clean(&branch_barrier_kernel<0>);
    expect_fault(&branch_barrier_kernel<1>, "divergent barrier");
}
TEST(SimtFaults, BarrierLinesDiffer) {
    expect_fault(&branch_barrier_kernel<2>, "others of this generation have arrived at");
}

template <int kFault>
__global__ void uneven_loop_kernel(Args args) {
    const unsigned rounds = kFault == 1 && threadIdx.x >= 32 ? 3 : 2;
    for (unsigned i = 0; i < rounds; ++i) {
        __syncthreads();
    }
    args.y[threadIdx.x] = 0.0F;
}

TEST(SimtFaults, UnequalNumberOfBarriers) {
    expect_clean(&uneven_loop_kernel<0>);
    expect_fault(&uneven_loop_kernel<1>, "divergent barrier");
}

template <int kFault>
__global__ void named_barrier_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, 32);
    if (threadIdx.x < 32) {
        tile[threadIdx.x] = args.x[threadIdx.x];
        ptx::bar_arrive(1, 64);
    } else {
        ptx::bar_sync(kFault == 1 ? 2 : 1, 64);
        args.y[threadIdx.x] = tile[threadIdx.x - 32];
    }
}

TEST(SimtFaults, WrongNamedBarrier) {
    expect_clean(&named_barrier_kernel<0>);
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&named_barrier_kernel<1>, {}, checked(policy));
        EXPECT_NE(outcome.fault, "");
    }
}

template <int kFault>
__global__ void consumer_first_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, 32);
    if (threadIdx.x < 32) {
        if constexpr (kFault == 1) {
            ptx::bar_arrive(1, 64);
        }
        tile[threadIdx.x] = args.x[threadIdx.x];
        if constexpr (kFault == 0) {
            ptx::bar_arrive(1, 64);
        }
    } else {
        ptx::bar_sync(1, 64);
        args.y[threadIdx.x] = tile[threadIdx.x - 32];
    }
}

TEST(SimtFaults, ArrivalBeforeTheWrite) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&consumer_first_kernel<0>);
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&consumer_first_kernel<1>, {}, checked(policy));
        EXPECT_GT(outcome.report.races + outcome.report.uninitialised, 0U);
    }
}

// -- Warps ---------------------------------------------------------------------------------------

template <int kFault>
__global__ void warp_exchange_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, kThreads);
    const unsigned i = threadIdx.x;
    tile[i] = args.x[i];
    if constexpr (kFault == 0) {
        __syncwarp();
    } else if constexpr (kFault == 2) {
        __shfl_sync(kAll, i, 0);  // brings the lanes together, and orders no memory
    }
    args.y[i] = tile[i ^ 1U];
}

TEST(SimtFaults, MissingSyncwarp) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&warp_exchange_kernel<0>);
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&warp_exchange_kernel<1>, {}, checked(policy));
        EXPECT_GT(outcome.report.races + outcome.report.uninitialised, 0U);
    }
}
TEST(SimtFaults, ShuffleOrdersNoMemory) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&warp_exchange_kernel<2>);
}

template <int kFault>
__global__ void shuffle_kernel(Args args) {
    const unsigned lane = threadIdx.x % 32;
    if constexpr (kFault == 0) {
        if (lane < 16) {
            args.y[threadIdx.x] = __shfl_xor_sync(0xFFFFU, args.x[lane], 1);
        }
    } else if constexpr (kFault == 1) {  // names lanes that never come
        if (lane < 16) {
            args.y[threadIdx.x] = __shfl_xor_sync(kAll, args.x[lane], 1);
        }
    } else if constexpr (kFault == 2) {  // lanes are not in their own mask
        args.y[threadIdx.x] = __shfl_xor_sync(0xFFFFU, args.x[lane], 1);
    } else if constexpr (kFault == 3) {  // two different instructions meet
        if (lane < 16) {
            args.y[threadIdx.x] = __shfl_xor_sync(kAll, args.x[lane], 1);
        } else {
            args.y[threadIdx.x] = static_cast<float>(__ballot_sync(kAll, 1));
        }
    } else {  // the same lanes with different masks
        args.y[threadIdx.x] = __shfl_xor_sync(lane < 16 ? kAll : 0xFFFF0000U, args.x[lane], 1);
    }
}

TEST(SimtFaults, ShuffleMaskNamesAbsentLanes) {
    expect_clean(&shuffle_kernel<0>);
    expect_fault(&shuffle_kernel<1>, "__shfl_xor_sync");
}
TEST(SimtFaults, ShuffleLaneOutsideItsMask) {
    expect_fault(&shuffle_kernel<2>, "not in its own mask");
}
TEST(SimtFaults, WarpDiverges) { expect_fault(&shuffle_kernel<3>, "divergent warp"); }
TEST(SimtFaults, MasksDisagree) { expect_fault(&shuffle_kernel<4>, "__shfl_xor_sync"); }

template <int kFault>
__global__ void absent_lane_kernel(Args args) {
    // 48 threads: lanes 16 to 31 of the second warp do not exist.
    const unsigned lane = threadIdx.x % 32;
    const float value = __shfl_sync(kAll, args.x[threadIdx.x], kFault == 1 ? 20 : 3);
    args.y[threadIdx.x] = lane == 0 ? value : 0.0F;
}

TEST(SimtFaults, WrongLaneGivesNan) {
    for (const bool fault : {false, true}) {
        DeviceBuffer<float> x(std::vector<float>(48, 1.0F), "x"), y(std::size_t{48}, "y");
        const Args args{x.data(), y.data(), nullptr, 48};
        launch(make_launch("absent_lane", fault ? &absent_lane_kernel<1> : &absent_lane_kernel<0>,
                           args, {1}, {48}));
        EXPECT_EQ(std::isnan(y[32]), fault);
        EXPECT_EQ(y[0], 1.0F);
    }
}

// -- Memory --------------------------------------------------------------------------------------

template <int kFault>
__global__ void bounds_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, kThreads);
    CAROUSEL_SHARED(float, other, kThreads);
    CAROUSEL_DYNAMIC_SHARED(float, scratch);
    const unsigned i = threadIdx.x;
    other[i] = tile[i] = scratch[i] = 1.0F;
    if constexpr (kFault == 1) {
        tile[i + 1] = 2.0F;
    } else if constexpr (kFault == 2) {
        args.y[4032 + i + 1] = 1.0F;
    } else if constexpr (kFault == 3) {
        args.y[i] = args.x[static_cast<int>(i) - 1];
    } else if constexpr (kFault == 4) {
        scratch[i + 1] = 2.0F;
    }
    args.y[i] = other[i] + tile[i] + scratch[i];
}

TEST(SimtFaults, SharedOutOfBounds) {
    CAROUSEL_REQUIRE_RACES();  // there, the address sanitizer ends the process instead
    const Shape shape{.shared_bytes = kThreads * 4};
    expect_clean(&bounds_kernel<0>, shape);
    expect_fault(&bounds_kernel<1>, "out of bounds: writes 4 bytes of shared", shape);
}
TEST(SimtFaults, DynamicSharedOutOfBounds) {
    CAROUSEL_REQUIRE_RACES();
    expect_fault(&bounds_kernel<4>, "out of bounds: writes", {.shared_bytes = kThreads * 4});
}
TEST(SimtFaults, WritePastABuffer) {
    CAROUSEL_REQUIRE_RACES();
    expect_fault(&bounds_kernel<2>, "'y', byte 16384", {.shared_bytes = kThreads * 4});
}
TEST(SimtFaults, ReadBeforeABuffer) {
    CAROUSEL_REQUIRE_RACES();
    expect_fault(&bounds_kernel<3>, "'x', byte -4", {.shared_bytes = kThreads * 4});
}
TEST(SimtFaults, DynamicSharedNotGiven) {
    expect_fault(&bounds_kernel<0>, "dynamic shared memory");
}

template <int kFault>
__global__ void neighbour_kernel(Args args) {
    // Each block writes its tile and reads the next one's first element of the input.
    const unsigned tile = blockIdx.x * 32;
    if (threadIdx.x < 32) {
        args.y[tile + threadIdx.x] = args.x[tile + threadIdx.x];
    } else if (kFault == 1 && threadIdx.x == 32) {
        args.x[tile + 32] = 0.0F;
    }
}

TEST(SimtFaults, WriteToNeighboursTile) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&neighbour_kernel<0>, {.grid = {2}});
    expect_race(&neighbour_kernel<1>, {.grid = {2}});
}

TEST(SimtFaults, WriteToReadOnlyBuffer) {
    CAROUSEL_REQUIRE_RACES();
    DeviceBuffer<float> x(std::size_t{128}, "weights"), y(std::size_t{128}, "y");
    x.read_only();
    const Args args{x.data(), y.data(), nullptr, 0};
    EXPECT_EQ(launch(make_launch("n", &neighbour_kernel<0>, args, {2}, {64})).threads, 128U);
    try {
        launch(make_launch("n", &neighbour_kernel<1>, args, {2}, {64}));
        FAIL() << "nothing was thrown";
    } catch (const KernelError& error) {
        EXPECT_THAT(error.what(), HasSubstr("read-only"));
        EXPECT_THAT(error.what(), HasSubstr("weights"));
    }
}

template <int kFault>
__global__ void partly_written_kernel(Args args) {
    CAROUSEL_SHARED(float, tile, kThreads);
    const unsigned i = threadIdx.x;
    if (i + (kFault == 1 ? 1 : 0) < kThreads) {
        tile[i] = args.x[i];
    }
    __syncthreads();
    args.y[i] = tile[(i + 1) % kThreads];
}

TEST(SimtFaults, UninitialisedShared) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&partly_written_kernel<0>);
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(&partly_written_kernel<1>, {}, checked(policy));
        EXPECT_EQ(outcome.report.uninitialised, 1U) << outcome.report.text();
    }
}
TEST(SimtFaults, UninitialisedSharedIsNan) {
    DeviceBuffer<float> x(std::vector<float>(64, 1.0F), "x"), y(std::size_t{64}, "y");
    Options options;
    options.races_are_faults = false;
    launch(make_launch("p", &partly_written_kernel<1>, Args{x.data(), y.data(), nullptr, 0}, {1},
                       {64}),
           options);
    EXPECT_TRUE(std::isnan(y[62]));
}

template <int kFault>
__global__ void count_kernel(Args args) {
    if constexpr (kFault == 0) {
        atomicAdd(args.flags, 1U);
    } else if constexpr (kFault == 1) {
        *args.flags += 1;
    } else {
        if (threadIdx.x == 0) {
            *args.flags += 1;
        } else {
            atomicAdd(args.flags, 1U);
        }
    }
}

TEST(SimtFaults, CounterThatIsNotAtomic) {
    CAROUSEL_REQUIRE_RACES();
    expect_clean(&count_kernel<0>, {.grid = {2}});
    expect_race(&count_kernel<1>, {.grid = {2}});
}
TEST(SimtFaults, CounterThatIsNotAlwaysAtomic) {
    CAROUSEL_REQUIRE_RACES();
    expect_race(&count_kernel<2>, {.grid = {2}});
}

TEST(SimtFaults, KnownRaceIsSeenByDefaultOrder) {
    CAROUSEL_REQUIRE_RACES();
    const Outcome outcome = run(&two_rounds_kernel<1>, {}, checked(Policy::kAscending));
    ASSERT_GT(outcome.report.races, 0U);
    ASSERT_FALSE(outcome.report.messages.empty());
    EXPECT_THAT(outcome.report.messages[0], HasSubstr("executor_faults_test.cpp:"));
    EXPECT_THAT(outcome.report.messages[0], HasSubstr("not ordered after the"));
    Options unchecked(Policy::kAscending);
    unchecked.races = false;
    EXPECT_EQ(run(&two_rounds_kernel<1>, {}, unchecked).report.races, 0U);
}

}  // namespace
}  // namespace carousel::simt
