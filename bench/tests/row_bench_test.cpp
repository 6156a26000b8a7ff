#include "bench/core/row_bench.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "bench/core/report.hpp"
#include "bench/gpu/gpu_venue.hpp"
#include "carousel/error.hpp"
#include "tests/support/queued_device.hpp"

// A whole row without a card: sides that give right or wrong results at a set price, over a device
// whose work happens late, so that a turn which does not wait would measure nothing.

namespace carousel::bench {
namespace {

constexpr int kDevice = 57;
constexpr std::size_t kUnitBytes = 4096;

/// Time is what the device has done: a tenth of a millisecond for each piece of work.
class WorkTimer final : public QueueTimer {
public:
    explicit WorkTimer(test::QueuedDevice& device) : device_(device) {}
    void mark(cuda::Queue, int i) override {
        for (; !device_.idle(); ++done_) device_.step();
        if (points_.size() <= static_cast<std::size_t>(i)) {
            points_.resize(static_cast<std::size_t>(i) + 1);
        }
        points_[static_cast<std::size_t>(i)] = done_;
    }
    double between_ms(int from, int to) override {
        return 0.1 * static_cast<double>(points_[static_cast<std::size_t>(to)] -
                                         points_[static_cast<std::size_t>(from)]);
    }

private:
    test::QueuedDevice& device_;
    std::int64_t done_ = 0;
    std::vector<std::int64_t> points_;
};

struct Behaviour {
    int units = 1;               ///< of work in each pass
    double wrong_by = 0.0;       ///< added to an element of hy on small data
    double wrong_at_size = 0.0;  ///< and on the row's own
    std::string refuses;         ///< message of the constructor's exception
    bool breaks_device = false;  ///< its backward takes the device with it, in other words
    bool fails = false;          ///< its backward fails
    bool replays_wrong = false;
    bool changes_reserve = false;
    int backwards_without_reserve = 0;  ///< counted
};

class FakeSide final : public Side {
public:
    FakeSide(const Problem& problem, Arena& arena, std::shared_ptr<cuda::DeviceApi> api,
             std::string name, Behaviour& behaviour)
        : problem_(problem),
          arena_(arena),
          api_(std::move(api)),
          name_(std::move(name)),
          behaviour_(behaviour) {
        if (!behaviour.refuses.empty()) throw Error(ErrorCode::kUnsupported, behaviour.refuses);
        arena.need(kUnitBytes, kUnitBytes);
    }
    std::string name() const override { return name_; }
    std::size_t workspace_bytes() const override { return kUnitBytes; }
    std::size_t reserve_bytes() const override { return kUnitBytes; }
    bool backward_changes_reserve() const override { return behaviour_.changes_reserve; }
    void forward(StreamRef stream, bool) override { work({stream.native}); }
    void backward(StreamRef stream, bool) override {
        if (behaviour_.breaks_device) lose_device();
        if (behaviour_.breaks_device || behaviour_.fails) {
            throw Error(ErrorCode::kCuda, "execution failed");
        }
        work({stream.native});
    }
    Outcome outcome(bool states_and_weights) override {
        Outcome out = reference_outcome(problem_.grid_case, problem_.grid_case.row.reset > 0, 1);
        const bool small = problem_.grid_case.seq_len <= 16;
        out.hy[0] += small ? behaviour_.wrong_by : behaviour_.wrong_at_size;
        const bool replayed = dynamic_cast<test::QueuedDevice&>(*api_).graph_launches > 0;
        if (behaviour_.replays_wrong && replayed) out.hy[0] += 100.0;
        if (states_and_weights) out.y.clear();
        return out;
    }

private:
    void lose_device() { dynamic_cast<test::QueuedDevice&>(*api_).lost = true; }
    void work(cuda::Queue queue) {
        for (int i = 0; i < behaviour_.units; ++i) {
            api_->copy(queue, arena_.workspace.data(), arena_.reserve.data(), kUnitBytes);
        }
    }
    const Problem& problem_;
    Arena& arena_;
    std::shared_ptr<cuda::DeviceApi> api_;
    std::string name_;
    Behaviour& behaviour_;
};

ReportOptions report(const std::string& pytorch_choice) {
    ReportOptions options;
    options.bench = "gpu";
    options.pytorch_choice = pytorch_choice;
    options.bound = [](const PassResult& p) {
        return lower_bound(p.grid_case, p.pass, estimated_figures());
    };
    return options;
}

class BenchRow : public testing::Test {
protected:
    BenchRow() : device_(std::make_shared<test::QueuedDevice>(kDevice)), timer_(*device_) {
        cuda::install_device_api(kDevice, device_);
        venue_.api = device_;
        venue_.queue = device_->default_queue();
        venue_.timer = &timer_;
        venue_.turn_ms = 0.5;
        options_.pass_ms = 0.0;
        options_.min_pairs = 5;
        options_.screen_factor = 3.0;
    }
    ~BenchRow() override { cuda::install_device_api(kDevice, nullptr); }

    SideMaker maker(const std::string& name, Behaviour& behaviour) {
        SideMaker m;
        m.name = name;
        m.make = [this, name, &behaviour](const Problem& p, Arena& a) {
            return std::make_unique<FakeSide>(p, a, venue_.api, name, behaviour);
        };
        return m;
    }
    static std::string why(const RowResult& result, const std::string& name) {
        for (const auto& [side, reason] : result.left_out) {
            if (side == name) return reason;
        }
        return "";
    }

    GridCase case_ = make_case(parse_grid_row("x", "lstm H4 N2 T20"));
    std::shared_ptr<test::QueuedDevice> device_;
    WorkTimer timer_;
    GpuVenue venue_;
    RowOptions options_;
};

TEST_F(BenchRow, ASlowedPeerShowsAsSlowerInEveryPass) {
    Behaviour ours, peer;
    ours.units = 1;
    peer.units = 8;
    peer.changes_reserve = true;
    const RowResult result =
        run_row(case_, venue_, maker("carousel", ours), {maker("peer", peer)}, options_);
    ASSERT_EQ(result.failed, "");
    ASSERT_EQ(result.passes.size(), 5u);
    for (const PassResult& pass : result.passes) {
        ASSERT_NE(pass.verdict.best_peer(), nullptr) << pass_name(pass.pass);
        EXPECT_NEAR(pass.verdict.best_peer()->ratio.median, 8.0, 1e-9) << pass_name(pass.pass);
        EXPECT_EQ(pass.verdict.ours.name, "carousel graph");
    }
    EXPECT_GT(device_->graph_launches, 0);
}

TEST_F(BenchRow, WrongResultsAreRefusedBeforeTheyAreTimed) {
    Behaviour ours, wrong, wrong_late, right;
    wrong.wrong_by = 1.0;
    wrong_late.wrong_at_size = 100.0;
    const RowResult result = run_row(
        case_, venue_, maker("carousel", ours),
        {maker("wrong", wrong), maker("late", wrong_late), maker("right", right)}, options_);
    EXPECT_NE(why(result, "wrong").find("wrong result"), std::string::npos);
    EXPECT_NE(why(result, "late").find("at the row's own size"), std::string::npos);
    ASSERT_FALSE(result.passes.empty());
    for (const PassResult& pass : result.passes) {
        for (const Standing& standing : pass.verdict.peers) {
            EXPECT_EQ(standing.name.find("wrong"), std::string::npos);
            EXPECT_EQ(standing.name.find("late"), std::string::npos);
        }
    }

    Behaviour ours_wrong;
    ours_wrong.wrong_by = 1.0;
    const RowResult none =
        run_row(case_, venue_, maker("carousel", ours_wrong), {maker("right", right)}, options_);
    EXPECT_NE(none.failed.find("wrong result"), std::string::npos);
    EXPECT_TRUE(none.passes.empty());
}

TEST_F(BenchRow, WhatIsAbsentOrRefusedIsSaidAndTheRestRuns) {
    Behaviour ours, absent;
    absent.refuses = "cuDNN cannot be opened";
    const RowResult result =
        run_row(case_, venue_, maker("carousel", ours), {maker("cudnn", absent)}, options_);
    EXPECT_EQ(why(result, "cudnn"), "cuDNN cannot be opened");
    EXPECT_EQ(result.passes.size(), 5u);
    EXPECT_EQ(result.passes[0].verdict.best, -1);
    const auto lines = json_lines(result, report("cudnn"));
    EXPECT_EQ(lines.at(0).at("left_out").at(0).at("why"), "cuDNN cannot be opened");
    EXPECT_FALSE(lines.at(0).contains("ratio"));
    EXPECT_NE(table_line(lines.at(0)).find("no peer"), std::string::npos);
}

TEST_F(BenchRow, WorkThatCannotBeRecordedRunsAsAStream) {
    device_->null_graph = true;
    Behaviour ours, peer;
    const RowResult result =
        run_row(case_, venue_, maker("carousel", ours), {maker("peer", peer)}, options_);
    ASSERT_EQ(result.passes.size(), 5u);
    EXPECT_EQ(result.passes[0].verdict.ours.name, "carousel stream");
    EXPECT_EQ(result.passes[0].verdict.best_peer()->name, "peer stream");
}

TEST_F(BenchRow, SlowPeersAreScreenedOut) {
    Behaviour ours, fast, slow;
    slow.units = 40;
    const RowResult result = run_row(case_, venue_, maker("carousel", ours),
                                     {maker("fast", fast), maker("slow", slow)}, options_);
    EXPECT_NE(why(result, "slow").find("screened out"), std::string::npos);
    ASSERT_FALSE(result.passes.empty());
    EXPECT_EQ(result.passes[0].verdict.best_peer()->name.rfind("fast", 0), 0u);
}

TEST_F(BenchRow, InferenceRowsRunInferenceAlone) {
    Behaviour ours, peer;
    const GridCase c = make_case(parse_grid_row("x", "lstm H4 N2 T20 pass=infer"));
    const RowResult result =
        run_row(c, venue_, maker("carousel", ours), {maker("peer", peer)}, options_);
    ASSERT_EQ(result.passes.size(), 1u);
    EXPECT_EQ(result.passes[0].pass, Pass::kInfer);
}

TEST_F(BenchRow, ALostDeviceEndsTheRun) {
    Behaviour ours;
    SideMaker lost = maker("lost", ours);
    lost.make = [](const Problem&, Arena&) -> std::unique_ptr<Side> {
        throw Error(ErrorCode::kDeviceLost, "gone");
    };
    EXPECT_THROW(run_row(case_, venue_, maker("carousel", ours), {lost}, options_), Error);
}

TEST_F(BenchRow, WhoseWorkLostTheDeviceIsKnown) {
    // Another library says that its work failed, and not that the device went with it.
    Behaviour ours, breaks, fails, innocent;
    breaks.breaks_device = true;
    fails.fails = true;
    std::string last;
    options_.running = [&](const std::string& side) { last = side; };
    const RowResult result =
        run_row(case_, venue_, maker("carousel", ours),
                {maker("fails", fails), maker("innocent", innocent)}, options_);
    EXPECT_EQ(why(result, "fails"), "execution failed");
    EXPECT_EQ(result.passes.size(), 5u) << "a failure alone ends nothing";
    EXPECT_EQ(last, "");
    EXPECT_THROW(run_row(case_, venue_, maker("carousel", ours),
                         {maker("breaks", breaks), maker("innocent", innocent)}, options_),
                 Error);
    EXPECT_EQ(last, "breaks");
    device_->lost = false;
}

TEST_F(BenchRow, ReplaysAreCheckedLikePlainWork) {
    Behaviour ours, wrong, right;
    wrong.replays_wrong = true;
    const auto timed = [&] {
        return run_row(case_, venue_, maker("carousel", ours),
                       {maker("wrong", wrong), maker("right", right)}, options_);
    };
    const Verdict train = timed().passes.at(4).verdict;
    ASSERT_EQ(train.peers.size(), 5u) << "two ways of each, and another of ours";
    EXPECT_EQ(train.ours.name, "carousel graph");
    EXPECT_EQ(train.peers[1].name, "wrong graph");
    EXPECT_NE(train.peers[1].refused.find("its replay differs"), std::string::npos);
    for (const std::size_t sound : {0, 2, 3, 4}) EXPECT_EQ(train.peers[sound].refused, "");

    device_->graph_launches = 0;
    ours.replays_wrong = true;
    const RowResult result = timed();
    EXPECT_NE(result.passes.at(4).verdict.ours.refused.find("its replay differs"),
              std::string::npos);
    EXPECT_TRUE(json_lines(result, report("right")).back().contains("skipped"));
}

TEST_F(BenchRow, TheSideInWorkIsToldBeforeEachTurn) {
    Behaviour ours, peer;
    std::map<std::string, int> told;
    options_.running = [&](const std::string& side) { ++told[side]; };
    run_row(case_, venue_, maker("carousel", ours), {maker("peer", peer)}, options_);
    // Five passes of two ways each: warmed up once, five turns.
    EXPECT_GE(told["carousel"], 5 * 2 * 6);
    EXPECT_GE(told["peer"], 5 * 2 * 6);
}

TEST_F(BenchRow, PassesWithoutTimeAreLeftOutAndSaid) {
    Behaviour ours, peer;
    int asked = 0;
    options_.goes_on = [&] { return ++asked < 3; };
    const RowResult result =
        run_row(case_, venue_, maker("carousel", ours), {maker("peer", peer)}, options_);
    EXPECT_EQ(result.failed, "");
    EXPECT_EQ(result.passes.size(), 3u);
    EXPECT_EQ(why(result, "pass backward"), "the time ended before it");
    EXPECT_EQ(why(result, "pass train"), "the time ended before it");
    EXPECT_EQ(json_lines(result, report("peer")).size(), 3u);
}

TEST_F(BenchRow, WhatMustBeComparedIsNotScreenedOut) {
    Behaviour ours, fast, slow;
    slow.units = 40;
    SideMaker kept = maker("slow", slow);
    kept.screened = false;
    const RowResult result =
        run_row(case_, venue_, maker("carousel", ours), {maker("fast", fast), kept}, options_);
    EXPECT_EQ(why(result, "slow"), "");
    EXPECT_EQ(result.passes.at(0).verdict.best_peer()->name.rfind("fast", 0), 0u);
}

TEST_F(BenchRow, LinesHaveWhatARowPrints) {
    Behaviour ours, peer;
    peer.units = 3;
    SideMaker floor = maker("gemm", ours);
    floor.is_peer = floor.checked = false;
    case_.row.published = "somewhere";
    const RowResult result = run_row(case_, venue_, maker("carousel", ours),
                                     {maker("cudnn STANDARD fma", peer), floor}, options_);
    const auto lines = json_lines(result, report("cudnn STANDARD fma"));
    ASSERT_EQ(lines.size(), 6u);  // five passes and the gradients of weights
    for (const char* key : {"row",     "cell",           "dtype",
                            "hidden",  "batch",          "seq_len",
                            "pass",    "carousel_ms",    "peer",
                            "peer_ms", "ratio",          "us_per_layer_step",
                            "tflops",  "bound_us",       "bound_fraction",
                            "error",   "reserve_bytes",  "workspace_bytes",
                            "gemm_ms", "pytorch_choice", "published",
                            "l2"}) {
        EXPECT_TRUE(lines[0].contains(key)) << key;
    }
    EXPECT_EQ(lines[4].at("pass"), "backward_weights");
    EXPECT_TRUE(lines[4].contains("derived"));
    const double ms = lines[0].at("carousel_ms").at("median");
    EXPECT_NEAR(lines[0].at("us_per_layer_step").get<double>(), ms * 1e3 / 20, ms);
    for (const auto& line : lines) EXPECT_FALSE(table_line(line).empty());
    EXPECT_NE(table_line(json_of_missing(case_, "not yet: heads", "gpu")).find("not yet: heads"),
              std::string::npos);
}

TEST(BenchOrder, HeadlineFirstThenTheCheapest) {
    std::vector<GridCase> cases;
    for (const char* line :
         {"gru H2816 N32 T1500 id=big", "lstm H64 N1 T10 id=small",
          "lstm H4096 N128 T25 id=wide headline", "lstm H1024 N64 T25 id=head headline",
          "lstm H512 N8 T100 id=middle"}) {
        cases.push_back(make_case(parse_grid_row("x", line)));
    }
    std::string order;
    for (const GridCase& c : in_order_of_value(cases)) order += c.row.id + " ";
    EXPECT_EQ(order, "head wide small middle big ");
}

}  // namespace
}  // namespace carousel::bench
