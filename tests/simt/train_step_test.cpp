#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "simt/nn_data.hpp"
#include "simt/train_support.hpp"

// Training a language model on a CUDA device (the tool's own trainer over the host code that drives a
// card, the kernels' sources on the CPU) against the same trainer on the CPU.

namespace carousel::test {
namespace {

// Adam divides small numbers by small numbers: what is rounded differently grows in a few steps.
constexpr double kF32 = 2e-4, kF64 = 1e-11;

TEST(SimtTrainStep, EveryCellMatchesTheCpu) {
    const simt::InstalledDevice device(kTrainDevice);
    for (const Cell cell :
         {Cell::kLstm, Cell::kGru, Cell::kGruResetBefore, Cell::kRnnTanh, Cell::kRnnRelu}) {
        SCOPED_TRACE(cell_name(cell));
        train::LmConfig config = tiny_lm(simt_cuda());
        config.cell = cell;
        config.dropout = 0.25;
        expect_runs_match(config, 4, kF32);
    }
}

TEST(SimtTrainStep, F64MatchesToRounding) {
    const simt::InstalledDevice device(kTrainDevice);
    train::LmConfig config = tiny_lm(simt_cuda(), DType::kF64);
    config.dropout = 0.25;
    expect_runs_match(config, 4, kF64);
}

TEST(SimtTrainStep, EveryInputMatches) {
    const simt::InstalledDevice device(kTrainDevice);
    train::LmConfig config = tiny_lm(simt_cuda(), DType::kF64);
    config.embedding_size = 0;
    config.num_layers = 1;
    config.dropout = 0.25;  // on the output alone
    expect_runs_match(config, 3, kF64);
    config.embedding_size = 40;  // wide beside the vocabulary: folded into w_ih
    config.seq_len = 30;
    config.hidden_size = 5;
    expect_runs_match(config, 2, kF64);
}

TEST(SimtTrainStep, EveryOptimizerMatches) {
    const simt::InstalledDevice device(kTrainDevice);
    for (const OptimizerKind kind :
         {OptimizerKind::kSgd, OptimizerKind::kRmsprop, OptimizerKind::kAdamW}) {
        SCOPED_TRACE(optimizer_name(kind));
        train::LmConfig config = tiny_lm(simt_cuda(), DType::kF64);
        config.cell = Cell::kGru;
        config.optimizer.kind = kind;
        config.optimizer.momentum = kind == OptimizerKind::kRmsprop ? 0.5 : 0.0;
        config.optimizer.weight_decay = 0.01;
        config.optimizer.clip_value = 0.02;
        config.loss_scale = train::LossScale::kStreams;
        config.schedule.kind = ScheduleKind::kCosine;
        config.schedule.lr_steps = 6;
        expect_runs_match(config, 3, 1e-9);
    }
}

TEST(SimtTrainStep, EveryTruncationMatches) {
    const simt::InstalledDevice device(kTrainDevice);
    for (const char* text : {"3,3", "2,5", "random:6"}) {
        SCOPED_TRACE(text);
        train::LmConfig config = tiny_lm(simt_cuda(), DType::kF64);
        config.tbptt = tbptt_parse(text);
        if (config.tbptt.kind == TbpttOptions::Kind::kRandom) config.tbptt.chunk = 2;
        config.dropout = 0.25;
        expect_runs_match(config, 12, 1e-9);  // past the end of the text: the state is reset
    }
}

TEST(SimtTrainStep, Tf32IsF32HereAndNarrowTypesStayNear) {
    const simt::InstalledDevice device(kTrainDevice);
    train::LmConfig config = tiny_lm(simt_cuda());
    config.tbptt = tbptt_parse("random:6");
    config.tbptt.chunk = 2;
    TinyRun wide(config);
    config.dtype = DType::kTf32;
    TinyRun named(config);
    config.dtype = DType::kBf16;
    TinyRun bf16(config);
    config.dtype = DType::kF16;
    TinyRun f16(config);
    EXPECT_EQ(named.masters(), wide.masters());
    EXPECT_EQ(bf16.masters(), wide.masters());
    for (int i = 0; i < 12; ++i) {
        const auto expected = wide.step(), other = named.step(), narrow = bf16.step();
        const auto half = f16.step();
        EXPECT_NEAR(other.loss(), expected.loss(), 1e-4 * expected.loss());
        EXPECT_NEAR(narrow.loss(), expected.loss(), 2e-2 * expected.loss()) << "step " << i;
        EXPECT_NEAR(half.loss(), expected.loss(), 1e-2 * expected.loss()) << "step " << i;
        EXPECT_NEAR(narrow.grad_norm, expected.grad_norm, 0.1 * expected.grad_norm);
        EXPECT_FALSE(half.skipped);
    }
}

TEST(SimtTrainStep, Bf16Learns) {
    const simt::InstalledDevice device(kTrainDevice);
    train::LmConfig config = tiny_lm(simt_cuda(), DType::kBf16);
    config.lr = 0.05;
    TinyRun run(config);
    const double first = run.step().loss();
    EXPECT_NEAR(first, std::log(static_cast<double>(kTrainVocab)), 0.5);
    run.steps(57);
    double last = 0.0;  // over a whole pass through the text
    for (const train::LmTrainer::StepResult& result : run.steps(9)) last += result.loss() / 9.0;
    EXPECT_LT(last, 0.5 * first);
}

TEST(SimtTrainStep, OneStepHasNoRacesUnderAnyOrderOfQueues) {
    for (const simt::Options& schedule : nn_schedules()) {
        simt::InstalledDevice device(kTrainDevice, {schedule, simt::QueueOrder::kRandom});
        train::LmConfig config = tiny_lm(simt_cuda());
        config.dropout = 0.25;
        expect_runs_match(config, 1, kF32);
        EXPECT_EQ(device->counts().races, 0U);
    }
}

TEST(SimtTrainStep, EvaluationMatchesTheCpuAndChangesNothing) {
    const simt::InstalledDevice device(kTrainDevice);
    train::LmConfig config = tiny_lm(simt_cuda(), DType::kF64);
    TinyRun cuda(config);
    config.device = Device::cpu();
    TinyRun cpu(config);
    cuda.steps(2);
    cpu.steps(2);
    const std::vector<std::int32_t> text = tiny_text(100);
    for (const std::int64_t streams : {1, 2}) {
        const auto score = [&](TinyRun& run) {
            return train::evaluate(run.trainer.model(), text.data(), 100, streams);
        };
        const train::Evaluation expected = score(cpu), actual = score(cuda);
        EXPECT_EQ(actual.tokens, expected.tokens);
        EXPECT_NEAR(actual.loss_sum, expected.loss_sum, 1e-10 * expected.loss_sum);
    }
    EXPECT_NEAR(cuda.step().loss_sum, cpu.step().loss_sum, 1e-9);
    expect_near(cuda.masters(), cpu.masters(), kF64, "masters");
}

}  // namespace
}  // namespace carousel::test
