#include "src/data/batcher.hpp"

#include <Random123/philox.h>

#include <algorithm>
#include <numeric>

#include "carousel/error.hpp"

namespace carousel::data {

namespace {

void check_positive(const char* what, std::int64_t value) {
    if (value < 1) {
        throw Error(
            ErrorCode::kInvalidArgument,
            std::string(what) + " is " + std::to_string(value) + ", and must be at least 1.");
    }
}

[[noreturn]] void fail_cursor(const BatchCursor& cursor, std::int64_t positions) {
    throw Error(ErrorCode::kInvalidArgument,
                "the data cursor (epoch " + std::to_string(cursor.epoch) + ", position " +
                    std::to_string(cursor.position) + ") lies outside an epoch of " +
                    std::to_string(positions) +
                    " positions; the text is not the one that the "
                    "cursor was saved with.");
}

/// Uniform random integers from Philox keyed by (seed, epoch): the k-th draw is a function of
/// (seed, epoch, k) alone.
class EpochRandom {
public:
    EpochRandom(std::uint64_t seed, std::int64_t epoch) : epoch_(epoch) {
        key_ = {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}};
    }
    /// In [0, bound). The modulo's bias, bound / 2^64, is far below what any epoch could show.
    std::int64_t below(std::int64_t bound) {
        const auto epoch = static_cast<std::uint64_t>(epoch_);
        const r123::Philox4x32::ctr_type counter{
            {static_cast<std::uint32_t>(draw_), static_cast<std::uint32_t>(draw_ >> 32),
             static_cast<std::uint32_t>(epoch), static_cast<std::uint32_t>(epoch >> 32)}};
        ++draw_;
        const auto bits = r123::Philox4x32()(counter, key_);
        const std::uint64_t value = static_cast<std::uint64_t>(bits[1]) << 32 | bits[0];
        return static_cast<std::int64_t>(value % static_cast<std::uint64_t>(bound));
    }

private:
    r123::Philox4x32::key_type key_{};
    std::int64_t epoch_;
    std::uint64_t draw_ = 0;
};

}  // namespace

const char* batching_name(Batching batching) noexcept {
    return batching == Batching::kSequential ? "sequential" : "random";
}

Batching batching_parse(const std::string& text) {
    if (text == "sequential") return Batching::kSequential;
    if (text == "random") return Batching::kRandom;
    throw Error(ErrorCode::kInvalidArgument,
                "unknown batching '" + text + "'; expected sequential or random.");
}

SequentialBatcher::SequentialBatcher(const std::int32_t* tokens, std::int64_t num_tokens,
                                     std::int64_t batch_size, std::int64_t seq_len)
    : tokens_(tokens), batch_size_(batch_size), seq_len_(seq_len) {
    check_positive("batch size", batch_size);
    check_positive("seq_len", seq_len);
    stream_len_ = (num_tokens - 1) / batch_size;
    if (num_tokens < batch_size + 1) {
        throw Error(ErrorCode::kInvalidArgument,
                    "sequential batches of " + std::to_string(batch_size) +
                        " streams need at least " + std::to_string(batch_size + 1) +
                        " tokens, and there are " + std::to_string(num_tokens) + ".");
    }
}

void SequentialBatcher::read(std::int64_t position, std::int64_t num_steps, std::int32_t* tokens,
                             std::int32_t* targets) const {
    if (position < 0 || num_steps < 0 || position + num_steps > stream_len_) {
        throw Error(ErrorCode::kInvalidArgument, "steps " + std::to_string(position) + " to " +
                                                     std::to_string(position + num_steps) +
                                                     " lie outside streams of " +
                                                     std::to_string(stream_len_) + " steps.");
    }
    for (std::int64_t n = 0; n < batch_size_; ++n) {
        const std::int32_t* stream = tokens_ + n * stream_len_ + position;
        for (std::int64_t t = 0; t < num_steps; ++t) {
            tokens[t * batch_size_ + n] = stream[t];
            targets[t * batch_size_ + n] = stream[t + 1];
        }
    }
}

std::int64_t SequentialBatcher::next(std::int64_t max_steps, std::int32_t* tokens,
                                     std::int32_t* targets, bool* state_reset) {
    check_positive("max_steps", max_steps);
    const std::int64_t num_steps = std::min(max_steps, stream_len_ - cursor_.position);
    read(cursor_.position, num_steps, tokens, targets);
    *state_reset = cursor_.position == 0;
    cursor_.position += num_steps;
    if (cursor_.position == stream_len_) cursor_ = {cursor_.epoch + 1, 0};
    return num_steps;
}

void SequentialBatcher::set_cursor(const BatchCursor& cursor) {
    if (cursor.epoch < 0 || cursor.position < 0 || cursor.position >= stream_len_) {
        fail_cursor(cursor, stream_len_);
    }
    cursor_ = cursor;
}

std::int64_t SequentialBatcher::batches_per_epoch() const noexcept {
    return (stream_len_ + seq_len_ - 1) / seq_len_;
}

RandomBatcher::RandomBatcher(const std::int32_t* tokens, std::int64_t num_tokens,
                             std::int64_t batch_size, std::int64_t seq_len, std::uint64_t seed)
    : tokens_(tokens),
      num_tokens_(num_tokens),
      batch_size_(batch_size),
      seq_len_(seq_len),
      seed_(seed) {
    check_positive("batch size", batch_size);
    check_positive("seq_len", seq_len);
    batches_ = (num_tokens - 1) / seq_len / batch_size;
    if (batches_ < 1) {
        throw Error(ErrorCode::kInvalidArgument,
                    "random batches of " + std::to_string(batch_size) + " windows of " +
                        std::to_string(seq_len) + " tokens need at least " +
                        std::to_string(batch_size * seq_len + 1) + " tokens, and there are " +
                        std::to_string(num_tokens) + ".");
    }
    draw_epoch();
}

void RandomBatcher::draw_epoch() {
    EpochRandom random(seed_, cursor_.epoch);
    // The cut moves from epoch to epoch as far as it leaves enough windows for all mini-batches.
    const std::int64_t spare = num_tokens_ - 1 - batches_ * batch_size_ * seq_len_;
    const std::int64_t offset = random.below(std::min(seq_len_, spare + 1));
    const std::int64_t windows = (num_tokens_ - 1 - offset) / seq_len_;
    starts_.resize(static_cast<std::size_t>(windows));
    for (std::int64_t w = 0; w < windows; ++w) {
        starts_[static_cast<std::size_t>(w)] = offset + w * seq_len_;
    }
    for (std::int64_t w = windows - 1; w > 0; --w) {  // Fisher-Yates
        std::swap(starts_[static_cast<std::size_t>(w)],
                  starts_[static_cast<std::size_t>(random.below(w + 1))]);
    }
}

std::int64_t RandomBatcher::next(std::int64_t max_steps, std::int32_t* tokens,
                                 std::int32_t* targets, bool* state_reset) {
    if (max_steps != seq_len_) {
        throw Error(ErrorCode::kInvalidArgument,
                    "random batches have windows of seq_len = " + std::to_string(seq_len_) +
                        " steps; " + std::to_string(max_steps) + " were asked for.");
    }
    for (std::int64_t n = 0; n < batch_size_; ++n) {
        const std::int32_t* window =
            tokens_ + starts_[static_cast<std::size_t>(cursor_.position * batch_size_ + n)];
        for (std::int64_t t = 0; t < seq_len_; ++t) {
            tokens[t * batch_size_ + n] = window[t];
            targets[t * batch_size_ + n] = window[t + 1];
        }
    }
    *state_reset = true;
    if (++cursor_.position == batches_) {
        cursor_ = {cursor_.epoch + 1, 0};
        draw_epoch();
    }
    return seq_len_;
}

void RandomBatcher::set_cursor(const BatchCursor& cursor) {
    if (cursor.epoch < 0 || cursor.position < 0 || cursor.position >= batches_) {
        fail_cursor(cursor, batches_);
    }
    cursor_ = cursor;
    draw_epoch();
}

std::unique_ptr<Batcher> make_batcher(Batching batching, const std::int32_t* tokens,
                                      std::int64_t num_tokens, std::int64_t batch_size,
                                      std::int64_t seq_len, std::uint64_t seed) {
    if (batching == Batching::kSequential) {
        return std::make_unique<SequentialBatcher>(tokens, num_tokens, batch_size, seq_len);
    }
    return std::make_unique<RandomBatcher>(tokens, num_tokens, batch_size, seq_len, seed);
}

}  // namespace carousel::data
