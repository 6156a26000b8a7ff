#include "carousel/loss.hpp"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/support/rnn_data.hpp"

namespace carousel::test {
namespace {

std::shared_ptr<ThreadPool> pool_of(int threads) { return std::make_shared<ThreadPool>(threads); }

/// Loss and gradient by the definition, in double.
struct Expected {
    double loss = 0.0;
    std::vector<double> dlogits;
};
Expected by_definition(const std::vector<double>& logits, const std::vector<double>& bias,
                       const std::vector<std::int32_t>& targets, std::int64_t classes,
                       double scale) {
    Expected expected;
    expected.dlogits.assign(logits.size(), 0.0);
    for (std::size_t r = 0; r < targets.size(); ++r) {
        if (targets[r] < 0) continue;
        const auto at = [&](std::int64_t j) {
            return r * static_cast<std::size_t>(classes) + static_cast<std::size_t>(j);
        };
        const auto z = [&](std::int64_t j) {
            return logits[at(j)] + (bias.empty() ? 0.0 : bias[static_cast<std::size_t>(j)]);
        };
        long double sum = 0.0;
        for (std::int64_t j = 0; j < classes; ++j) sum += std::exp(static_cast<long double>(z(j)));
        expected.loss -= static_cast<double>(z(targets[r]) - std::log(sum));
        for (std::int64_t j = 0; j < classes; ++j) {
            expected.dlogits[at(j)] =
                scale * (static_cast<double>(std::exp(static_cast<long double>(z(j))) / sum) -
                         (j == targets[r] ? 1.0 : 0.0));
        }
    }
    return expected;
}

template <class T>
void check_against_definition(std::int64_t classes, bool with_bias, int threads, double limit) {
    const std::int64_t rows = 37;
    const ModuleContext context(sizeof(T) == 4 ? DType::kF32 : DType::kF64, {}, pool_of(threads));
    const auto round = [](std::vector<double> values) {
        for (double& v : values) v = static_cast<double>(static_cast<T>(v));
        return values;
    };
    const auto logits = round(random_values(1, rows * classes, 5.0));
    const auto bias = with_bias ? round(random_values(2, classes, 1.0)) : std::vector<double>{};
    std::vector<std::int32_t> targets;
    for (std::int64_t r = 0; r < rows; ++r) {
        targets.push_back(r % 5 == 3 ? kIgnoreTarget
                                     : static_cast<std::int32_t>((r * 7) % classes));
    }
    const Expected expected = by_definition(logits, bias, targets, classes, 0.25);

    std::vector<T> z(logits.begin(), logits.end()), b(bias.begin(), bias.end());
    SoftmaxCrossEntropy loss(context, classes, rows);
    const void* bias_data = with_bias ? b.data() : nullptr;
    const auto only_loss = loss.run(z.data(), bias_data, targets.data(), rows, 0.25, nullptr);
    const auto result = loss.run(z.data(), bias_data, targets.data(), rows, 0.25, z.data());
    EXPECT_EQ(result.count, rows - 7);
    EXPECT_EQ(only_loss.loss_sum, result.loss_sum);
    EXPECT_NEAR(result.loss_sum, expected.loss, limit * std::abs(expected.loss));
    for (std::size_t i = 0; i < z.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(z[i]), expected.dlogits[i], limit) << "element " << i;
    }
}

TEST(SoftmaxCrossEntropy, MatchesTheDefinition) {
    for (const std::int64_t classes : {2, 5, 16, 65, 100, 1000}) {
        for (const bool with_bias : {false, true}) {
            SCOPED_TRACE(classes);
            check_against_definition<double>(classes, with_bias, 1, 1e-13);
            check_against_definition<float>(classes, with_bias, 2, 2e-6);
        }
    }
}

TEST(SoftmaxCrossEntropy, ManyRowsOnManyThreadsGiveTheSameBits) {
    const std::int64_t rows = 300, classes = 200;
    const auto values = random_values(3, rows * classes, 3.0);
    std::vector<std::int32_t> targets;
    for (std::int64_t r = 0; r < rows; ++r)
        targets.push_back(static_cast<std::int32_t>(r % classes));
    std::vector<float> first;
    double first_loss = 0.0;
    for (const int threads : {1, 2, 3}) {
        SoftmaxCrossEntropy loss(ModuleContext(DType::kF32, {}, pool_of(threads)), classes, rows);
        std::vector<float> z(values.begin(), values.end());
        const double sum =
            loss.run(z.data(), nullptr, targets.data(), rows, 1.0, z.data()).loss_sum;
        if (first.empty()) {
            first = z;
            first_loss = sum;
        }
        EXPECT_EQ(z, first);
        EXPECT_EQ(sum, first_loss);
    }
}

TEST(SoftmaxCrossEntropy, LargeLogitsNeitherOverflowNorVanish) {
    const ModuleContext context;
    SoftmaxCrossEntropy loss(context, 3, 2);
    std::vector<float> z = {1e4f, -1e4f, 9999.0f, -1e4f, -1e4f, -1e4f};
    const std::vector<std::int32_t> targets = {2, 0};
    const auto result = loss.run(z.data(), nullptr, targets.data(), 2, 1.0, z.data());
    EXPECT_NEAR(result.loss_sum, 1.0 + std::log1p(std::exp(-1.0)) + std::log(3.0), 1e-5);
    EXPECT_NEAR(z[0], 1.0 / (1.0 + std::exp(-1.0)), 1e-6);
    EXPECT_NEAR(z[1], 0.0, 1e-30);
}

TEST(SoftmaxCrossEntropy, NonFiniteLogitsShowInTheLoss) {
    SoftmaxCrossEntropy loss(ModuleContext(), 40, 1);
    for (const std::size_t position : {std::size_t{3}, std::size_t{35}}) {
        std::vector<float> z(40, 0.0f);
        z[position] = std::nanf("");
        const std::int32_t target = 1;
        EXPECT_FALSE(
            std::isfinite(loss.run(z.data(), nullptr, &target, 1, 1.0, z.data()).loss_sum));
    }
}

TEST(SoftmaxCrossEntropy, NamesABadTarget) {
    SoftmaxCrossEntropy loss(ModuleContext(), 3, 4);
    std::vector<float> z(12, 0.0f);
    const std::vector<std::int32_t> targets = {0, 1, 3, 2};
    const std::string sentence = expect_error(ErrorCode::kInvalidArgument, "targets", [&] {
        loss.run(z.data(), nullptr, targets.data(), 4, 1.0, nullptr);
    });
    EXPECT_NE(sentence.find("targets[2] is 3"), std::string::npos) << sentence;
}

TEST(Perplexity, OfUniformLogitsIsTheVocabularySize) {
    for (const std::int64_t classes : {2, 65, 10000}) {
        SoftmaxCrossEntropy loss(ModuleContext(DType::kF64), classes, 3);
        std::vector<double> z(static_cast<std::size_t>(3 * classes), 0.75);
        const std::vector<std::int32_t> targets = {0, kIgnoreTarget, 1};
        const auto result = loss.run(z.data(), nullptr, targets.data(), 3, 1.0, nullptr);
        EXPECT_EQ(result.count, 2);
        EXPECT_NEAR(perplexity(result.mean()), static_cast<double>(classes),
                    1e-10 * static_cast<double>(classes));
        EXPECT_NEAR(bits_per_char(result.mean()), std::log2(static_cast<double>(classes)), 1e-10);
    }
}

TEST(Perplexity, PaddingNeverCounts) {
    SoftmaxCrossEntropy loss(ModuleContext(DType::kF64), 4, 6);
    const auto values = random_values(7, 24, 2.0);
    std::vector<double> all(values), part(values.begin(), values.begin() + 12);
    const std::vector<std::int32_t> padded = {1, 2, 0, -1, -1, -1};
    const auto a = loss.run(all.data(), nullptr, padded.data(), 6, 1.0, all.data());
    const auto b = loss.run(part.data(), nullptr, padded.data(), 3, 1.0, part.data());
    EXPECT_EQ(a.loss_sum, b.loss_sum);
    EXPECT_EQ(a.count, b.count);
    for (std::size_t i = 12; i < 24; ++i) EXPECT_EQ(all[i], 0.0);
}

TEST(Perplexity, PerWordFromCharacters) {
    // 10 words whose characters cost 23 nats together.
    EXPECT_DOUBLE_EQ(perplexity_per_word(23.0, 10), std::exp(2.3));
}

}  // namespace
}  // namespace carousel::test
