#include "simt/train_support.hpp"

#include <gtest/gtest.h>

#include <utility>

#include "simt/nn_data.hpp"
#include "src/util/dtypes.hpp"

namespace carousel::test {

train::LmConfig tiny_lm(Device device, DType dtype) {
    train::LmConfig config;
    config.vocab_size = kTrainVocab;
    config.embedding_size = 6;
    config.hidden_size = 8;
    config.num_layers = 2;
    config.dtype = dtype;
    config.device = device;
    config.num_threads = 1;
    config.seq_len = 5;
    config.batch_size = 3;
    config.lr = 0.01;
    config.clip_norm = 1.0;
    config.seed = 7;
    return config;
}

std::vector<std::int32_t> tiny_text(std::int64_t count) {
    // Steps of 3 mostly: what follows is worth learning, and every token occurs.
    std::vector<std::int32_t> text(static_cast<std::size_t>(count));
    std::uint32_t state = 12345, token = 0;
    for (std::int32_t& id : text) {
        state = state * 1664525u + 1013904223u;
        token = (state >> 24) % 8 == 0 ? state >> 16 : token + 3;
        token %= static_cast<std::uint32_t>(kTrainVocab);
        id = static_cast<std::int32_t>(token);
    }
    return text;
}

TinyRun::TinyRun(const train::LmConfig& config) : trainer(config), text_(tiny_text(140)) {
    const TbpttOptions tbptt = tbptt_resolve(config.tbptt, config.seq_len);
    const std::int64_t window =
        tbptt.kind == TbpttOptions::Kind::kFixed ? tbptt.k1 : config.seq_len;
    batcher = data::make_batcher(data::Batching::kSequential, text_.data(),
                                 static_cast<std::int64_t>(text_.size()), config.batch_size, window,
                                 config.seed);
}

std::vector<train::LmTrainer::StepResult> TinyRun::steps(int count) {
    std::vector<train::LmTrainer::StepResult> results;
    for (int i = 0; i < count; ++i) results.push_back(step());
    return results;
}

std::vector<double> TinyRun::masters() const {
    const ParameterSet& params = trainer.model().params();
    const train::LmConfig& config = trainer.config();
    return read_numbers(params.flat_masters(), static_cast<std::size_t>(params.numel()),
                        accumulator_dtype(config.dtype), config.device);
}

std::vector<double> TinyRun::optimizer_state() {
    std::vector<double> all;
    for (const Optimizer::StateTensor& tensor : trainer.optimizer().state()) {
        const auto part =
            read_numbers(tensor.view.data, static_cast<std::size_t>(tensor.view.numel()),
                         tensor.view.dtype, trainer.config().device);
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

std::vector<double> TinyRun::carried() {
    const train::LmConfig& config = trainer.config();
    std::vector<double> all;
    const auto add = [&](const Buffer& buffer, DType dtype) {
        const auto part =
            read_numbers(buffer.data(), buffer.bytes() / dtype_bytes(dtype), dtype, config.device);
        all.insert(all.end(), part.begin(), part.end());
    };
    add(trainer.state().h, storage_dtype(config.dtype));
    add(trainer.state().c, accumulator_dtype(config.dtype));
    return all;
}

std::vector<double> read_numbers(const void* data, std::size_t numel, DType dtype, Device device) {
    const NnTensor copy(dtype, numel, "copy");
    copy_to_host(copy.data(), data, numel * dtype_bytes(dtype), device);
    return copy.read();
}

void write_numbers(void* data, const std::vector<double>& values, DType dtype, Device device) {
    const NnTensor copy(dtype, values, "copy");
    copy_to_device(data, copy.data(), values.size() * dtype_bytes(dtype), device);
}

void expect_runs_match(const train::LmConfig& config, int steps, double limit) {
    train::LmConfig on_cpu = config;
    on_cpu.device = Device::cpu();
    TinyRun cpu(on_cpu), cuda(config);
    EXPECT_EQ(cuda.masters(), cpu.masters()) << "initial weights";
    for (int i = 0; i < steps; ++i) {
        const train::LmTrainer::StepResult expected = cpu.step(), actual = cuda.step();
        EXPECT_NEAR(actual.loss_sum, expected.loss_sum, limit * expected.loss_sum) << "step " << i;
        EXPECT_NEAR(actual.grad_norm, expected.grad_norm, limit * expected.grad_norm) << i;
        EXPECT_EQ(actual.tokens, expected.tokens);
        EXPECT_EQ(actual.steps, expected.steps);
        EXPECT_EQ(actual.number, i + 1);
        EXPECT_FALSE(actual.skipped);
    }
    expect_near(cuda.masters(), cpu.masters(), limit, "masters");
    expect_near(cuda.carried(), cpu.carried(), limit, "carried state");
    EXPECT_EQ(cuda.trainer.optimizer().applied_steps(), steps);
}

}  // namespace carousel::test
