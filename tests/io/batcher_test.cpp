#include "src/data/batcher.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "carousel/error.hpp"

namespace carousel::data {
namespace {

std::vector<std::int32_t> ramp(std::int64_t n) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
    std::iota(tokens.begin(), tokens.end(), 0);
    return tokens;
}

struct Batch {
    std::int64_t steps = 0;
    bool reset = false;
    std::vector<std::int32_t> tokens, targets;
    friend bool operator==(const Batch& a, const Batch& b) {
        return a.steps == b.steps && a.reset == b.reset && a.tokens == b.tokens &&
               a.targets == b.targets;
    }
};

Batch next(Batcher& batcher, std::int64_t batch_size, std::int64_t steps) {
    Batch b;
    b.tokens.resize(static_cast<std::size_t>(batch_size * steps));
    b.targets.resize(b.tokens.size());
    b.steps = batcher.next(steps, b.tokens.data(), b.targets.data(), &b.reset);
    b.tokens.resize(static_cast<std::size_t>(batch_size * b.steps));
    b.targets.resize(b.tokens.size());
    return b;
}

TEST(SequentialBatcher, EveryTokenOncePerEpochInOrderWithStateCarried) {
    const std::int64_t num_tokens = 103, batch = 4, seq_len = 7;
    const auto tokens = ramp(num_tokens);
    SequentialBatcher batcher(tokens.data(), num_tokens, batch, seq_len);
    const std::int64_t stream = (num_tokens - 1) / batch;
    EXPECT_EQ(batcher.positions_per_epoch(), stream);
    for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
        std::vector<std::int32_t> position(static_cast<std::size_t>(batch), 0);
        for (std::int64_t k = 0; k < batcher.batches_per_epoch(); ++k) {
            EXPECT_EQ(batcher.cursor().epoch, epoch);
            const Batch b = next(batcher, batch, seq_len);
            EXPECT_EQ(b.reset, k == 0);
            for (std::int64_t t = 0; t < b.steps; ++t) {
                for (std::int64_t n = 0; n < batch; ++n) {
                    const auto i = static_cast<std::size_t>(t * batch + n);
                    auto& at = position[static_cast<std::size_t>(n)];
                    EXPECT_EQ(b.tokens[i], n * stream + at);
                    EXPECT_EQ(b.targets[i], b.tokens[i] + 1);
                    ++at;
                }
            }
        }
        for (const std::int32_t p : position) EXPECT_EQ(p, stream);
        EXPECT_EQ(batcher.cursor(), (BatchCursor{epoch + 1, 0}));
    }
}

TEST(SequentialBatcher, StepsMayVaryFromCallToCall) {
    const auto tokens = ramp(31);
    SequentialBatcher batcher(tokens.data(), 31, 1, 5);
    std::int32_t expected = 0;
    for (const std::int64_t steps : {1, 9, 4, 30}) {
        const Batch b = next(batcher, 1, steps);
        EXPECT_EQ(b.steps, std::min<std::int64_t>(steps, 30 - expected));
        for (const std::int32_t token : b.tokens) EXPECT_EQ(token, expected++);
    }
    EXPECT_EQ(expected, 30);
    EXPECT_EQ(batcher.cursor(), (BatchCursor{1, 0}));
}

TEST(SequentialBatcher, ReadLooksBackWithoutMoving) {
    const auto tokens = ramp(41);
    SequentialBatcher batcher(tokens.data(), 41, 2, 5);
    const Batch first = next(batcher, 2, 5);
    const BatchCursor cursor = batcher.cursor();
    Batch again = first;
    again.tokens.assign(10, -1);
    again.targets.assign(10, -1);
    batcher.read(0, 5, again.tokens.data(), again.targets.data());
    EXPECT_EQ(again, first);
    EXPECT_EQ(batcher.cursor(), cursor);
    EXPECT_THROW(batcher.read(16, 5, again.tokens.data(), again.targets.data()), Error);
    EXPECT_THROW(batcher.read(-1, 2, again.tokens.data(), again.targets.data()), Error);
}

TEST(RandomBatcher, WindowsDoNotOverlapAndDifferBetweenEpochs) {
    const std::int64_t num_tokens = 100, batch = 3, seq_len = 6;
    const auto tokens = ramp(num_tokens);
    RandomBatcher batcher(tokens.data(), num_tokens, batch, seq_len, 42);
    EXPECT_EQ(batcher.batches_per_epoch(), 5);  // 16 windows, 3 at a time
    std::vector<std::vector<std::int32_t>> epochs;
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        std::set<std::int32_t> seen;
        epochs.emplace_back();
        for (std::int64_t k = 0; k < batcher.batches_per_epoch(); ++k) {
            const Batch b = next(batcher, batch, seq_len);
            EXPECT_TRUE(b.reset);
            EXPECT_EQ(b.steps, seq_len);
            for (std::int64_t n = 0; n < batch; ++n) {
                for (std::int64_t t = 0; t < seq_len; ++t) {
                    const auto i = static_cast<std::size_t>(t * batch + n);
                    EXPECT_EQ(b.tokens[i], b.tokens[static_cast<std::size_t>(n)] + t);
                    EXPECT_EQ(b.targets[i], b.tokens[i] + 1);
                    EXPECT_TRUE(seen.insert(b.tokens[i]).second) << "token served twice";
                }
                epochs.back().push_back(b.tokens[static_cast<std::size_t>(n)]);
            }
        }
        EXPECT_EQ(seen.size(), 90u);
        EXPECT_EQ(batcher.cursor(), (BatchCursor{epoch + 1, 0}));
    }
    EXPECT_NE(epochs[0], epochs[1]);
    EXPECT_NE(epochs[1], epochs[2]);
    EXPECT_FALSE(std::is_sorted(epochs[0].begin(), epochs[0].end()));
}

TEST(RandomBatcher, CutMovesBetweenEpochsAndStaysInside) {
    const std::int64_t num_tokens = 64 * 5 + 1 + 40, batch = 4, seq_len = 16;
    const auto tokens = ramp(num_tokens);
    RandomBatcher batcher(tokens.data(), num_tokens, batch, seq_len, 3);
    std::set<std::int32_t> cuts;
    for (int k = 0; k < 40 * batcher.batches_per_epoch(); ++k) {
        const Batch b = next(batcher, batch, seq_len);
        for (std::size_t n = 0; n < 4; ++n) cuts.insert(b.tokens[n] % 16);
        for (const std::int32_t target : b.targets) EXPECT_LT(target, num_tokens);
    }
    EXPECT_GT(cuts.size(), 10u);
}

TEST(RandomBatcher, SeedDecides) {
    const auto tokens = ramp(1000);
    RandomBatcher a(tokens.data(), 1000, 4, 10, 7);
    RandomBatcher b(tokens.data(), 1000, 4, 10, 7);
    RandomBatcher c(tokens.data(), 1000, 4, 10, 8);
    const Batch first = next(a, 4, 10);
    EXPECT_EQ(first, next(b, 4, 10));
    EXPECT_FALSE(first == next(c, 4, 10));
    EXPECT_THROW(next(a, 4, 9), Error);
}

TEST(Batcher, ResumedFromAnyCursorEqualsUninterrupted) {
    const std::int64_t num_tokens = 157, batch = 3, seq_len = 8;
    const auto tokens = ramp(num_tokens);
    for (const Batching batching : {Batching::kSequential, Batching::kRandom}) {
        const auto whole = make_batcher(batching, tokens.data(), num_tokens, batch, seq_len, 5);
        std::vector<BatchCursor> cursors;
        std::vector<Batch> batches;
        for (int k = 0; k < 20; ++k) {
            cursors.push_back(whole->cursor());
            batches.push_back(next(*whole, batch, seq_len));
        }
        for (std::size_t k = 0; k < cursors.size(); ++k) {
            const auto resumed =
                make_batcher(batching, tokens.data(), num_tokens, batch, seq_len, 5);
            resumed->set_cursor(cursors[k]);
            for (std::size_t j = k; j < batches.size(); ++j) {
                ASSERT_EQ(next(*resumed, batch, seq_len), batches[j])
                    << batching_name(batching) << " resumed before batch " << k;
            }
        }
        const std::int64_t positions = whole->positions_per_epoch();
        EXPECT_THROW(whole->set_cursor({0, positions}), Error);
        EXPECT_THROW(whole->set_cursor({0, -1}), Error);
        EXPECT_THROW(whole->set_cursor({-1, 0}), Error);
    }
}

TEST(Batcher, TooFewTokensAndBadSizesAreErrors) {
    const auto tokens = ramp(50);
    EXPECT_THROW(SequentialBatcher(tokens.data(), 4, 4, 2), Error);
    EXPECT_NO_THROW(SequentialBatcher(tokens.data(), 5, 4, 2));
    EXPECT_THROW(RandomBatcher(tokens.data(), 8, 4, 2, 0), Error);
    EXPECT_NO_THROW(RandomBatcher(tokens.data(), 9, 4, 2, 0));
    EXPECT_THROW(SequentialBatcher(tokens.data(), 50, 0, 2), Error);
    EXPECT_THROW(RandomBatcher(tokens.data(), 50, 2, 0, 0), Error);
    EXPECT_THROW(batching_parse("shuffled"), Error);
    EXPECT_EQ(batching_parse("random"), Batching::kRandom);
}

}  // namespace
}  // namespace carousel::data
