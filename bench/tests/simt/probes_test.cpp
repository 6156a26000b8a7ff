#include <gtest/gtest.h>

#include <string>

#include "bench/probes/probes.hpp"
#include "tests/simt/simt.hpp"

// The probes' real source on the CPU, in several orders of threads: whether one would hang, meet wrong
// data or overrun a buffer is decided here, not on a card.

namespace carousel::bench::probes {
namespace {

struct Checked {
    simt::DeviceBuffer<std::uint32_t> status{1, "status"};
    Common common;

    explicit Checked(std::uint32_t iterations) {
        status[0] = kFine;
        common.iterations = iterations;
        common.status = status.data();
        // What waits for ever is a deadlock to the executor, long before this.
        common.timeout_ns = std::uint64_t{600} * 1'000'000'000;
    }
    void run(const cuda::Launch& launch, simt::Options options, bool races) const {
        options.races = races && simt::can_check_races();
        const simt::Report report = simt::launch(launch, options);
        EXPECT_EQ(report.races, 0U) << launch.kernel << "\n" << report.text();
        EXPECT_EQ(report.uninitialised, 0U) << launch.kernel << "\n" << report.text();
        EXPECT_EQ(status[0], static_cast<std::uint32_t>(kFine)) << launch.kernel;
    }
};

// Not for races: that a message is read before the next but one overwrites it rests on data (the next
// is made of it, and the one after needs the next), which the checker does not count as order.
TEST(BenchProbes, MessagesGoRoundAndToAllOfACluster) {
    for (const simt::Options& options : simt::schedules(3)) {
        for (const unsigned cluster : {2U, 4U}) {
            for (const Exchange exchange :
                 {Exchange::kRing, Exchange::kAllToAll, Exchange::kAllToAllBulk}) {
                const Checked checked(5);
                checked.run(cluster_exchange(checked.common, exchange, cluster, 2, 512), options,
                            false);
            }
        }
    }
}

TEST(BenchProbes, VectorsGoThroughL2) {
    for (const simt::Options& options : simt::schedules(3)) {
        // Self-validating words are data and signal at once, by relaxed accesses: nothing to race.
        for (const Hop hop : {Hop::kSelfValidating, Hop::kReleaseFlag, Hop::kCounter}) {
            const Checked checked(5);
            const unsigned blocks = 6, bytes = 16 * 12;
            const simt::DeviceBuffer<std::uint32_t> data(2 * bytes / 4, "data");
            const simt::DeviceBuffer<std::uint32_t> flags(128 * 32, "flags");
            for (std::size_t i = 0; i < data.size(); ++i) data[i] = 0;
            for (std::size_t i = 0; i < flags.size(); ++i) flags[i] = 0;
            checked.run(l2_hop(checked.common, hop, blocks, bytes, data.data(), flags.data()),
                        options, true);
        }
    }
}

TEST(BenchProbes, BarriersHoldEveryBlock) {
    for (const simt::Options& options : simt::schedules(3)) {
        const Checked checked(7);
        const simt::DeviceBuffer<std::uint32_t> counter(1, "counter");
        counter[0] = 0;
        checked.run(grid_barrier(checked.common, 5, counter.data()), options, true);
        EXPECT_EQ(counter[0], 35U);
    }
}

}  // namespace
}  // namespace carousel::bench::probes
