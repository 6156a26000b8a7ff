#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "simt/nn_data.hpp"
#include "simt/train_support.hpp"
#include "src/train/checkpoint.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/train/train_support.hpp"

// Whole training steps as CUDA graphs, what a step asks of the device, and what survives it: skipped
// updates, the scale of an f16 loss, bad ids, checkpoints.

namespace carousel::test {
namespace {

using train::LmTrainer;

train::LmConfig changing_lm(DType dtype = DType::kF32) {
    train::LmConfig config = tiny_lm(simt_cuda(), dtype);
    config.dropout = 0.25;
    config.schedule.kind = ScheduleKind::kCosine;  // a new rate each step
    config.schedule.lr_steps = 20;
    return config;
}

void expect_same_results(const LmTrainer::StepResult& a, const LmTrainer::StepResult& b) {
    EXPECT_EQ(a.loss_sum, b.loss_sum);
    EXPECT_EQ(a.grad_norm, b.grad_norm);
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.lr, b.lr);
    EXPECT_EQ(a.skipped, b.skipped);
}

/// New batches, dropout keys, learning rates, counters and, in f16, scales of the loss in every step.
void expect_replays_like_plain(train::LmConfig config, int steps, std::size_t num_graphs) {
    const simt::InstalledDevice device(kTrainDevice);
    TinyRun graphs(config);
    config.graphs = false;
    TinyRun plain(config);
    for (int i = 0; i < steps; ++i) {
        SCOPED_TRACE("step " + std::to_string(i));
        expect_same_results(graphs.step(), plain.step());
    }
    EXPECT_EQ(graphs.masters(), plain.masters());
    EXPECT_EQ(graphs.optimizer_state(), plain.optimizer_state());
    EXPECT_EQ(graphs.carried(), plain.carried());
    EXPECT_EQ(graphs.trainer.graphs().num_graphs(), num_graphs);
    EXPECT_NE(graphs.trainer.graphs().describe().find("replayed"), std::string::npos);
    EXPECT_EQ(plain.trainer.graphs().num_graphs(), 0U);
}

TEST(SimtTrainGraph, ReplaysGiveTheBitsOfPlainSteps) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
        expect_replays_like_plain(changing_lm(dtype), 7, 1);
    }
}

TEST(SimtTrainGraph, EveryKindOfWindowHasAGraphOfItsOwn) {
    train::LmConfig config = changing_lm();
    config.num_layers = 1;
    config.tbptt = tbptt_parse("2,5");  // the first windows of a text are shorter
    expect_replays_like_plain(config, 9, 1);
    config.tbptt = tbptt_parse("random:4");  // segments of 1, 2, 3 ... chunks
    config.tbptt.chunk = 2;
    const simt::InstalledDevice device(kTrainDevice);
    TinyRun graphs(config);
    config.graphs = false;
    TinyRun plain(config);
    for (int i = 0; i < 14; ++i) expect_same_results(graphs.step(), plain.step());
    EXPECT_EQ(graphs.masters(), plain.masters());
    EXPECT_GE(graphs.trainer.graphs().num_graphs(), 2U);
}

void expect_mixed_windows_match(train::LossScale loss_scale, std::size_t num_graphs) {
    const simt::InstalledDevice device(kTrainDevice);
    train::LmConfig config = changing_lm();
    config.num_layers = 1;
    config.loss_scale = loss_scale;
    TinyRun graphs(config);
    config.graphs = false;
    TinyRun plain(config);
    const std::vector<std::int32_t> text = tiny_text(200);
    for (int i = 0; i < 9; ++i) {
        const std::int32_t* tokens = text.data() + i * 15;
        std::vector<std::int32_t> targets(tokens + 3, tokens + 18);
        if (i % 3 == 1) targets[4] = kIgnoreTarget;
        const std::int64_t steps = i % 3 == 2 ? 3 : 5;
        const bool reset = i == 4;
        expect_same_results(graphs.trainer.step(tokens, targets.data(), steps, reset),
                            plain.trainer.step(tokens, targets.data(), steps, reset));
    }
    EXPECT_EQ(graphs.masters(), plain.masters());
    EXPECT_EQ(graphs.carried(), plain.carried());
    EXPECT_EQ(graphs.trainer.graphs().num_graphs(), num_graphs);
}

TEST(SimtTrainGraph, ShorterWindowsAndMasksBetweenReplaysAreTheirOwnSteps) {
    // A masked target is another divisor of the mean over tokens, but not of the sum over streams.
    expect_mixed_windows_match(train::LossScale::kTokens, 3);
    expect_mixed_windows_match(train::LossScale::kStreams, 2);
}

TEST(SimtTrainGraph, AStepNeitherWaitsNorAllocates) {
    for (const bool uses_graphs : {true, false}) {
        simt::InstalledDevice device(kTrainDevice);
        train::LmConfig config = changing_lm();
        config.graphs = uses_graphs;
        TinyRun run(config);
        run.steps(3);
        device->reset_counts();
        // Two steps in flight: the second is enqueued before the first is asked for.
        LmTrainer::PendingStep first = run.trainer.begin_step(*run.batcher);
        LmTrainer::PendingStep second = run.trainer.begin_step(*run.batcher);
        const simt::DeviceCounts counts = device->counts();
        EXPECT_EQ(counts.host_waits, 0);
        EXPECT_EQ(counts.allocations, 0);
        EXPECT_EQ(counts.graph_launches, uses_graphs ? 2 : 0);
        // Of a replayed step: the batch, the rate; the loss and the norm.
        if (uses_graphs) {
            EXPECT_EQ(counts.launches, 0);
            EXPECT_EQ(counts.products, 0);
            EXPECT_EQ(counts.copies, 2 * 4);
        } else {
            EXPECT_GT(counts.launches, 2 * 20);
        }
        EXPECT_EQ(run.trainer.finish_step(std::move(first)).number, 4);
        EXPECT_EQ(run.trainer.finish_step(std::move(second)).number, 5);
        EXPECT_EQ(run.trainer.steps_done(), 5);
    }
}

TEST(SimtTrainGraph, PendingStepsGiveTheResultsOfStepsOneByOne) {
    const simt::InstalledDevice device(kTrainDevice);
    TinyRun one(changing_lm()), two(changing_lm());
    LmTrainer::PendingStep pending = two.trainer.begin_step(*two.batcher);
    for (int i = 0; i < 4; ++i) {
        LmTrainer::PendingStep next = two.trainer.begin_step(*two.batcher);
        expect_same_results(two.trainer.finish_step(std::move(pending)), one.step());
        pending = std::move(next);
    }
    expect_error(ErrorCode::kInvalidArgument, "not a pending one",
                 [&] { one.trainer.finish_step(std::move(pending)); });
    // Dropped ones give their slots back.
    for (int i = 0; i < 40; ++i) two.trainer.begin_step(*two.batcher);
    std::vector<LmTrainer::PendingStep> many;
    for (int i = 0; i < LmTrainer::kMaxPending; ++i) {
        many.push_back(two.trainer.begin_step(*two.batcher));
    }
    expect_error(ErrorCode::kInvalidArgument, "7 steps are pending",
                 [&] { two.trainer.begin_step(*two.batcher); });
    for (LmTrainer::PendingStep& each : many) two.trainer.finish_step(std::move(each));
}

TEST(SimtTrainGraph, ANonFiniteStepChangesNothingAndIsNotCounted) {
    const simt::InstalledDevice device(kTrainDevice);
    TinyRun run(changing_lm());
    run.steps(3);
    const std::vector<double> masters = run.masters(), state = run.optimizer_state();
    std::vector<double> broken = masters;
    const ParameterSet& params = run.trainer.model().params();
    const auto bias = static_cast<std::size_t>(params.infos()[params.find("output.bias")].offset);
    broken[bias] = std::numeric_limits<double>::infinity();
    write_numbers(params.flat_masters(), broken, DType::kF32, simt_cuda());
    EXPECT_TRUE(run.step().skipped);
    EXPECT_EQ(run.trainer.optimizer().applied_steps(), 3);
    EXPECT_EQ(run.trainer.steps_done(), 4);
    EXPECT_EQ(run.masters(), broken);
    EXPECT_EQ(run.optimizer_state(), state);
    write_numbers(params.flat_masters(), masters, DType::kF32, simt_cuda());
    EXPECT_FALSE(run.step().skipped);
    EXPECT_EQ(run.trainer.optimizer().applied_steps(), 4);
    EXPECT_NE(run.masters(), masters);
}

TEST(SimtTrainGraph, TheScaleOfAnF16LossBacksOffAndRecovers) {
    const simt::InstalledDevice device(kTrainDevice);
    train::LmConfig config = changing_lm(DType::kF16);
    config.loss_scale = train::LossScale::kStreams;  // larger gradients
    TinyRun run(config);
    run.steps(2);
    carousel::LossScale state;
    copy_to_host(&state, run.trainer.loss_scaler()->state(), sizeof state, simt_cuda());
    state.scale = 16777216.0;  // leaves the range of f16, 65504
    state.growth_interval = 3;
    state.good_steps = 0;
    copy_to_device(run.trainer.loss_scaler()->state(), &state, sizeof state, simt_cuda());
    const std::vector<double> before = run.masters();
    int skipped = 0;
    while (skipped < 20 && run.step().skipped) {
        ++skipped;
        EXPECT_EQ(run.masters(), before);
    }
    EXPECT_GE(skipped, 2);
    EXPECT_LT(skipped, 20);
    const double backed_off = run.trainer.loss_scaler()->scale();
    EXPECT_LT(backed_off, 16777216.0);
    EXPECT_EQ(run.trainer.optimizer().applied_steps(), 3);
    run.step();
    run.step();
    EXPECT_EQ(run.trainer.loss_scaler()->scale(), 2.0 * backed_off);
    EXPECT_NE(run.masters(), before);
}

TEST(SimtTrainGraph, BadIdsAreRefusedOnTheHostAndReportedByTheDevice) {
    const simt::InstalledDevice device(kTrainDevice);
    TinyRun run(changing_lm());
    run.steps(3);
    const std::vector<double> before = run.masters();
    std::vector<std::int32_t> tokens = tiny_text(18);
    tokens[7] = static_cast<std::int32_t>(kTrainVocab);
    expect_error(ErrorCode::kInvalidArgument, "tokens[7] is 20",
                 [&] { run.trainer.begin_step(tokens.data(), tokens.data() + 3, 5, false); });
    EXPECT_EQ(run.trainer.steps_done(), 3);
    EXPECT_EQ(run.masters(), before);

    // Memory of the device that something else wrote to.
    train::LmModel& model = run.trainer.model();
    tokens[7] = 0;
    const std::vector<train::LmModel::Chunk> window = {{tokens.data(), tokens.data() + 3, 5}};
    train::LmModel::WindowOptions options;
    options.keep_after = 1;
    model.upload_window(window, options);
    const std::int32_t bad = 1000;
    copy_to_device(const_cast<std::int32_t*>(model.inputs().tokens(0).data() + 2), &bad, sizeof bad,
                   simt_cuda());
    model.enqueue_window(window, options, run.trainer.state());
    const auto ticket = model.begin_read();
    expect_error(ErrorCode::kInvalidArgument, "token id was outside the vocabulary",
                 [&] { model.finish_read(ticket); });
    EXPECT_GT(run.step().loss_sum, 0.0);  // told once
}

TEST(SimtTrainGraph, CheckpointsContinueOnEitherDevice) {
    const simt::InstalledDevice device(kTrainDevice);
    const TemporaryFolder folder;
    const data::Vocabulary vocabulary =
        data::Vocabulary::from_text(data::decode_utf8("abcdefghijklmnopqrst", "the test"));
    const auto resumed = [&](const train::LmConfig& config, TinyRun& from) {
        train::RunProgress progress;
        progress.cursor = from.batcher->cursor();
        train::save_checkpoint(folder.path(), "last", from.trainer, vocabulary, progress);
        auto run = std::make_unique<TinyRun>(config);
        run->batcher->set_cursor(train::load_checkpoint(folder.path(), run->trainer).cursor);
        return run;
    };
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
        SCOPED_TRACE(dtype_name(dtype));
        TinyRun first(changing_lm(dtype));
        first.steps(3);
        const auto second = resumed(changing_lm(dtype), first);
        for (int i = 0; i < 3; ++i) expect_same_results(second->step(), first.step());
        EXPECT_EQ(second->masters(), first.masters());
        EXPECT_EQ(second->carried(), first.carried());

        // To the CPU in f32, and back.
        train::LmConfig config = changing_lm();
        config.device = Device::cpu();
        const auto third = resumed(config, first);
        EXPECT_EQ(third->masters(), first.masters());
        EXPECT_EQ(third->optimizer_state(), first.optimizer_state());
        EXPECT_EQ(third->carried(), first.carried());
        EXPECT_EQ(third->trainer.optimizer().applied_steps(), 6);
        const double loss = third->step().loss();
        EXPECT_NEAR(first.step().loss(), loss, (dtype == DType::kF32 ? 1e-5 : 2e-2) * loss);
        const auto fourth = resumed(changing_lm(dtype), *third);
        EXPECT_EQ(fourth->masters(), third->masters());
        EXPECT_EQ(fourth->trainer.steps_done(), 7);
    }
}

}  // namespace
}  // namespace carousel::test
