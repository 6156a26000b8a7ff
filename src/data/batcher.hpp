#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace carousel::data {

enum class Batching { kSequential, kRandom };
const char* batching_name(Batching batching) noexcept;  ///< "sequential", "random"
Batching batching_parse(const std::string& text);       ///< InvalidArgument if unknown

/// Where a batcher stands. Two integers, so a checkpoint stores it as an i64 [2] tensor; with the
/// same tokens, options and seed a batcher set to a cursor continues as if never interrupted.
struct BatchCursor {
    std::int64_t epoch = 0;     ///< passes over the tokens completed
    std::int64_t position = 0;  ///< sequential: step inside the streams; random: windows served / N
    friend bool operator==(const BatchCursor& a, const BatchCursor& b) noexcept {
        return a.epoch == b.epoch && a.position == b.position;
    }
};

/// Serves (tokens, targets) pairs for next-token prediction under teacher forcing: the input at t
/// is the true token, the target at t the token after it. Arrays are time-major: element [t,n] is
/// at t * N + n. The tokens are borrowed and must outlive the batcher.
class Batcher {
public:
    virtual ~Batcher() = default;

    /// Fills the next mini-batch.
    ///
    /// In       max_steps     T wanted. Sequential: any T >= 1, may differ from call to call
    /// (random
    ///                        truncation), fewer steps come at the end of an epoch. Random:
    ///                        seq_len.
    /// Out      tokens, targets [T,N] i32, room for max_steps * N; state_reset true: the carried
    ///          state must be set to zero before this batch.
    /// Returns  the number of steps T filled, >= 1.
    virtual std::int64_t next(std::int64_t max_steps, std::int32_t* tokens, std::int32_t* targets,
                              bool* state_reset) = 0;

    /// Where the next call will start; epoch has grown by one once an epoch's last step was served.
    virtual BatchCursor cursor() const noexcept = 0;
    /// Continues from a cursor. InvalidArgument if it lies outside an epoch.
    virtual void set_cursor(const BatchCursor& cursor) = 0;

    /// Positions in an epoch. Sequential: time steps of each stream, (tokens - 1) / N; random:
    /// mini-batches.
    virtual std::int64_t positions_per_epoch() const noexcept = 0;
    /// Calls of next(seq_len) in an epoch.
    virtual std::int64_t batches_per_epoch() const noexcept = 0;
};

/// N contiguous streams side by side: stream n is tokens [n*S, (n+1)*S), S = (tokens - 1) / N, and
/// state carries over from batch to batch within an epoch. Each epoch serves every token once as
/// input, except the last (tokens - 1) % N + 1 ones.
class SequentialBatcher final : public Batcher {
public:
    /// Errors   InvalidArgument: fewer than N + 1 tokens.
    SequentialBatcher(const std::int32_t* tokens, std::int64_t num_tokens, std::int64_t batch_size,
                      std::int64_t seq_len);
    std::int64_t next(std::int64_t max_steps, std::int32_t* tokens, std::int32_t* targets,
                      bool* state_reset) override;
    BatchCursor cursor() const noexcept override { return cursor_; }
    void set_cursor(const BatchCursor& cursor) override;
    std::int64_t positions_per_epoch() const noexcept override { return stream_len_; }
    std::int64_t batches_per_epoch() const noexcept override;

    /// Fills steps [position, position + num_steps) of every stream without moving the cursor: the
    /// history that truncated BPTT with k2 > k1 looks back on.
    void read(std::int64_t position, std::int64_t num_steps, std::int32_t* tokens,
              std::int32_t* targets) const;

private:
    const std::int32_t* tokens_;
    std::int64_t batch_size_;
    std::int64_t seq_len_;
    std::int64_t stream_len_;
    BatchCursor cursor_;
};

/// Windows of seq_len tokens in random order, each with fresh state. An epoch cuts the tokens at a
/// random offset into windows that do not overlap and serves them in a random order, N at a time
/// (what does not fill a mini-batch is left out), both drawn from Philox keyed by (seed, epoch).
class RandomBatcher final : public Batcher {
public:
    /// Errors   InvalidArgument: fewer than N * seq_len + 1 tokens.
    RandomBatcher(const std::int32_t* tokens, std::int64_t num_tokens, std::int64_t batch_size,
                  std::int64_t seq_len, std::uint64_t seed);
    std::int64_t next(std::int64_t max_steps, std::int32_t* tokens, std::int32_t* targets,
                      bool* state_reset) override;
    BatchCursor cursor() const noexcept override { return cursor_; }
    void set_cursor(const BatchCursor& cursor) override;
    std::int64_t positions_per_epoch() const noexcept override { return batches_; }
    std::int64_t batches_per_epoch() const noexcept override { return batches_; }

private:
    void draw_epoch();

    const std::int32_t* tokens_;
    std::int64_t num_tokens_;
    std::int64_t batch_size_;
    std::int64_t seq_len_;
    std::uint64_t seed_;
    std::int64_t batches_;
    BatchCursor cursor_;
    /// First token of each window of this epoch, in the order served.
    std::vector<std::int64_t> starts_;
};

/// Makes the batcher that `batching` names; `seed` matters to kRandom only.
std::unique_ptr<Batcher> make_batcher(Batching batching, const std::int32_t* tokens,
                                      std::int64_t num_tokens, std::int64_t batch_size,
                                      std::int64_t seq_len, std::uint64_t seed);

}  // namespace carousel::data
