#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include "src/train/lm_sampler.hpp"
#include "src/train/lm_trainer.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/train/train_support.hpp"

namespace carousel::test {
namespace {

using train::LmConfig;
using train::LmModel;
using train::LmState;
using train::LmTrainer;

/// Largest ||difference|| / ||gradient|| over the tensors, by central differences of the loss.
void expect_gradients_match(const LmConfig& config) {
    const std::int64_t steps = config.seq_len, n = config.batch_size;
    const auto ids = some_tokens((steps + 1) * n, static_cast<std::int32_t>(config.vocab_size));
    std::vector<std::int32_t> targets(ids.begin() + n, ids.end());
    targets[2] = kIgnoreTarget;
    LmModel model(config, steps, n, nullptr);
    model.initialize();
    const auto loss = [&] {
        LmState state(config, n);
        double* h = state.h.as<double>();
        for (std::int64_t i = 0; i < config.num_layers * n * config.hidden_size; ++i) {
            h[i] = 0.1 * static_cast<double>(i % 5) - 0.2;
        }
        LmModel::WindowOptions options;
        options.dropout_step = 77;
        options.keep_after = 1;
        return model.train_window({{ids.data(), targets.data(), steps}}, options, state).loss_sum;
    };
    loss();
    const std::vector<double> gradients = flat_grads<double>(model);
    double* values = static_cast<double*>(model.params().flat_values());
    for (const ParameterInfo& info : model.params().infos()) {
        double difference = 0.0, norm = 0.0;
        const std::int64_t stride = std::max<std::int64_t>(1, info.numel / 40);
        for (std::int64_t e = info.offset; e < info.offset + info.numel; e += stride) {
            constexpr double kStep = 1e-5;
            const double before = values[e];
            values[e] = before + kStep;
            const double up = loss();
            values[e] = before - kStep;
            const double down = loss();
            values[e] = before;
            const double numeric = (up - down) / (2.0 * kStep);
            const double exact = gradients[static_cast<std::size_t>(e)];
            difference += (numeric - exact) * (numeric - exact);
            norm += exact * exact;
        }
        EXPECT_GT(norm, 0.0) << info.name;
        EXPECT_LE(std::sqrt(difference), 1e-7 * std::sqrt(norm)) << info.name;
    }
}

TEST(LanguageModel, GradientsMatchCentralDifferences) {
    for (const Cell cell : {Cell::kLstm, Cell::kGru, Cell::kGruResetBefore, Cell::kRnnTanh}) {
        SCOPED_TRACE(cell_name(cell));
        LmConfig config = small_lm(cell);
        expect_gradients_match(config);
        config.dropout = 0.4;
        expect_gradients_match(config);
        config.embedding_size = 0;
        config.dropout = 0.0;
        expect_gradients_match(config);
        // Wide beside the vocabulary: folded into the first layer's weights.
        config.embedding_size = 40;
        expect_gradients_match(config);
    }
}

TEST(LanguageModel, FoldedEmbeddingGivesTheSameLossAndGradients) {
    // The same weights in windows long enough to fold, and one row at a time, where folding does not
    // pay.
    LmConfig config = small_lm(Cell::kLstm);
    config.embedding_size = 12;
    config.batch_size = 1;
    const auto ids = some_tokens(41, 7);
    LmModel folded(config, 40, 1, nullptr), looked_up(config, 1, 1, nullptr);
    EXPECT_EQ(folded.plan().spec().input_size, 7);
    EXPECT_EQ(looked_up.plan().spec().input_size, 12);
    folded.initialize();
    looked_up.initialize();
    LmState a(config, 1), b(config, 1);
    LmModel::WindowOptions options;
    options.keep_after = 1;
    const double loss =
        folded.train_window({{ids.data(), ids.data() + 1, 40}}, options, a).loss_sum;
    std::vector<LmModel::Chunk> chunks;
    for (std::size_t t = 0; t < 40; ++t) chunks.push_back({&ids[t], &ids[t + 1], 1});
    options.keep_after = 40;
    EXPECT_NEAR(looked_up.train_window(chunks, options, b).loss_sum, loss, 1e-12);
    const auto x = flat_grads<double>(folded), y = flat_grads<double>(looked_up);
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-12) << i;
}

TEST(LanguageModel, StartsAsPyTorchDoesOrAsAsked) {
    LmConfig config = small_lm(Cell::kLstm, 50);
    config.hidden_size = 64;
    config.embedding_size = 32;
    LmModel model(config, 1, 1, nullptr);
    model.initialize();
    const auto tensor = [&](const char* name) {
        const TensorView view = model.params().value(model.params().find(name));
        const double* data = static_cast<const double*>(view.data);
        return std::vector<double>(data, data + view.numel());
    };
    const auto variance = [](const std::vector<double>& values) {
        double sum = 0.0;
        for (const double v : values) sum += v * v;
        return sum / static_cast<double>(values.size());
    };
    EXPECT_NEAR(variance(tensor("embedding.weight")), 1.0, 0.15);
    const double bound = 1.0 / 8.0;  // 1/sqrt(64)
    for (const char* name : {"rnn.weight_ih_l0", "rnn.weight_hh_l1", "output.weight"}) {
        const auto values = tensor(name);
        EXPECT_NEAR(variance(values), bound * bound / 3.0, 0.1 * bound * bound) << name;
        for (const double v : values) ASSERT_LE(std::abs(v), bound) << name;
    }
    const auto b_ih = tensor("rnn.bias_ih_l1"), b_hh = tensor("rnn.bias_hh_l1");
    for (std::size_t j = 64; j < 128; ++j) {
        EXPECT_EQ(b_ih[j], 1.0);
        EXPECT_EQ(b_hh[j], 0.0);
    }
    EXPECT_NE(b_hh[0], 0.0);
    config.init = train::init_parse("uniform:0.08");
    LmModel uniform(config, 1, 1, nullptr);
    uniform.initialize();
    const auto embedding = flat_values<double>(uniform);
    for (std::size_t i = 0; i < 50 * 32; ++i) ASSERT_LE(std::abs(embedding[i]), 0.08);
    expect_error(ErrorCode::kInvalidArgument, "init", [] { train::init_parse("normal"); });
}

LmConfig trained_config() {
    LmConfig config = small_lm(Cell::kLstm);
    config.dtype = DType::kF32;
    config.dropout = 0.2;
    config.clip_norm = 0.5;
    return config;
}

TEST(LanguageModel, EvaluationChangesNoTrainingState) {
    const auto tokens = some_tokens(3 * 40 + 1, 7);
    std::vector<std::vector<float>> results;
    for (const bool evaluates : {false, true}) {
        LmTrainer trainer(trained_config());
        data::SequentialBatcher batcher(tokens.data(), 121, 3, 6);
        for (int i = 0; i < 12; ++i) {
            if (evaluates) train::evaluate(trainer.model(), tokens.data(), 100, 3);
            trainer.step(batcher);
        }
        results.push_back(flat_values<float>(trainer.model()));
    }
    EXPECT_EQ(results[0], results[1]);
}

TEST(LanguageModel, OneStreamScoresEveryTokenButTheFirst) {
    const auto tokens = some_tokens(101, 7);
    LmModel model(small_lm(Cell::kGru), 8, 1, nullptr);
    model.initialize();
    const train::Evaluation whole = train::evaluate(model, tokens.data(), 101, 1);
    EXPECT_EQ(whole.tokens, 100);
    // State is carried: the same in one chunk.
    LmModel wide(small_lm(Cell::kGru), 100, 1, nullptr);
    wide.initialize();
    EXPECT_NEAR(train::evaluate(wide, tokens.data(), 101, 1).loss(), whole.loss(), 1e-12);
}

TEST(LanguageModel, SequentialBatchesCarryStateAndRandomOnesDoNot) {
    const auto tokens = some_tokens(3 * 24 + 1, 7);
    LmConfig config = small_lm(Cell::kLstm);
    config.lr = 1e-30;  // the weights stay, so the losses can be computed apart
    config.optimizer.kind = OptimizerKind::kSgd;
    LmTrainer trainer(config);
    data::SequentialBatcher batcher(tokens.data(), 73, 3, 6);
    double carried = 0.0;
    for (int i = 0; i < 4; ++i) carried += trainer.step(batcher).loss_sum;
    LmModel model(config, 24, 3, nullptr);
    model.initialize();
    std::vector<std::int32_t> in(72), out(72);
    batcher.read(0, 24, in.data(), out.data());
    LmState state(config, 3);
    EXPECT_NEAR(model.evaluate({in.data(), out.data(), 24}, 3, state).loss_sum, carried, 1e-10);

    data::RandomBatcher random(tokens.data(), 73, 3, 6, 4), again(tokens.data(), 73, 3, 6, 4);
    for (int i = 0; i < 4; ++i) {
        const double loss = trainer.step(random).loss_sum;
        bool reset = false;
        again.next(6, in.data(), out.data(), &reset);
        LmState fresh(config, 3);
        EXPECT_NEAR(model.evaluate({in.data(), out.data(), 6}, 3, fresh).loss_sum, loss, 1e-10);
    }
}

TEST(LanguageModel, SumOverTimeScalesTheGradientByTheSteps) {
    const auto tokens = some_tokens(100, 7);
    LmConfig config = small_lm(Cell::kLstm);
    LmTrainer mean(config);
    config.loss_scale = train::LossScale::kStreams;
    LmTrainer sum(config);
    mean.step(tokens.data(), tokens.data() + 3, 6, true);
    sum.step(tokens.data(), tokens.data() + 3, 6, true);
    const auto a = flat_grads<double>(mean.model()), b = flat_grads<double>(sum.model());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(b[i], 6.0 * a[i], 1e-13);
}

TEST(LanguageModel, SameBitsOnEveryRepeat) {
    const auto tokens = some_tokens(3 * 40 + 1, 7);
    std::vector<float> first;
    for (int repeat = 0; repeat < 3; ++repeat) {
        LmTrainer trainer(trained_config());
        data::SequentialBatcher batcher(tokens.data(), 121, 3, 6);
        for (int i = 0; i < 10; ++i) trainer.step(batcher);
        const auto values = flat_values<float>(trainer.model());
        if (repeat == 0) first = values;
        EXPECT_EQ(values, first);
    }
}

TEST(LanguageModel, SaysWhatIsWrongWithItsInput) {
    LmConfig config = small_lm(Cell::kLstm);
    const std::vector<std::int32_t> bad(18, 7);
    for (const std::int64_t embedding : {4, 0}) {
        config.embedding_size = embedding;
        LmTrainer trainer(config);
        expect_error(ErrorCode::kInvalidArgument, "7",
                     [&] { trainer.step(bad.data(), bad.data(), 6, true); });
        expect_error(ErrorCode::kInvalidArgument, "steps",
                     [&] { trainer.step(bad.data(), bad.data(), 7, true); });
    }
    config.hidden_size = 0;
    expect_error(ErrorCode::kInvalidArgument, "hidden", [&] { LmTrainer{config}; });
}

TEST(LmSampler, GivesTheLogitsOfTheModel) {
    for (const std::int64_t embedding : {4, 0}) {
        for (const Cell cell : {Cell::kLstm, Cell::kGru}) {
            LmConfig config = small_lm(cell);
            config.embedding_size = embedding;
            const auto tokens = some_tokens(40, 7);
            LmModel model(config, 39, 1, nullptr);
            model.initialize();
            LmState state(config, 1);
            const double expected =
                model.evaluate({tokens.data(), tokens.data() + 1, 39}, 1, state).loss_sum;
            train::LmSampler sampler(model);
            double loss = 0.0;
            for (std::size_t i = 0; i < 39; ++i) {
                const double* logits = sampler.next(tokens[i]);
                double sum = 0.0;
                for (int j = 0; j < 7; ++j) sum += std::exp(logits[j]);
                loss += std::log(sum) - logits[tokens[i + 1]];
            }
            EXPECT_NEAR(loss, expected, 1e-11);
            sampler.reset();
            const double* logits = sampler.next(tokens[0]);
            const std::vector<double> fresh(logits, logits + 7);
            sampler.next(tokens[0]);
            EXPECT_NE(std::vector<double>(logits, logits + 7), fresh);  // state is carried
            sampler.reset();
            sampler.next(tokens[0]);
            EXPECT_EQ(std::vector<double>(logits, logits + 7), fresh);
            expect_error(ErrorCode::kInvalidArgument, "vocabulary", [&] { sampler.next(7); });
        }
    }
}

}  // namespace
}  // namespace carousel::test
