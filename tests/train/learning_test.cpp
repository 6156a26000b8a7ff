#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "src/data/text.hpp"
#include "src/train/lm_trainer.hpp"
#include "src/train/random.hpp"

// Tasks that a wrong gradient, a wrong optimiser or a wrong state cannot solve. Thresholds leave room
// below what an independent implementation reached.

namespace carousel::test {
namespace {

/// The adding problem (Hochreiter & Schmidhuber 1997): at each step a number in [0,1) and a marker; two
/// steps are marked, one in each half; the target after the last step is the sum of their numbers.
/// Always answering 1 has a mean squared error of 1/6.
class AddingProblem {
public:
    AddingProblem(std::int64_t seq_len, std::int64_t batch_size) : steps_(seq_len), n_(batch_size) {
        x_.resize(static_cast<std::size_t>(steps_ * n_ * 2));
        targets_.resize(static_cast<std::size_t>(n_));
    }
    void draw(std::uint64_t batch) {
        std::uint64_t counter = batch << 24;
        const auto uniform = [&] {
            return train::random_uniform(12, train::RandomStream::kSample, counter++);
        };
        for (std::int64_t n = 0; n < n_; ++n) {
            const auto half = static_cast<double>(steps_ / 2);
            const auto first = static_cast<std::int64_t>(uniform() * half);
            const auto second = steps_ / 2 + static_cast<std::int64_t>(uniform() * half);
            double sum = 0.0;
            for (std::int64_t t = 0; t < steps_; ++t) {
                float* x = &x_[static_cast<std::size_t>((t * n_ + n) * 2)];
                x[0] = static_cast<float>(uniform());
                x[1] = t == first || t == second ? 1.0f : 0.0f;
                if (x[1] != 0.0f) sum += static_cast<double>(x[0]);
            }
            targets_[static_cast<std::size_t>(n)] = sum;
        }
    }
    std::int64_t steps_, n_;
    std::vector<float> x_;
    std::vector<double> targets_;
};

/// Trains one recurrent layer and a linear read-out of its last state; returns the number of updates
/// until the mean squared error of the last 100 batches (drawn afresh, so never seen) fell below
/// `threshold`, or `most_updates`.
int updates_to_solve_adding(Cell cell, double threshold, int most_updates) {
    constexpr std::int64_t kSteps = 50, kHidden = 64, kBatch = 50;
    ParameterSet params{ModuleContext(DType::kF32)};
    RnnSpec spec;
    spec.cell = cell;
    spec.input_size = 2;
    spec.hidden_size = kHidden;
    Rnn rnn(params, "rnn", spec, kSteps, kBatch);
    Linear output(params, "output", kHidden, 1);
    params.allocate();
    float* values = static_cast<float*>(params.flat_values());
    const double bound = 1.0 / std::sqrt(static_cast<double>(kHidden));
    for (const ParameterInfo& info : params.infos()) {
        for (std::int64_t e = info.offset; e < info.offset + info.numel; ++e) {
            const double u =
                train::random_uniform(3, train::RandomStream::kInit, static_cast<std::uint64_t>(e));
            values[e] = static_cast<float>(bound * (2.0 * u - 1.0));
        }
    }
    if (cell == Cell::kLstm) {
        float* bias = static_cast<float*>(params.value(params.find("rnn.bias_ih_l0")).data);
        for (std::int64_t j = 0; j < kHidden; ++j) bias[kHidden + j] = 1.0f;
    }
    GradClip clip(params, 1.0);
    Optimizer optimizer(params, clip, OptimizerOptions{});

    AddingProblem problem(kSteps, kBatch);
    std::vector<float> y(static_cast<std::size_t>(kSteps * kBatch * kHidden)), dy(y.size(), 0.0f);
    std::vector<float> answer(static_cast<std::size_t>(kBatch)), danswer(answer.size());
    const std::size_t last = static_cast<std::size_t>((kSteps - 1) * kBatch * kHidden);
    const auto view = [](auto* data, std::int64_t size) {
        return TensorView(data, DType::kF32, {kSteps, kBatch, size});
    };
    std::vector<double> errors;
    for (int update = 0; update < most_updates; ++update) {
        problem.draw(static_cast<std::uint64_t>(update));
        RnnForwardArgs forward;
        forward.seq_len = kSteps;
        forward.batch_size = kBatch;
        forward.x = view(problem.x_.data(), 2);
        forward.y = view(y.data(), kHidden);
        rnn.forward_training(forward);
        output.forward(&y[last], kBatch, answer.data());
        double error = 0.0;
        for (std::size_t n = 0; n < answer.size(); ++n) {
            const double difference = static_cast<double>(answer[n]) - problem.targets_[n];
            error += difference * difference / kBatch;
            danswer[n] = static_cast<float>(2.0 * difference / kBatch);
        }
        output.backward(&y[last], kBatch, danswer.data(), &dy[last]);
        RnnBackwardArgs backward;
        backward.seq_len = kSteps;
        backward.batch_size = kBatch;
        backward.x = forward.x;
        backward.y = forward.y;
        backward.dy = view(dy.data(), kHidden);
        rnn.backward(backward);
        clip.measure();
        optimizer.step(2e-3);

        errors.push_back(error);
        if (errors.size() < 100) continue;
        double mean = 0.0;
        for (std::size_t i = errors.size() - 100; i < errors.size(); ++i) mean += errors[i] / 100.0;
        if (mean < threshold) return update + 1;
    }
    return most_updates;
}

TEST(LearningAdding, LstmSolvesFiftySteps) {
    EXPECT_LT(updates_to_solve_adding(Cell::kLstm, 0.002, 3000), 3000);
}

TEST(LearningAdding, GruSolvesFiftySteps) {
    EXPECT_LT(updates_to_solve_adding(Cell::kGru, 0.002, 2500), 2500);
}

TEST(LearningText, StackedLstmMemorisesAShortText) {
    const std::string poem =
        "Turning and turning in the widening gyre\nThe falcon cannot hear the falconer;\n"
        "Things fall apart; the centre cannot hold;\nMere anarchy is loosed upon the world,\n"
        "The blood-dimmed tide is loosed, and everywhere\nThe ceremony of innocence is drowned;\n";
    const data::Text text = data::decode_utf8(poem, "poem");
    const data::Vocabulary vocabulary = data::Vocabulary::from_text(text);
    const auto tokens = vocabulary.encode(text);
    train::LmConfig config;
    config.vocab_size = vocabulary.size();
    config.embedding_size = 16;
    config.hidden_size = 64;
    config.num_layers = 2;
    config.seq_len = 40;
    config.batch_size = 1;
    config.lr = 5e-3;
    config.clip_norm = 1.0;
    train::LmTrainer trainer(config);
    const auto size = static_cast<std::int64_t>(tokens.size());
    data::SequentialBatcher batcher(tokens.data(), size, 1, 40);
    EXPECT_NEAR(trainer.step(batcher).loss(), std::log(static_cast<double>(vocabulary.size())),
                0.3);
    while (batcher.cursor().epoch < 120) trainer.step(batcher);
    const double loss = train::evaluate(trainer.model(), tokens.data(), size, 1).loss();
    std::printf("[          ] %.4f nats per character after %lld updates\n", loss,
                static_cast<long long>(trainer.steps_done()));
    EXPECT_LT(loss, 0.05);
}

/// Validation loss after `epochs` passes over the training split.
double validation_loss(const train::LmConfig& base, const data::Text& text, double validation_share,
                       int epochs) {
    train::LmConfig config = base;
    const data::Vocabulary vocabulary = data::Vocabulary::from_text(text);
    config.vocab_size = vocabulary.size();
    const auto tokens = vocabulary.encode(text);
    const auto size = static_cast<std::int64_t>(tokens.size());
    const auto train_size =
        static_cast<std::int64_t>((1.0 - validation_share) * static_cast<double>(size));
    train::LmTrainer trainer(config);
    data::SequentialBatcher batcher(tokens.data(), train_size, config.batch_size, config.seq_len);
    while (batcher.cursor().epoch < epochs) trainer.step(batcher);
    return train::evaluate(trainer.model(), tokens.data() + train_size, size - train_size,
                           config.batch_size)
        .loss();
}

/// The library's public headers and sources, as this checkout has them.
data::Text repository_text() {
    std::vector<std::string> paths;
    for (const char* folder : {"/include", "/kernels", "/src"}) {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(
                 std::string(CAROUSEL_SOURCE_DIR) + folder)) {
            const std::string extension = entry.path().extension().string();
            if (entry.is_regular_file() && (extension == ".hpp" || extension == ".cpp")) {
                paths.push_back(entry.path().string());
            }
        }
    }
    std::sort(paths.begin(), paths.end());
    return data::load_text(paths);
}

TEST(LearningText, RepositoryTextIsLearnt) {
    train::LmConfig config;
    config.embedding_size = 32;
    config.hidden_size = 128;
    config.num_layers = 1;
    config.seq_len = 50;
    config.batch_size = 16;
    config.lr = 4e-3;
    config.clip_norm = 1.0;
    const double bits = bits_per_char(validation_loss(config, repository_text(), 0.05, 1));
    std::printf("[          ] %.3f bits/char on held-out sources after one epoch\n", bits);
    // Uniform over about 100 characters would be 6.6, character frequencies alone about 4.9.
    EXPECT_LT(bits, 2.9);
}

/// `$CAROUSEL_DATA/tinyshakespeare/input.txt`, checked; empty with a reason if it is not there.
data::Text tinyshakespeare(std::string* reason) {
    constexpr const char* kSha256 =
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed";
    const char* folder = std::getenv("CAROUSEL_DATA");
    if (folder == nullptr) {
        *reason = "CAROUSEL_DATA does not name a folder with tinyshakespeare/input.txt";
        return {};
    }
    const std::string path = std::string(folder) + "/tinyshakespeare/input.txt";
    if (!std::filesystem::exists(path)) {
        *reason = "there is no " + path;
        return {};
    }
    std::string digest(64, '\0');
    FILE* pipe = ::popen(("sha256sum '" + path + "'").c_str(), "r");
    const std::size_t got = pipe != nullptr ? std::fread(digest.data(), 1, 64, pipe) : 0;
    if (pipe != nullptr) ::pclose(pipe);
    if (got != 64 || digest != kSha256) {
        *reason = path + " has another content than these thresholds were measured on";
        return {};
    }
    return data::load_text({path});
}

TEST(LearningTinyshakespeare, CharRnnReachesItsLoss) {
    std::string reason;
    const data::Text text = tinyshakespeare(&reason);
    if (!reason.empty()) GTEST_SKIP() << reason;
    train::LmConfig config;  // char-rnn's defaults (Karpathy 2015)
    config.hidden_size = 128;
    config.num_layers = 2;
    config.seq_len = 50;
    config.batch_size = 50;
    config.optimizer.kind = OptimizerKind::kRmsprop;
    config.optimizer.alpha = 0.95;
    config.optimizer.clip_value = 5.0;
    config.lr = 2e-3;
    config.init = train::init_parse("uniform:0.08");
    const double loss = validation_loss(config, text, 0.05, 1);
    std::printf("[          ] %.4f nats per character\n", loss);
    EXPECT_LE(loss, 2.25);
}

TEST(LearningTinyshakespeare, GruWithEmbeddingReachesItsLoss) {
    std::string reason;
    const data::Text text = tinyshakespeare(&reason);
    if (!reason.empty()) GTEST_SKIP() << reason;
    train::LmConfig config;
    config.cell = Cell::kGru;
    config.embedding_size = 32;
    config.hidden_size = 128;
    config.num_layers = 1;
    config.seq_len = 64;
    config.batch_size = 32;
    config.lr = 3e-3;
    config.clip_norm = 1.0;
    const double loss = validation_loss(config, text, 0.05, 2);
    std::printf("[          ] %.4f nats per character\n", loss);
    EXPECT_LE(loss, 1.75);
}

}  // namespace
}  // namespace carousel::test
