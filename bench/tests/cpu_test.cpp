#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "bench/core/carousel_side.hpp"
#include "bench/core/report.hpp"
#include "bench/core/row_bench.hpp"
#include "bench/cpu/cpu_bound.hpp"
#include "bench/cpu/cpu_flags.hpp"
#include "bench/cpu/cpu_venue.hpp"
#include "bench/cpu/onednn_side.hpp"
#include "bench/cpu/torch_side.hpp"
#include "carousel/error.hpp"

// The comparison on the CPU: real sides on small rows, and sides that take a set time.

namespace carousel::bench {
namespace {

GridCase grid_case(const std::string& line) { return make_case(parse_grid_row("x", line)); }

/// Carousel, and a set time more in every pass.
class SlowedSide final : public Side {
public:
    SlowedSide(const Problem& p, Arena& a, double extra_ms, double wrong_by)
        : carousel_(p, a, Algorithm::kAuto, 1), extra_ms_(extra_ms), wrong_by_(wrong_by) {}
    std::string name() const override { return "slowed"; }
    std::size_t workspace_bytes() const override { return carousel_.workspace_bytes(); }
    std::size_t reserve_bytes() const override { return carousel_.reserve_bytes(); }
    std::string cannot(Pass pass) const override {
        return pass == Pass::kBackwardData ? "it has none" : "";
    }
    void forward(StreamRef stream, bool training) override {
        carousel_.forward(stream, training);
        wait();
    }
    void backward(StreamRef stream, bool weights) override {
        carousel_.backward(stream, weights);
        wait();
    }
    Outcome outcome(bool states_and_weights) override {
        Outcome out = carousel_.outcome(states_and_weights);
        out.hy[0] += wrong_by_;
        return out;
    }

private:
    void wait() const {
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(extra_ms_));
    }
    CarouselSide carousel_;
    double extra_ms_, wrong_by_;
};

SideMaker carousel_maker() {
    SideMaker m;
    m.name = "carousel";
    m.make = [](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
        return std::make_unique<CarouselSide>(p, a, Algorithm::kAuto, 1);
    };
    return m;
}

SideMaker slowed_maker(double extra_ms, double wrong_by = 0.0) {
    SideMaker m;
    m.name = "slowed";
    m.make = [=](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
        return std::make_unique<SlowedSide>(p, a, extra_ms, wrong_by);
    };
    return m;
}

class BenchOnCpu : public testing::Test {
protected:
    BenchOnCpu() {
        venue_.rest_ms = 0.0;
        venue_.turn = {0.0, 0.1};
        venue_.looks = false;
        options_.pass_ms = 0.0;
        options_.min_pairs = 3;
        options_.reference_threads = 1;
    }
    GridCase case_ = grid_case("lstm H8 N2 T20");
    CpuVenue venue_{1};
    RowOptions options_;
};

TEST_F(BenchOnCpu, ASlowedPeerShowsAsSlower) {
    const RowResult result =
        run_row(case_, venue_, carousel_maker(), {slowed_maker(2.0)}, options_);
    ASSERT_EQ(result.failed, "");
    ASSERT_EQ(result.passes.size(), 5u);
    for (const PassResult& pass : result.passes) {
        const Standing& peer = pass.verdict.peers.at(0);
        if (pass.pass == Pass::kBackwardData) {
            EXPECT_EQ(peer.refused, "it has none");
            EXPECT_EQ(pass.verdict.best, -1);
        } else {
            EXPECT_GT(peer.ratio.median, 1.0) << pass_name(pass.pass);
            EXPECT_GE(peer.ms.p10, 2.0) << pass_name(pass.pass);
        }
    }
}

TEST_F(BenchOnCpu, AWrongResultIsNotTimed) {
    const RowResult result =
        run_row(case_, venue_, carousel_maker(), {slowed_maker(0.0, 1.0)}, options_);
    ASSERT_EQ(result.left_out.size(), 1u);
    EXPECT_NE(result.left_out[0].second.find("wrong result"), std::string::npos);
    for (const PassResult& pass : result.passes) EXPECT_TRUE(pass.verdict.peers.empty());
}

TEST_F(BenchOnCpu, AnotherPrecisionMayBeFurtherOff) {
    SideMaker coarse = slowed_maker(0.0, 1e-3);
    coarse.precision = DType::kBf16;
    coarse.is_peer = false;
    const RowResult result = run_row(case_, venue_, carousel_maker(), {coarse}, options_);
    ASSERT_EQ(result.left_out.size(), 0u);
    EXPECT_EQ(result.passes[0].verdict.peers.size(), 1u);
    EXPECT_EQ(result.passes[0].verdict.best, -1);
}

TEST_F(BenchOnCpu, TurnsOfAllVisitsCount) {
    RowBench bench(case_, venue_, carousel_maker(), {slowed_maker(0.0)}, options_);
    bench.visit();
    const std::size_t turns = bench.result().passes.at(0).verdict.ours.turns_ms.size();
    bench.visit();
    bench.visit();
    ASSERT_EQ(bench.result().passes.size(), 5u);
    EXPECT_EQ(bench.result().passes[0].verdict.ours.turns_ms.size(), 3 * turns);
    EXPECT_EQ(bench.result().passes[0].verdict.peers.at(0).ratios.size(), 3 * turns);
    ASSERT_EQ(bench.result().passes[0].visits.size(), 3u);
    EXPECT_GT(bench.result().passes[0].visits[2].ratios.at("slowed").median, 0.0);
}

TEST_F(BenchOnCpu, TheMachineIsLookedAtBeforeAndAfter) {
    CpuVenue venue(1);
    venue.rest_ms = 0.0;
    venue.turn = {0.0, 0.0};
    options_.passes = {Pass::kInfer};
    options_.min_pairs = 1;
    const RowResult result = run_row(case_, venue, carousel_maker(), {}, options_);
    ASSERT_EQ(result.passes.size(), 1u);
    for (const char* measure : {"peak_gflops", "read_gb_s", "handoff_ns"}) {
        const std::vector<double> values = result.passes[0].looks(measure);
        ASSERT_EQ(values.size(), 2u) << measure;
        EXPECT_GT(values[0], 0.0) << measure;
    }
}

TEST(BenchOnednn, IsWithinRoundingOfTheReference) {
    for (const char* line : {"lstm H24 N3 T5 L2", "lstm H16 N1 T4 I8", "gru H16 N5 T8 L2",
                             "rnn_tanh H16 N5 T8 L3", "rnn_relu H16 N2 T4"}) {
        for (const WeightFormat format : {WeightFormat::kAny, WeightFormat::kPlain}) {
            const GridCase c = grid_case(line);
            const Problem p(c, Device::cpu());
            OnednnSide side(p, format, 1);
            side.train({});
            const Outcome reference = reference_outcome(c, true, 1);
            EXPECT_LT(relative_error(p, side.outcome(false), reference), 1e-5) << line;
            side.forward({}, true);
            side.backward({}, true);  // gradients are set anew, not added to
            EXPECT_LT(relative_error(p, side.outcome(false), reference), 1e-5) << line;
            side.forward({}, false);
            EXPECT_LT(relative_error(p, side.outcome(true), reference), 1e-5) << line;
            EXPECT_GT(side.reserve_bytes(), 0u);
        }
    }
}

TEST(BenchOnednn, SaysWhatItHasNot) {
    for (const auto& [line, word] : {std::pair{"lstm H8 N2 T3 L2 I4", "input"},
                                     {"lstm H8 N2 T3 D2", "direction"},
                                     {"lstm H8 N2 T3 lengths=0.5", "lengths"},
                                     {"lstm H8 N2 T3 dtypes=f64", "f64"},
                                     {"gru_reset_before H8 N2 T3", "gru_reset_before"}}) {
        const Problem p(grid_case(line), Device::cpu());
        try {
            OnednnSide side(p, WeightFormat::kAny, 1);
            FAIL() << line;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
            EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
        }
    }
}

TEST(BenchTorch, AnAbsentPythonIsSaid) {
    for (const char* python : {"/no/such/python", "/bin/false", "false"}) {
        try {
            TorchProcess process(python, 1);
            FAIL() << python;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
            const std::string sentence = error.what();
            EXPECT_NE(sentence.find("torch"), std::string::npos) << sentence;
            EXPECT_NE(sentence.find(python), std::string::npos) << sentence;
        }
    }
}

// With CAROUSEL_TORCH_PYTHON naming a python that has torch.
TEST(BenchTorch, IsWithinRoundingOfTheReference) {
    const char* python = std::getenv("CAROUSEL_TORCH_PYTHON");
    if (python == nullptr) GTEST_SKIP() << "CAROUSEL_TORCH_PYTHON is not set";
    const auto process = std::make_shared<TorchProcess>(python, 1);
    for (const char* line : {"lstm H24 N3 T5 L2", "gru H16 N5 T8 D2", "rnn_tanh H16 N5 T8 I4",
                             "rnn_relu H16 N2 T4", "lstm H16 N5 T8 lengths=0.25"}) {
        const GridCase c = grid_case(line);
        const Problem p(c, Device::cpu());
        const Outcome reference = reference_outcome(c, true, 1);
        TorchSide side(p, process, DType::kF32);
        side.train({});
        EXPECT_LT(relative_error(p, side.outcome(false), reference), 1e-5) << line;
        side.forward({}, true);
        side.backward({}, true);
        EXPECT_LT(relative_error(p, side.outcome(false), reference), 1e-5) << line;
        for (const Pass pass : kPasses) {
            EXPECT_GT(side.own_turn_ms(pass, {0.0, 0.0}).value_or(0.0), 0.0) << line;
        }
    }
    const Problem before(grid_case("gru_reset_before H8 N2 T3"), Device::cpu());
    EXPECT_THROW(TorchSide(before, process, DType::kF32), Error);
    const Problem after(grid_case("gru H8 N2 T3"), Device::cpu());
    TorchSide(after, process, DType::kF32).forward({}, true);  // an error ends one side alone
}

TEST(BenchCpuBound, CountsProductsAndReadsOfRecurrentWeights) {
    const GridCase c = grid_case("lstm H64 N32 T10 L2");
    EXPECT_EQ(recurrent_weight_bytes(c), 4u * 64 * 64 * 4);
    const double flops = forward_flops(c);
    // With plenty of bandwidth the peak binds alone.
    EXPECT_NEAR(cpu_lower_bound(c, Pass::kForward, 100.0, 1e9).us(), flops / 1e5, 1e-9);
    EXPECT_NEAR(cpu_lower_bound(c, Pass::kBackward, 100.0, 1e9).us(), 2.0 * flops / 1e5, 1e-9);
    EXPECT_NEAR(cpu_lower_bound(c, Pass::kTrain, 100.0, 1e9).us(), 3.0 * flops / 1e5, 1e-9);
    // With hardly any, every step of both layers reads its weights; half the products are others.
    const double reads = 2.0 * 10 * 4 * 64 * 64 * 4 / 1e3;
    EXPECT_NEAR(cpu_lower_bound(c, Pass::kInfer, 1e9, 1.0).us(), reads, 1e-3 * reads);
    EXPECT_NEAR(cpu_lower_bound(c, Pass::kTrain, 1e9, 1.0).us(), 2.0 * reads, 1e-3 * reads);
}

TEST(BenchCpuFlags, DefaultsAndMistakes) {
    const CpuFlags f = parse_cpu_flags({});
    EXPECT_EQ(f.grid, "cpu");
    EXPECT_NE(f.shapes.find("cpu.txt"), std::string::npos);
    EXPECT_TRUE(f.peer_onednn && !f.peer_torch);
    EXPECT_EQ(cases_of(f).size(), 21u);
    const CpuFlags all = parse_cpu_flags({"--grid", "headline", "--peer", "onednn,torch"});
    EXPECT_NE(all.shapes.find("grid.txt"), std::string::npos);
    EXPECT_TRUE(all.peer_torch);
    for (const GridCase& c : cases_of(all)) EXPECT_EQ(c.spec.dtype, DType::kF32);
    EXPECT_THROW(parse_cpu_flags({"--peer", "cudnn"}), Error);
    EXPECT_THROW(parse_cpu_flags({"--visits", "0"}), Error);
    EXPECT_THROW(cases_of(parse_cpu_flags({"--row", "("})), Error);
    EXPECT_THROW(cases_of(parse_cpu_flags({"--row", "nothing like it"})), Error);
}

}  // namespace
}  // namespace carousel::bench
