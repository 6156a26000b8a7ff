#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bench/core/carousel_side.hpp"
#include "bench/core/row_bench.hpp"
#include "bench/gpu/cudnn_side.hpp"
#include "bench/gpu/gpu_venue.hpp"
#include "bench/tests/simt/cudnn_stand_in.hpp"
#include "bench/tests/simt/wall_timer.hpp"
#include "carousel/error.hpp"
#include "tests/simt/simt_device.hpp"

// Carousel beside the comparator with cuDNN, as on a card: the kernels run on the CPU, and cuDNN is
// one that refuses what the real one's documentation refuses, and computes the rest. The device
// runs what is in its queues when somebody waits, so the stand-in enqueues, too: what is enqueued
// on another stream than the venue's, or not recorded with the rest, shows.

namespace carousel::bench {
namespace {

using testing::HasSubstr;

constexpr int kDevice = 59;

/// What the documentation refuses; empty = nothing.
std::string documented_refusal(const GridCase& c, const CudnnOptions& o) {
    const bool persists = o.algo != CudnnAlgo::kStandard;
    if (persists && c.spec.proj_size > 0) return "a projection is for LSTM with";
    if (c.spec.dtype == DType::kTf32 && o.math == CudnnMath::kTensorOp) return "for 16-bit data";
    if (persists && c.row.lengths_from < 1.0) return "varied length";
    const bool is_static = persists && o.algo != CudnnAlgo::kPersistDynamic;
    if (is_static && c.spec.dtype == DType::kF64) return "take no CUDNN_DATA_DOUBLE";
    const bool plain = c.spec.cell == Cell::kRnnTanh || c.spec.cell == Cell::kRnnRelu;
    const std::int64_t most = plain ? 384 : 192;  // backward then goes on with another algorithm
    if (o.algo == CudnnAlgo::kSmallH && c.spec.hidden_size > most) return "hiddenSize is above";
    return "";
}

class CudnnOnSimt : public testing::Test {
protected:
    CudnnOnSimt() {
        venue.api = cuda::device_api(kDevice);
        venue.queue = venue.api->default_queue();
        venue.timer = &timer;
        venue.turn_ms = 0.0;
        venue.min_repetitions = 2;
        options.min_pairs = 1;
        options.pass_ms = 0.0;
        options.reference_threads = 1;
        options.screen_factor = 1e9;  // nobody is left out for being slow
    }

    SideMaker ours() {
        SideMaker maker;
        maker.name = "carousel";
        maker.make = [](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
            return std::make_unique<CarouselSide>(p, a);
        };
        return maker;
    }
    SideMaker cudnn(const CudnnOptions& o) {
        SideMaker maker;
        maker.name = "cudnn " + o.name();
        maker.resets = false;
        maker.make = [this, o](const Problem& p, Arena& a) {
            return make_cudnn_side(p, a, venue.api, o);
        };
        return maker;
    }

    /// Every option is timed in every pass, as a graph and in a stream, or refused as documented.
    void expect_all(const GridCase& c, const std::vector<CudnnOptions>& all) {
        std::vector<SideMaker> others;
        for (const CudnnOptions& o : all) others.push_back(cudnn(o));
        const RowResult result = run_row(c, venue, ours(), others, options);
        ASSERT_EQ(result.failed, "");
        ASSERT_EQ(result.passes.size(), c.inference_only ? 1U : 5U);
        for (const CudnnOptions& o : all) {
            SCOPED_TRACE(o.name());
            const std::string name = "cudnn " + o.name(), refusal = documented_refusal(c, o);
            std::string why;
            for (const auto& [side, reason] : result.left_out) {
                if (side == name) why = reason;
            }
            if (refusal.empty()) {
                EXPECT_EQ(why, "");
                expect_timed(result, name);
            } else {
                EXPECT_THAT(why, HasSubstr(refusal));
            }
        }
        EXPECT_THAT(fake.violations, testing::IsEmpty());
        const auto dynamic = std::count_if(all.begin(), all.end(), [](const CudnnOptions& o) {
            return o.algo == CudnnAlgo::kPersistDynamic;
        });
        EXPECT_LE(fake.live_objects, 1 + 2 * dynamic) << "the handle, and what was compiled";
    }

    static void expect_timed(const RowResult& result, const std::string& name) {
        EXPECT_LE(result.errors.at(name), allowed_error(result.passes[0].grid_case.spec.dtype));
        for (const PassResult& pass : result.passes) {
            int timed = 0;
            for (const Standing& standing : pass.verdict.peers) {
                if (standing.name != name + " graph" && standing.name != name + " stream") continue;
                EXPECT_EQ(standing.refused, "") << pass_name(pass.pass) << " " << standing.name;
                ++timed;
            }
            EXPECT_EQ(timed, 2) << pass_name(pass.pass);
        }
    }

    simt::InstalledDevice device{kDevice};
    CudnnOnDevice stand_in{*device};
    test::FakeCudnn& fake = stand_in.state;
    WallTimer timer{*device};
    GpuVenue venue;
    RowOptions options;
};

struct Line : CudnnOnSimt, testing::WithParamInterface<const char*> {};

TEST_P(Line, EveryCandidateIsTimedOrRefusedAsDocumented) {
    const GridCase c = make_case(parse_grid_row("x", GetParam()));
    ASSERT_EQ(cudnn_cannot(c), "");
    expect_all(c, cudnn_candidates(c, true));
}

INSTANTIATE_TEST_SUITE_P(
    Cudnn, Line,
    testing::Values("lstm H8 N2 T3 I5 L2", "gru H6 N3 T4 D2 L2 dtypes=f16",
                    "rnn_tanh H5 N2 T4 I3 dtypes=tf32", "rnn_relu H8 N3 T2 D2 dtypes=bf16",
                    "lstm H6 N4 T5 L2 D2 lengths=0.25", "gru H6 N4 T5 lengths=0.25 dtypes=bf16",
                    "gru H6 N2 T20 lengths=0.25", "lstm H8 N2 T3 input=skip",
                    "gru H4 N2 T3 dtypes=f64", "lstm H8 N2 T3 pass=infer dtypes=f16",
                    "gru H6 N3 T20 reset=0.2", "gru H136 N1 T2", "rnn_relu H260 N1 T2",
                    "gru H193 N1 T2 pass=infer"));

TEST_F(CudnnOnSimt, ProjectionsAndBiasesFindTheirWeights) {
    for (const BiasMode bias : {BiasMode::kNone, BiasMode::kSingle, BiasMode::kDouble}) {
        SCOPED_TRACE(static_cast<int>(bias));
        GridCase c = make_case(parse_grid_row("x", "gru H6 N2 T3 I5 L2 D2"));
        c.spec.bias = bias;
        expect_all(c, {CudnnOptions{}});
        c = make_case(parse_grid_row("x", "lstm H6 N2 T3 I5 L2"));
        c.spec.bias = bias;
        c.spec.proj_size = 4;
        expect_all(c, cudnn_candidates(c));
    }
}

TEST_F(CudnnOnSimt, WorkGoesToTheQueueThatIsAskedFor) {
    // As late as events allow: what is on another queue runs at another time.
    for (const simt::QueueOrder order :
         {simt::QueueOrder::kSideLate, simt::QueueOrder::kSideEarly, simt::QueueOrder::kRandom}) {
        device->options().order = order;
        venue.queue = venue.api->make_queue();
        const GridCase c = make_case(parse_grid_row("x", "lstm H6 N3 T4 lengths=0.5"));
        expect_all(c, cudnn_candidates(c));
    }
}

/// cuDNN's side, but one that says that backward leaves the reserve alone.
class CarelessSide final : public Side {
public:
    explicit CarelessSide(std::unique_ptr<Side> side) : side_(std::move(side)) {}
    std::string name() const override { return side_->name(); }
    std::size_t workspace_bytes() const override { return side_->workspace_bytes(); }
    std::size_t reserve_bytes() const override { return side_->reserve_bytes(); }
    void forward(StreamRef stream, bool training) override { side_->forward(stream, training); }
    void backward(StreamRef stream, bool weights) override { side_->backward(stream, weights); }
    Outcome outcome(bool states) override { return side_->outcome(states); }

private:
    std::unique_ptr<Side> side_;
};

TEST_F(CudnnOnSimt, ABackwardPassOnAUsedReserveIsSeen) {
    const GridCase c = make_case(parse_grid_row("x", "gru H6 N2 T3"));
    SideMaker careless = cudnn({});
    careless.make = [make = careless.make](const Problem& p, Arena& a) {
        return std::make_unique<CarelessSide>(make(p, a));
    };
    options.passes = {Pass::kForward, Pass::kTrain};
    run_row(c, venue, ours(), {careless}, options);
    EXPECT_THAT(fake.violations, testing::IsEmpty()) << "forward comes first in these";
    options.passes = {Pass::kBackward};
    run_row(c, venue, ours(), {careless}, options);
    ASSERT_FALSE(fake.violations.empty());
    EXPECT_THAT(fake.violations[0], HasSubstr("not as forward left it"));
    fake.violations.clear();
}

TEST_F(CudnnOnSimt, TheDynamicKernelIsCompiledOnceForANetworkAndBatch) {
    const GridCase c = make_case(parse_grid_row("x", "lstm H7 I5 N3 T4"));
    CudnnOptions dynamic;
    dynamic.algo = CudnnAlgo::kPersistDynamic;
    expect_all(c, {dynamic});
    expect_all(c, {dynamic});
    EXPECT_EQ(fake.calls.at("cudnnBuildRNNDynamic"), 1);
    run_row(make_case(parse_grid_row("x", "lstm H7 I5 N4 T4")), venue, ours(), {cudnn(dynamic)},
            options);
    EXPECT_EQ(fake.calls.at("cudnnBuildRNNDynamic"), 2);
    expect_all(make_case(parse_grid_row("x", "lstm H8 I5 N4 T4")), {dynamic});
    EXPECT_EQ(fake.calls.at("cudnnBuildRNNDynamic"), 3);
}

TEST_F(CudnnOnSimt, WithoutACompilerTheDynamicKernelIsRefusedAlone) {
    fake.has_compiler = false;
    const GridCase c = make_case(parse_grid_row("x", "lstm H9 N2 T3"));
    CudnnOptions dynamic;
    dynamic.algo = CudnnAlgo::kPersistDynamic;
    const RowResult result = run_row(c, venue, ours(), {cudnn(dynamic), cudnn({})}, options);
    ASSERT_EQ(result.left_out.size(), 1U);
    EXPECT_EQ(result.left_out[0].first, "cudnn PERSIST_DYNAMIC default");
    EXPECT_THAT(result.left_out[0].second, HasSubstr("libnvrtc"));
    expect_timed(result, "cudnn STANDARD default");
}

TEST_F(CudnnOnSimt, CompilingEndsWithItsTime) {
    CudnnOptions dynamic;
    dynamic.algo = CudnnAlgo::kPersistDynamic;
    expect_all(make_case(parse_grid_row("x", "gru H10 N2 T3")), {dynamic});
    limit_cudnn_compiling(0.0);
    const GridCase c = make_case(parse_grid_row("x", "gru H11 N2 T3"));
    const RowResult result = run_row(c, venue, ours(), {cudnn(dynamic), cudnn({})}, options);
    limit_cudnn_compiling(90.0);
    ASSERT_EQ(result.left_out.size(), 1U);
    EXPECT_THAT(result.left_out[0].second, HasSubstr("--compile-s"));
    expect_timed(result, "cudnn STANDARD default");
}

TEST_F(CudnnOnSimt, OptionsThatTheRowsTensorsCannotHaveAreRefused) {
    const Problem problem(make_case(parse_grid_row("x", "gru H6 N2 T3 I5")), venue.device());
    Arena arena(problem);
    const auto refusal = [&](const CudnnOptions& o) -> std::string {
        try {
            make_cudnn_side(problem, arena, venue.api, o);
        } catch (const Error& error) {
            return error.code() == ErrorCode::kUnsupported ? error.what() : "another code";
        }
        return "";
    };
    CudnnOptions batch_major, skips, clips;
    batch_major.layout = CudnnLayout::kBatchMajor;
    skips.skip_input = true;
    clips.clip = 1.0;
    EXPECT_THAT(refusal(batch_major), HasSubstr("not batch-major"));
    EXPECT_THAT(refusal(skips), HasSubstr("inputSize equal to hiddenSize"));
    EXPECT_THAT(refusal(clips), HasSubstr("clipping is for LSTM"));
    EXPECT_EQ(refusal({}), "");
}

}  // namespace
}  // namespace carousel::bench
