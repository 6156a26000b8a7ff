#include <cmath>
#include <cstdint>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "src/train/lm_trainer.hpp"
#include "tests/gpu/card.hpp"
#include "tests/support/device_pass.hpp"
#include "tests/train/train_support.hpp"

// Whole training steps on a card: embedding, stack, loss, backward, clipping and optimiser.

namespace carousel::test {
namespace {

using train::LmConfig;
using train::LmTrainer;

class GpuTraining : public OnCard {};

/// Loss per token and norm of the gradient of every update.
std::vector<double> history(LmConfig config, const Device& device, int updates) {
    config.device = device;
    LmTrainer trainer(config);
    trainer.model().initialize();
    std::vector<double> values;
    const std::int64_t window = config.seq_len * config.batch_size;
    for (int update = 0; update < updates; ++update) {
        std::vector<std::int32_t> ids = some_tokens((update + 1) * window + config.batch_size,
                                                    static_cast<std::int32_t>(config.vocab_size));
        ids.erase(ids.begin(), ids.begin() + update * window);
        const auto result =
            trainer.step(ids.data(), ids.data() + config.batch_size, config.seq_len, update == 0);
        values.push_back(result.loss());
        values.push_back(result.grad_norm);
    }
    return values;
}

LmConfig model(Cell cell, DType dtype) {
    LmConfig config = small_lm(cell, 29);
    config.dtype = dtype;
    config.hidden_size = 48;
    config.embedding_size = 20;
    config.seq_len = 12;
    config.batch_size = 9;
    config.dropout = 0.2;
    config.clip_norm = 0.5;
    return config;
}

/// Updates amplify differences of rounding; ten of Adam's by less than this.
double history_tolerance(DType dtype) {
    switch (dtype) {
        case DType::kF64:
            return 1e-9;
        case DType::kF32:
            return 1e-3;
        default:
            return 3e-2;
    }
}

TEST_F(GpuTraining, UpdatesAreThoseOfTheCpu) {
    for (const Cell cell : {Cell::kLstm, Cell::kGru, Cell::kGruResetBefore, Cell::kRnnTanh}) {
        const std::vector<double> cpu = history(model(cell, DType::kF64), Device::cpu(), 10);
        for (const DType dtype : {DType::kF64, DType::kF32, DType::kTf32}) {
            SCOPED_TRACE(std::string(cell_name(cell)) + " " + dtype_name(dtype));
            const std::vector<double> card = history(model(cell, dtype), kCard, 10);
            EXPECT_LE(relative_error(card, cpu), history_tolerance(dtype));
        }
    }
}

// They share the library's own stream, on which each records its step.
TEST_F(GpuTraining, TrainersOnTwoThreadsDoNotMeet) {
    const LmConfig config = model(Cell::kLstm, DType::kF32);
    const std::vector<double> alone = history(config, kCard, 20);
    std::vector<double> results[2];
    std::vector<std::thread> threads;
    for (std::vector<double>& result : results) {
        threads.emplace_back([&] {
            try {
                result = history(config, kCard, 20);
            } catch (const std::exception& error) {
                ADD_FAILURE() << error.what();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::vector<double>& result : results) EXPECT_EQ(result, alone);
}

TEST_F(GpuTraining, UpdatesRepeatBitForBit) {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kTf32}) {
        const LmConfig config = model(Cell::kLstm, dtype);
        EXPECT_EQ(history(config, kCard, 5), history(config, kCard, 5)) << dtype_name(dtype);
    }
}

TEST_F(GpuTraining, OptimisersAreThoseOfTheCpu) {
    for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kRmsprop,
                                     OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
        LmConfig config = model(Cell::kGru, DType::kF64);
        config.optimizer.kind = kind;
        config.optimizer.momentum = kind == OptimizerKind::kSgd ? 0.9 : 0.0;
        config.optimizer.weight_decay = kind == OptimizerKind::kAdamW ? 0.01 : 0.0;
        const std::vector<double> cpu = history(config, Device::cpu(), 8);
        EXPECT_LE(relative_error(history(config, kCard, 8), cpu), 1e-9) << static_cast<int>(kind);
    }
}

// What compute-sanitizer looks at: every kernel of a pass and of an update, once, at sizes that leave
// remainders.
class GpuSmall : public OnCard {};

TEST_F(GpuSmall, PassesOfEveryCell) {
    for (const char* cell : {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"}) {
        for (const char* rest :
             {" T3 N3 I4 H5 L2 lengths reset dropout=0.3 f32", " T2 N5 I8 H16 D2 batch_first bf16",
              " T2 N4 I5 H9 f64", " T2 N3 I6 H12 L2 f16", " T2 N4 I8 H8 packed tf32"}) {
            check_device_line(parse_shape_line(std::string(cell) + rest), kCard);
        }
    }
    check_device_line(parse_shape_line("lstm T3 N3 I4 H7 P3 L2 f32"), kCard);
}

TEST_F(GpuSmall, OneUpdate) {
    for (const DType dtype : {DType::kF32, DType::kF64}) {
        const std::vector<double> values = history(model(Cell::kLstm, dtype), kCard, 2);
        for (const double value : values) EXPECT_TRUE(std::isfinite(value));
    }
}

}  // namespace
}  // namespace carousel::test
