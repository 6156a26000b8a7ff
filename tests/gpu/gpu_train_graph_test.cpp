#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "src/train/lm_trainer.hpp"
#include "tests/gpu/card.hpp"
#include "tests/train/train_support.hpp"

// Training steps recorded on a card: replays are the plain steps bit for bit, in every type, with one
// step in flight as `carousel train` has it.

namespace carousel::test {
namespace {

using train::LmConfig;
using train::LmTrainer;

class GpuTrainGraph : public OnCard {};

LmConfig recorded_lm(DType dtype) {
    LmConfig config = small_lm(Cell::kLstm, 29);
    config.device = kCard;
    config.dtype = dtype;
    config.hidden_size = 64;
    config.embedding_size = 24;
    config.seq_len = 12;
    config.batch_size = 8;
    config.dropout = 0.2;
    config.clip_norm = 0.5;
    config.schedule.kind = ScheduleKind::kCosine;  // a new rate each step
    config.schedule.lr_steps = 40;
    return config;
}

/// Losses and norms of updates from a batcher; two steps are pending at a time.
std::vector<double> history(LmTrainer& trainer, int updates) {
    const std::vector<std::int32_t> text =
        some_tokens(2000, static_cast<std::int32_t>(trainer.config().vocab_size));
    const TbpttOptions tbptt = tbptt_resolve(trainer.config().tbptt, trainer.config().seq_len);
    const std::int64_t window =
        tbptt.kind == TbpttOptions::Kind::kFixed ? tbptt.k1 : trainer.config().seq_len;
    const auto batcher =
        data::make_batcher(data::Batching::kSequential, text.data(), 2000,
                           trainer.config().batch_size, window, trainer.config().seed);
    std::vector<double> values;
    LmTrainer::PendingStep pending;
    const auto finish = [&] {
        if (!pending.valid()) return;
        const LmTrainer::StepResult result = trainer.finish_step(std::move(pending));
        values.insert(values.end(), {result.loss_sum, result.grad_norm});
    };
    for (int update = 0; update < updates; ++update) {
        LmTrainer::PendingStep next = trainer.begin_step(*batcher);
        finish();
        pending = std::move(next);
    }
    finish();
    return values;
}

std::vector<float> masters(const LmTrainer& trainer) {
    const ParameterSet& params = trainer.model().params();
    std::vector<float> values(static_cast<std::size_t>(params.numel()));
    copy_to_host(values.data(), params.flat_masters(), values.size() * sizeof(float), kCard);
    return values;
}

void expect_replays_like_plain(LmConfig config) {
    LmTrainer graphs(config);
    config.graphs = false;
    LmTrainer plain(config);
    EXPECT_EQ(history(graphs, 24), history(plain, 24));
    EXPECT_EQ(masters(graphs), masters(plain));
    EXPECT_GE(graphs.graphs().num_graphs(), 1U) << graphs.graphs().describe();
}

TEST_F(GpuTrainGraph, ReplaysGiveTheBitsOfPlainSteps) {
    for (const DType dtype : {DType::kF32, DType::kTf32, DType::kBf16, DType::kF16}) {
        SCOPED_TRACE(dtype_name(dtype));
        expect_replays_like_plain(recorded_lm(dtype));
    }
}

TEST_F(GpuTrainGraph, EveryTruncationReplays) {
    for (const char* tbptt : {"5,12", "random:12"}) {
        SCOPED_TRACE(tbptt);
        LmConfig config = recorded_lm(DType::kF32);
        config.tbptt = tbptt_parse(tbptt);
        expect_replays_like_plain(config);
    }
}

TEST_F(GpuTrainGraph, NarrowTypesFollowF32) {
    LmTrainer wide(recorded_lm(DType::kF32));
    const std::vector<double> expected = history(wide, 16);
    for (const DType dtype : {DType::kBf16, DType::kF16}) {
        SCOPED_TRACE(dtype_name(dtype));
        LmTrainer narrow(recorded_lm(dtype));
        const std::vector<double> actual = history(narrow, 16);
        for (std::size_t i = 0; i < expected.size(); i += 2) {
            EXPECT_NEAR(actual[i], expected[i], 2e-2 * expected[i]) << "update " << i / 2;
        }
    }
}

}  // namespace
}  // namespace carousel::test
