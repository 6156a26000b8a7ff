#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "src/train/lm_sampler.hpp"
#include "src/train/random.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

using train::RandomStream;
using train::SampleOptions;
using train::TokenDraw;

const std::vector<double> kLogits = {0.3, -1.2, 2.0, 0.3, -0.5, 1.1, -3.0, 0.9};

std::vector<double> softmax(double temperature) {
    std::vector<double> p;
    double sum = 0.0;
    for (const double z : kLogits) sum += std::exp(z / temperature);
    for (const double z : kLogits) p.push_back(std::exp(z / temperature) / sum);
    return p;
}

std::vector<double> counts_of(const SampleOptions& options, int draws) {
    TokenDraw draw(options);
    std::vector<double> counts(kLogits.size(), 0.0);
    for (int i = 0; i < draws; ++i) {
        const double u =
            train::random_uniform(17, RandomStream::kSample, static_cast<std::uint64_t>(i));
        const std::int32_t token = draw(kLogits.data(), 8, u);
        counts[static_cast<std::size_t>(token)] += 1.0;
    }
    return counts;
}

TEST(Sampling, DrawsFollowTheSoftmax) {
    constexpr int kDraws = 100000;
    for (const double temperature : {0.5, 1.0, 2.0}) {
        SampleOptions options;
        options.temperature = temperature;
        const auto counts = counts_of(options, kDraws);
        const auto p = softmax(temperature);
        double chi2 = 0.0;
        for (std::size_t j = 0; j < p.size(); ++j) {
            chi2 += std::pow(counts[j] - kDraws * p[j], 2) / (kDraws * p[j]);
        }
        EXPECT_LT(chi2, 29.9) << temperature;  // 7 degrees of freedom, p = 1e-4
    }
}

TEST(Sampling, TemperatureTowardsZeroIsTheLargestLogit) {
    for (const double temperature : {0.0, 1e-3}) {
        SampleOptions options;
        options.temperature = temperature;
        EXPECT_EQ(counts_of(options, 1000)[2], 1000.0);
    }
}

TEST(Sampling, TopKAndTopPKeepTheMostProbable) {
    constexpr int kDraws = 20000;
    SampleOptions options;
    options.top_k = 3;
    auto counts = counts_of(options, kDraws);
    const auto p = softmax(1.0);
    const double share = p[2] + p[5] + p[7];
    for (const std::size_t j : {2u, 5u, 7u}) {
        EXPECT_NEAR(counts[j] / kDraws, p[j] / share, 0.02);
        counts[j] = 0.0;
    }
    for (const double count : counts) EXPECT_EQ(count, 0.0);

    options.top_k = 0;
    options.top_p = p[2] + p[5] + 0.5 * p[7];  // reached by the third
    counts = counts_of(options, kDraws);
    EXPECT_GT(counts[7], 0.0);
    EXPECT_EQ(counts[2] + counts[5] + counts[7], kDraws);
    options.top_p = 1e-9;
    EXPECT_EQ(counts_of(options, 100)[2], 100.0);
    options.top_p = 1.0;
    options.top_k = 1;
    EXPECT_EQ(counts_of(options, 100)[2], 100.0);
}

TEST(Sampling, NumbersAtTheEdgesStayInRange) {
    TokenDraw draw{SampleOptions{}};
    EXPECT_EQ(draw(kLogits.data(), 8, 0.0), 0);
    EXPECT_EQ(draw(kLogits.data(), 8, 1.0 - 1e-16), 7);
}

TEST(Sampling, NamesABadOption) {
    SampleOptions options;
    options.temperature = -1.0;
    expect_error(ErrorCode::kInvalidArgument, "temperature", [&] { TokenDraw{options}; });
    options = {};
    options.top_p = 0.0;
    expect_error(ErrorCode::kInvalidArgument, "top", [&] { TokenDraw{options}; });
}

TEST(Random, StreamsAndSeedsDiffer) {
    std::set<double> numbers;
    for (const std::uint64_t seed : {1ull, 2ull, 1ull << 40}) {
        for (const RandomStream stream :
             {RandomStream::kInit, RandomStream::kSegment, RandomStream::kSample}) {
            for (const std::uint64_t a : {0ull, 1ull, 1ull << 35}) {
                for (const std::uint32_t b : {0u, 9u}) {
                    const double u = train::random_uniform(seed, stream, a, b);
                    EXPECT_GE(u, 0.0);
                    EXPECT_LT(u, 1.0);
                    numbers.insert(u);
                }
            }
        }
    }
    EXPECT_EQ(numbers.size(), 3u * 3u * 3u * 2u);
}

}  // namespace
}  // namespace carousel::test
