// The executor on kernels that are right: every thread runs once, under every schedule, with the
// results CUDA defines.

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "kernels/cuda/device.cuh"
#include "simt/simt.hpp"

namespace carousel::simt {
namespace {

using cuda::make_launch;

struct Arrays {
    const float* x = nullptr;
    float* y = nullptr;
    std::int64_t n = 0;
};

__global__ void scale_kernel(Arrays args) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < args.n) {
        args.y[i] = 2 * args.x[i];
    }
}

__global__ void block_sum_kernel(Arrays args) {
    CAROUSEL_SHARED(float, partial, 8);
    float sum = threadIdx.x < args.n ? args.x[threadIdx.x] : 0.0F;
    for (int distance = 16; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
    }
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0.0F;
        for (float part : partial) {
            total += part;
        }
        args.y[blockIdx.x] = total;
    }
}

struct IndexArgs {
    int* seen;
};

__global__ void index_kernel(IndexArgs args) {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    args.seen[block * (blockDim.x * blockDim.y * blockDim.z) + thread] += 1;
}

struct WarpArgs {
    int* results;  ///< [6,32]
};

__global__ void warp_kernel(WarpArgs args) {
    const int lane = static_cast<int>(threadIdx.x);
    const unsigned all = 0xFFFFFFFFU;
    args.results[lane] = __shfl_up_sync(all, lane, 3, 8);
    args.results[32 + lane] = __shfl_down_sync(all, lane, 3, 8);
    args.results[64 + lane] = __shfl_xor_sync(all, lane, 5);
    args.results[96 + lane] = __shfl_sync(all, lane, lane / 8 * 8 + 9, 16);
    args.results[128 + lane] = static_cast<int>(__ballot_sync(all, lane % 3 == 0));
    args.results[160 + lane] = __reduce_max_sync(all, (lane * 7) % 32);
}

struct VoteArgs {
    int* counts;  ///< [3,blockDim]
};

__global__ void block_vote_kernel(VoteArgs args) {
    const unsigned i = threadIdx.x;
    args.counts[i] = __syncthreads_count(i % 5 == 0);
    args.counts[blockDim.x + i] = __syncthreads_or(i == 7);
    args.counts[2 * blockDim.x + i] = __syncthreads_and(i != 7);
}

struct CounterArgs {
    unsigned* counter;
    unsigned* order;
};

__global__ void counter_kernel(CounterArgs args) {
    args.order[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(args.counter, 1U);
}

TEST(SimtLaunch, ElementwiseUnderEverySchedule) {
    constexpr std::size_t kCount = 5000;
    std::vector<float> values(kCount);
    std::iota(values.begin(), values.end(), 0.0F);
    for (const Options& options : schedules(6)) {
        DeviceBuffer<float> x(values, "x"), y(kCount, "y");
        const Report report = launch(
            make_launch("scale", &scale_kernel, Arrays{x.data(), y.data(), kCount}, {40}, {128}),
            options);
        EXPECT_EQ(report.threads, 40U * 128U);
        EXPECT_EQ(report.races, 0U) << report.text();
        for (std::size_t i = 0; i < kCount; ++i) {
            ASSERT_EQ(y[i], 2 * values[i]);
        }
    }
}

TEST(SimtLaunch, BlockSumUnderEverySchedule) {
    const std::vector<float> values(200, 1.5F);
    for (const Options& options : schedules(6)) {
        DeviceBuffer<float> x(values, "x"), y(9, "y");
        const Report report = launch(make_launch("block_sum", &block_sum_kernel,
                                                 Arrays{x.data(), y.data(), 200}, {9}, {256}),
                                     options);
        EXPECT_EQ(report.races, 0U) << report.text();
        for (float total : y.read()) {
            EXPECT_EQ(total, 300.0F);
        }
    }
}

TEST(SimtLaunch, EveryIndexOnce) {
    for (const Options& options : schedules(6)) {
        DeviceBuffer<int> seen(std::vector<int>(2 * 3 * 5 * 24), "seen");
        launch(make_launch("index", &index_kernel, IndexArgs{seen.data()}, {2, 3, 5}, {4, 3, 2}),
               options);
        for (int count : seen.read()) {
            EXPECT_EQ(count, 1);
        }
    }
}

TEST(SimtLaunch, WarpOperations) {
    for (const Options& options : schedules(6)) {
        DeviceBuffer<int> results(6 * 32, "results");
        launch(make_launch("warp", &warp_kernel, WarpArgs{results.data()}, {1}, {32}), options);
        for (int lane = 0; lane < 32; ++lane) {
            const std::size_t i = static_cast<std::size_t>(lane);
            EXPECT_EQ(results[i], lane % 8 < 3 ? lane : lane - 3);
            EXPECT_EQ(results[32 + i], lane % 8 > 4 ? lane : lane + 3);
            EXPECT_EQ(results[64 + i], lane ^ 5);
            EXPECT_EQ(results[96 + i], lane / 16 * 16 + (lane / 8 * 8 + 9) % 16);
            EXPECT_EQ(static_cast<unsigned>(results[128 + i]), 0x49249249U);
            EXPECT_EQ(results[160 + i], 31);
        }
    }
}

TEST(SimtLaunch, BlockVotes) {
    for (const Options& options : schedules(3)) {
        DeviceBuffer<int> counts(3 * 100, "counts");
        launch(make_launch("block_vote", &block_vote_kernel, VoteArgs{counts.data()}, {1}, {100}),
               options);
        for (std::size_t i = 0; i < 100; ++i) {
            EXPECT_EQ(counts[i], 20);
            EXPECT_EQ(counts[100 + i], 1);
            EXPECT_EQ(counts[200 + i], 0);
        }
    }
}

TEST(SimtLaunch, SchedulesDiffer) {
    std::set<std::vector<unsigned>> orders;
    for (const Options& options : schedules(6)) {
        DeviceBuffer<unsigned> counter(std::vector<unsigned>(1), "counter"), order(256, "order");
        launch(make_launch("counter", &counter_kernel, CounterArgs{counter.data(), order.data()},
                           {4}, {64}),
               options);
        EXPECT_EQ(counter[0], 256U);
        orders.insert(order.read());
    }
    EXPECT_EQ(orders.size(), 6U);
}

TEST(SimtLaunch, SameSeedSameOrder) {
    std::vector<unsigned> first;
    for (int repeat = 0; repeat < 2; ++repeat) {
        DeviceBuffer<unsigned> counter(std::vector<unsigned>(1), "counter"), order(256, "order");
        launch(make_launch("counter", &counter_kernel, CounterArgs{counter.data(), order.data()},
                           {4}, {64}),
               Options(Policy::kRandom, 5));
        if (repeat == 1) {
            EXPECT_EQ(order.read(), first);
        }
        first = order.read();
    }
}

TEST(SimtLaunch, BuffersStartAsNan) {
    DeviceBuffer<float> x(3, "x");
    DeviceBuffer<double> z(3, "z");
    EXPECT_TRUE(std::isnan(x[2]));
    EXPECT_TRUE(std::isnan(z[0]));
}

}  // namespace
}  // namespace carousel::simt
