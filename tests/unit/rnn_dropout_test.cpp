#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "tests/support/compare.hpp"

// Dropout between layers, observed from outside through probe networks (see observe_dropout).

namespace carousel::test {
namespace {

RnnSpec dropout_spec(double p, std::int64_t layers, DType dtype = DType::kF64) {
    RnnSpec spec;
    spec.cell = Cell::kRnnRelu;
    spec.dtype = dtype;
    spec.input_size = 1;
    spec.hidden_size = 40;
    spec.num_layers = layers;
    spec.bidirectional = true;
    spec.dropout = p;
    return spec;
}

/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011), written from the paper.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::uint32_t key0,
                                    std::uint32_t key1) {
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = 0xD2511F53ULL * counter[0];
        const std::uint64_t product1 = 0xCD9E8D57ULL * counter[2];
        counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0,
                   static_cast<std::uint32_t>(product1),
                   static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1,
                   static_cast<std::uint32_t>(product0)};
        key0 += 0x9E3779B9U;
        key1 += 0xBB67AE85U;
    }
    return counter;
}

TEST(RnnDropout, PhiloxOfThisTestGivesThePapersValues) {
    // Known answers of the authors' distribution: all zeros, all ones.
    EXPECT_EQ(philox({0, 0, 0, 0}, 0, 0),
              (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(philox({~0U, ~0U, ~0U, ~0U}, ~0U, ~0U),
              (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(RnnDropout, MaskIsPhiloxOfSeedStepLayerAndElement) {
    const std::uint64_t seed = 0x123456789ABCDEF0ULL, step = 41;
    const double p = 0.3;
    const auto masks = observe_dropout(dropout_spec(p, 3), 3, 4, seed, step);
    ASSERT_EQ(masks.size(), 2U);
    const std::uint64_t threshold = static_cast<std::uint64_t>(std::ldexp(p, 32));
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
        for (std::uint32_t e = 0; e < masks[layer].size(); ++e) {
            const auto words =
                philox({e / 4, 0, static_cast<std::uint32_t>(step), layer},
                       static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
            const double expected = words[e % 4] < threshold ? 0.0 : 1.0 / (1.0 - p);
            ASSERT_EQ(masks[layer][e], expected) << "layer " << layer << " element " << e;
        }
    }
}

TEST(RnnDropout, KeepsTheRightFractionAndTheMean) {
    for (const double p : {0.1, 0.5, 0.9}) {
        const auto masks = observe_dropout(dropout_spec(p, 2), 25, 20, 3, 1);
        const double count = static_cast<double>(masks[0].size());
        double kept = 0.0, sum = 0.0;
        for (const double multiplier : masks[0]) {
            EXPECT_TRUE(multiplier == 0.0 || multiplier == 1.0 / (1.0 - p)) << multiplier;
            kept += multiplier > 0.0 ? 1.0 : 0.0;
            sum += multiplier;
        }
        const double deviation = std::sqrt(p * (1.0 - p) / count);  // of the kept fraction
        EXPECT_NEAR(kept / count, 1.0 - p, 4.0 * deviation);
        EXPECT_NEAR(sum / count, 1.0, 4.0 * deviation / (1.0 - p));
    }
}

TEST(RnnDropout, SeedStepAndLayerEachChangeTheMask) {
    const RnnSpec spec = dropout_spec(0.5, 3);
    const auto base = observe_dropout(spec, 4, 3, 7, 1);
    EXPECT_EQ(observe_dropout(spec, 4, 3, 7, 1), base);
    EXPECT_NE(observe_dropout(spec, 4, 3, 8, 1)[0], base[0]);
    EXPECT_NE(observe_dropout(spec, 4, 3, 7, 2)[0], base[0]);
    EXPECT_NE(base[0], base[1]);
    EXPECT_NE(observe_dropout(spec, 4, 3, 7 + (1ULL << 32), 1)[0], base[0]);
    EXPECT_NE(observe_dropout(spec, 4, 3, 7, 1 + (1ULL << 32))[0], base[0]);
}

TEST(RnnDropout, MaskDoesNotDependOnThreadsOrDtype) {
    const auto base = observe_dropout(dropout_spec(0.4, 3), 7, 9, 5, 2, 1);
    for (int threads = 2; threads <= 4; ++threads) {
        EXPECT_EQ(observe_dropout(dropout_spec(0.4, 3), 7, 9, 5, 2, threads), base);
    }
    const auto narrow = observe_dropout(dropout_spec(0.4, 3, DType::kF32), 7, 9, 5, 2, 2);
    for (std::size_t layer = 0; layer < base.size(); ++layer) {
        for (std::size_t e = 0; e < base[layer].size(); ++e) {
            ASSERT_EQ(narrow[layer][e], static_cast<double>(static_cast<float>(base[layer][e])));
        }
    }
}

/// The element index counts in [T,N,D*O] of the run, so the first rows of a longer run are those of
/// a shorter one.
TEST(RnnDropout, MaskIsIndexedByTheElementAlone) {
    const auto longer = observe_dropout(dropout_spec(0.4, 2), 9, 3, 5, 2)[0];
    const auto shorter = observe_dropout(dropout_spec(0.4, 2), 4, 3, 5, 2)[0];
    EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
}

TEST(RnnDropout, InferenceHasNone) {
    ShapeLine line = parse_shape_line("lstm L3 T5 N4 I3 H8 dropout=0.5 f32");
    const RnnData data = make_rnn_data(line);
    RnnRun with(line, data);
    with.inference();
    line.spec.dropout = 0.0;
    RnnRun without(line, data);
    without.inference();
    EXPECT_EQ(with.y.bytes(), without.y.bytes());
    with.training();
    EXPECT_NE(with.y.bytes(), without.y.bytes());
}

TEST(RnnDropout, LastLayerIsNotDropped) {
    const ShapeLine line = parse_shape_line("rnn_tanh L1 T9 N9 I3 H8 dropout=0.9 f32");
    RnnRun run(line, make_rnn_data(line));
    run.training();
    for (const double value : run.y.get()) EXPECT_NE(value, 0.0);
}

}  // namespace
}  // namespace carousel::test
