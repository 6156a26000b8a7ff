#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "src/plan/rnn_schedule.hpp"
#include "tests/support/rnn_run.hpp"

// The scheduler as text and as values: no device, no tensors. Cores and lanes are given, so the text
// is the same on every machine.

namespace carousel::test {
namespace {

struct PlannedCase {
    const char* shape;
    int lanes;
    bool training;
};

const PlannedCase kCases[] = {
    {"lstm T4 N3 I5 H8 f32 threads=1", 16, false},
    {"lstm L2 D2 T4 N3 I5 H8 P3 bias=single dropout=0.5 f32 threads=2", 8, true},
    {"gru L2 T10 N64 I20 H40 f64 threads=2", 8, true},
    {"gru_reset_before T4 N3 I5 H8 bias=none f32 threads=1", 4, true},
    {"rnn_relu D2 T4 N3 I5 H8 f64 threads=1", 2, false},
};

RnnPlanOptions options_of(const ShapeLine& line, bool training) {
    RnnPlanOptions options;
    options.seq_len = line.seq_len;
    options.batch_size = line.batch_size;
    options.num_threads = line.threads;
    options.training = training;
    return options;
}

std::string planned_text(const PlannedCase& planned) {
    const ShapeLine line = parse_shape_line(planned.shape);
    const RnnPlanOptions options = options_of(line, planned.training);
    const RnnConfig config = choose_config(line.spec, options, 8, planned.lanes);
    return describe(line.spec, options, config, {{Algorithm::kGrid, "needs a CUDA device"}},
                    build_schedule(line.spec, options, config), "avx512");
}

/// Blocks of tests/golden/schedules.txt: "## <shape>" and the text below it.
std::map<std::string, std::string> load_texts(const std::string& path) {
    std::ifstream file(path);
    std::map<std::string, std::string> texts;
    std::string line, title;
    while (std::getline(file, line)) {
        if (line.compare(0, 3, "## ") == 0) {
            title = line.substr(3);
        } else if (!title.empty()) {
            texts[title] += line + "\n";
        }
    }
    return texts;
}

/// After a deliberate change of the scheduler: CAROUSEL_UPDATE_GOLDEN=1 rewrites the file, and the
/// difference is there to be read before it is committed.
TEST(RnnSchedule, TextIsAsExpected) {
    const std::string path = std::string(CAROUSEL_TEST_DIR) + "/golden/schedules.txt";
    if (std::getenv("CAROUSEL_UPDATE_GOLDEN") != nullptr) {
        std::ofstream file(path);
        for (const PlannedCase& planned : kCases) {
            file << "## " << planned.shape << "\n" << planned_text(planned);
        }
        GTEST_SKIP() << "rewrote " << path;
    }
    const std::map<std::string, std::string> texts = load_texts(path);
    EXPECT_EQ(texts.size(), std::size(kCases));
    for (const PlannedCase& planned : kCases) {
        const auto expected = texts.find(planned.shape);
        ASSERT_NE(expected, texts.end()) << planned.shape << " is not in " << path;
        EXPECT_EQ(planned_text(planned), expected->second) << planned.shape;
    }
}

void expect_sound(const SliceLayout& layout) {
    std::size_t end = 0;
    for (const Slice& slice : layout.slices()) {
        EXPECT_FALSE(slice.name.empty());
        EXPECT_EQ(slice.offset % 64, 0U) << slice.name;
        EXPECT_GE(slice.offset, end) << slice.name << " overlaps the slice before it";
        end = slice.offset + slice.bytes;
    }
    EXPECT_GE(layout.bytes(), end);
    EXPECT_LE(layout.bytes(), end + 63);
}

TEST(RnnSchedule, SlicesAreNamedAlignedAndApart) {
    for (const PlannedCase& planned : kCases) {
        SCOPED_TRACE(planned.shape);
        const ShapeLine line = parse_shape_line(planned.shape);
        const RnnPlanOptions options = options_of(line, planned.training);
        const RnnSchedule schedule =
            build_schedule(line.spec, options, choose_config(line.spec, options, 8, planned.lanes));
        for (const SliceLayout* layout : {&schedule.reserve, &schedule.inference.slices,
                                          &schedule.training.slices, &schedule.grads.slices}) {
            expect_sound(*layout);
        }
        EXPECT_EQ(schedule.reserve.bytes() > 0, planned.training);
    }
}

std::size_t index_of(const std::vector<PlanStep>& steps, const PlanStep& step) {
    return static_cast<std::size_t>(std::find(steps.begin(), steps.end(), step) - steps.begin());
}

TEST(RnnSchedule, StepsRespectDependencies) {
    const ShapeLine line = parse_shape_line("gru L3 D2 T4 N3 I5 H8 dropout=0.5 f32");
    const RnnPlanOptions options = options_of(line, true);
    const RnnSchedule schedule =
        build_schedule(line.spec, options, choose_config(line.spec, options, 8, 16));
    const std::vector<PlanStep>& forward = schedule.forward_training;
    const std::vector<PlanStep>& backward = schedule.backward;
    for (std::int64_t layer = 0; layer < 3; ++layer) {
        for (std::int64_t dir = 0; dir < 2; ++dir) {
            const std::size_t sweep = index_of(forward, {StepKind::kForwardSweep, layer, dir});
            ASSERT_LT(sweep, forward.size());
            EXPECT_LT(index_of(forward, {StepKind::kPackForward, layer, dir}), sweep);
            const std::size_t back = index_of(backward, {StepKind::kBackwardSweep, layer, dir});
            ASSERT_LT(back, backward.size());
            EXPECT_LT(index_of(backward, {StepKind::kPackBackward, layer, dir}), back);
            for (const StepKind kind : {StepKind::kWeightGrads, StepKind::kBiasGrads,
                                        StepKind::kInputGrads, StepKind::kStateGrads}) {
                const std::size_t at = index_of(backward, {kind, layer, dir});
                ASSERT_LT(at, backward.size()) << step_name(kind);
                EXPECT_GT(at, back) << step_name(kind);
            }
            if (layer == 2) continue;
            const std::size_t above = index_of(forward, {StepKind::kForwardSweep, layer + 1, 0});
            const std::size_t dropout = index_of(forward, {StepKind::kDropout, layer, 0});
            EXPECT_LT(sweep, dropout);
            EXPECT_LT(dropout, above);
            const std::size_t undone = index_of(backward, {StepKind::kDropoutGrads, layer, 0});
            EXPECT_LT(index_of(backward, {StepKind::kInputGrads, layer + 1, dir}), undone);
            EXPECT_LT(undone, back);
        }
    }
    EXPECT_EQ(index_of(forward, {StepKind::kDropout, 2, 0}), forward.size()) << "no dropout on top";
    EXPECT_EQ(index_of(schedule.forward_inference, {StepKind::kDropout, 0, 0}),
              schedule.forward_inference.size());
}

TEST(RnnSchedule, ThreadsAreAllUsed) {
    for (int threads = 1; threads <= 8; ++threads) {
        for (const std::int64_t batch : {1, 2, 20, 64, 200}) {
            for (const std::int64_t hidden : {1, 8, 100, 1024}) {
                RnnSpec spec;
                spec.input_size = 16;
                spec.hidden_size = hidden;
                RnnPlanOptions options;
                options.seq_len = 10;
                options.batch_size = batch;
                options.num_threads = threads;
                const RnnConfig config = choose_config(spec, options, 8, 16);
                EXPECT_EQ(config.num_threads, threads);
                EXPECT_EQ(config.batch_groups * config.unit_groups, threads);
                EXPECT_GE(config.chunk_steps, 1);
                EXPECT_LE(config.chunk_steps, 10);
            }
        }
    }
}

/// The plan's own text: what `describe()` adds to the pure schedule.
TEST(RnnSchedule, PlanDescribesItself) {
    const ShapeLine line = parse_shape_line("lstm L2 T4 N3 I5 H8 f32 threads=2");
    const RnnPlan plan = RnnPlan::create(line.spec, options_of(line, true));
    const std::string text = plan.describe();
    for (const char* part : {"lstm f32 L2 D1 I5 H8 bias double T4 N3 on cpu", "algorithm: stepwise",
                             "not cluster: ", "not grid: ", "not wavefront: ", "instruction set: ",
                             "threads: 2", "forward training:", "backward:", "reserve: "}) {
        EXPECT_NE(text.find(part), std::string::npos) << "lacks '" << part << "':\n" << text;
    }
    EXPECT_NE(text.find("reserve: " + std::to_string(plan.reserve_bytes()) + " bytes"),
              std::string::npos);
    EXPECT_EQ(text, RnnPlan::create(line.spec, options_of(line, true)).describe());
}

}  // namespace
}  // namespace carousel::test
