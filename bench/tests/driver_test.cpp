#include "bench/core/driver.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "carousel/error.hpp"

namespace carousel::bench {
namespace {

/// A machine whose speed drifts: every turn takes a little longer than the one before, as under a
/// falling clock, and the clock of the driver runs with it.
struct FakeMachine {
    double now = 0.0, drift = 1.0;
    std::vector<std::string> calls;

    Contender contender(const std::string& name, double ms, double error = 0.0) {
        return {name,
                [this, name, error] {
                    calls.push_back("check " + name);
                    return error;
                },
                [this, name] { calls.push_back("warm " + name); },
                [this, name, ms] {
                    calls.push_back("turn " + name);
                    drift *= 1.001;
                    now += ms * drift;
                    return ms * drift;
                }};
    }
    DriverOptions options() {
        DriverOptions o;
        o.now_ms = [this] { return now; };
        o.budget_ms = 0.0;
        o.min_pairs = 20;
        return o;
    }
    int count(const std::string& call) const {
        int n = 0;
        for (const std::string& c : calls) n += c == call;
        return n;
    }
};

TEST(BenchDriver, QuantilesInterpolate) {
    const Quantiles q = quantiles_of({5.0, 1.0, 2.0, 4.0, 3.0});
    EXPECT_DOUBLE_EQ(q.median, 3.0);
    EXPECT_DOUBLE_EQ(q.p10, 1.4);
    EXPECT_DOUBLE_EQ(q.p90, 4.6);
    EXPECT_DOUBLE_EQ(quantiles_of({7.0}).p90, 7.0);
    EXPECT_DOUBLE_EQ(quantiles_of({}).median, 0.0);
    EXPECT_DOUBLE_EQ(quantiles_of({1.0, 2.0}).median, 1.5);
}

TEST(BenchDriver, ASlowedContenderShowsAsSlower) {
    FakeMachine machine;
    const Verdict v = compare(machine.contender("ours", 1.0), {machine.contender("peer", 1.5)},
                              machine.options());
    ASSERT_EQ(v.best, 0);
    EXPECT_NEAR(v.best_peer()->ratio.median, 1.5, 0.01);  // in spite of the drift
    EXPECT_LE(v.best_peer()->ratio.p10, v.best_peer()->ratio.median);
    EXPECT_GE(v.best_peer()->ratio.p90, v.best_peer()->ratio.median);

    FakeMachine again;
    const Verdict slower =
        compare(again.contender("ours", 3.0), {again.contender("peer", 1.5)}, again.options());
    EXPECT_NEAR(slower.best_peer()->ratio.median, 0.5, 0.01);
}

TEST(BenchDriver, SidesAlternateAndTakeTurnsInBeginning) {
    FakeMachine machine;
    DriverOptions options = machine.options();
    options.min_pairs = 2;
    compare(machine.contender("a", 1.0), {machine.contender("b", 1.0)}, options);
    const std::vector<std::string> expected{"check a", "warm a", "check b", "warm b",
                                            "turn a",  "turn b", "turn b",  "turn a"};
    EXPECT_EQ(machine.calls, expected);
}

TEST(BenchDriver, AWrongResultIsRefusedBeforeItIsTimed) {
    for (const double error : {1e-3, std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity()}) {
        FakeMachine machine;
        const Verdict v =
            compare(machine.contender("ours", 1.0),
                    {machine.contender("wrong", 0.1, error), machine.contender("right", 2.0)},
                    machine.options());
        EXPECT_EQ(machine.count("turn wrong"), 0);
        EXPECT_EQ(machine.count("warm wrong"), 0);
        EXPECT_NE(v.peers[0].refused.find("wrong result"), std::string::npos);
        ASSERT_EQ(v.best, 1);
        EXPECT_NEAR(v.best_peer()->ratio.median, 2.0, 0.02);
    }
}

TEST(BenchDriver, OursBeingWrongTimesNothing) {
    FakeMachine machine;
    const Verdict v = compare(machine.contender("ours", 1.0, 0.5), {machine.contender("peer", 1.0)},
                              machine.options());
    EXPECT_FALSE(v.ours.refused.empty());
    EXPECT_EQ(v.best, -1);
    EXPECT_EQ(machine.count("turn peer"), 0);
}

TEST(BenchDriver, WhatThrowsIsRefusedWithItsReason) {
    FakeMachine machine;
    Contender refuses = machine.contender("refuses", 1.0);
    refuses.check = []() -> double { throw std::runtime_error("cuDNN: not supported"); };
    Contender breaks = machine.contender("breaks", 0.5);
    int turns = 0;
    breaks.turn = [&turns]() -> double {
        if (++turns == 3) throw std::runtime_error("out of memory");
        return 0.5;
    };
    const Verdict v = compare(machine.contender("ours", 1.0),
                              {refuses, breaks, machine.contender("peer", 1.0)}, machine.options());
    EXPECT_EQ(v.peers[0].refused, "cuDNN: not supported");
    EXPECT_EQ(v.peers[1].refused, "out of memory");
    EXPECT_TRUE(v.peers[1].turns_ms.empty());
    EXPECT_EQ(v.best, 2);
}

TEST(BenchDriver, ALostDeviceIsThrownOn) {
    const auto lose = [] { throw Error(ErrorCode::kDeviceLost, "gone"); };
    FakeMachine machine;
    Contender warming = machine.contender("warming", 1.0), turning = warming;
    warming.warm_up = lose;
    turning.turn = [lose]() -> double {
        lose();
        return 0.0;
    };
    const Contender ours = machine.contender("ours", 1.0);
    EXPECT_THROW(compare(ours, {warming}, machine.options()), Error);
    EXPECT_THROW(compare(ours, {turning}, machine.options()), Error);
    EXPECT_THROW(compare(turning, {ours}, machine.options()), Error);
}

TEST(BenchDriver, SlowPeersLeaveAndTheBestStays) {
    FakeMachine machine;
    const Verdict v = compare(machine.contender("ours", 1.0),
                              {machine.contender("slow", 9.0), machine.contender("near", 1.1),
                               machine.contender("best", 1.0)},
                              machine.options());
    EXPECT_EQ(machine.count("turn slow"), 2);
    EXPECT_EQ(machine.count("turn near"), 20);
    EXPECT_EQ(v.best_peer()->name, "best");
    EXPECT_GT(v.peers[0].ratio.median, 8.0);  // still reported
}

TEST(BenchDriver, RunsAsLongAsTheBudgetLasts) {
    FakeMachine machine;
    DriverOptions options = machine.options();
    options.min_pairs = 3;
    options.budget_ms = 100.0;
    compare(machine.contender("a", 5.0), {machine.contender("b", 5.0)}, options);
    EXPECT_NEAR(machine.count("turn a"), 10, 1);
}

TEST(BenchDriver, WhatIsNoPeerIsTimedAndNeverTheBest) {
    FakeMachine machine;
    Contender floor = machine.contender("floor", 0.1), stream = machine.contender("stream", 9.0);
    floor.is_peer = stream.is_peer = false;
    const Verdict v = compare(machine.contender("ours", 1.0),
                              {floor, stream, machine.contender("peer", 2.0)}, machine.options());
    EXPECT_EQ(v.best_peer()->name, "peer");
    EXPECT_EQ(machine.count("turn stream"), 20);
    EXPECT_NEAR(v.peers[0].ratio.median, 0.1, 0.001);
}

TEST(BenchDriver, OnlyThoseOfAGroupLeaveForEachOther) {
    FakeMachine machine;
    Contender plain = machine.contender("plain", 3.0), any = machine.contender("any", 1.0);
    Contender other = machine.contender("other", 5.0);
    plain.group = any.group = "first";
    other.group = "second";
    const Verdict v =
        compare(machine.contender("ours", 1.0), {plain, any, other}, machine.options());
    EXPECT_EQ(machine.count("turn plain"), 2);
    EXPECT_EQ(machine.count("turn other"), 20);
    EXPECT_EQ(v.best_peer()->name, "any");
}

TEST(BenchDriver, LaterVisitsCountAlike) {
    FakeMachine machine;
    DriverOptions options = machine.options();
    options.min_pairs = 4;
    options.drop_factor = 10.0;
    Verdict all = compare(machine.contender("ours", 1.0),
                          {machine.contender("a", 2.0), machine.contender("b", 1.9)}, options);
    EXPECT_EQ(all.best_peer()->name, "b");
    const Verdict later =
        compare(machine.contender("ours", 1.0),
                {machine.contender("b", 4.0), machine.contender("a", 2.0)}, options);
    append(all, later);
    EXPECT_EQ(all.ours.turns_ms.size(), 8u);
    ASSERT_EQ(all.peers.size(), 2u);
    EXPECT_EQ(all.peers[1].ratios.size(), 8u);
    EXPECT_NEAR(all.peers[1].ratio.median, (1.9 + 4.0) / 2, 0.01);
    EXPECT_NEAR(all.peers[1].ratio.p90, 4.0, 0.01);
    EXPECT_EQ(all.best_peer()->name, "a");

    Verdict broken = later;
    broken.peers[1].refused = "out of memory";
    append(all, broken);
    EXPECT_EQ(all.best_peer()->name, "b");
    EXPECT_EQ(all.peers[0].refused, "out of memory");
}

}  // namespace
}  // namespace carousel::bench
