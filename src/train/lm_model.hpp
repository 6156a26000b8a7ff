#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "carousel/loss.hpp"
#include "carousel/module.hpp"
#include "src/train/lm_config.hpp"

namespace carousel::train {

/// Hidden and cell states of a stack, [L,N,H] each, zero at first.
struct LmState {
    Buffer h, c;  ///< c is empty for cells without one
    LmState() = default;
    LmState(const LmConfig& config, std::int64_t batch_size);
    void zero();
};

/// A language model: tokens -> embedding or one-hot -> recurrent stack -> linear -> softmax
/// cross-entropy against the next tokens. Where the vocabulary is small beside the embedding, the
/// embedding is folded into the first layer's input weights, w_ih weightᵀ [G*H,V], on one-hot input:
/// the same function and gradients with fewer operations. It owns parameters and the buffers of one window of
/// several chunks; parameters are named `embedding.weight`, `rnn.*`, `output.weight`, `output.bias`.
class LmModel {
public:
    /// `max_steps`: the longest chunk.
    LmModel(const LmConfig& config, std::int64_t max_steps, std::int64_t batch_size,
            std::shared_ptr<ThreadPool> pool);

    /// Fills the parameters from the seed, by `init` and `forget_bias`.
    void initialize();

    /// One chunk of a window, tokens and targets [steps, N].
    struct Chunk {
        const std::int32_t* tokens = nullptr;
        const std::int32_t* targets = nullptr;  ///< null: no losses here
        std::int64_t steps = 0;
    };
    struct WindowOptions {
        double loss_scale = 1.0;  ///< of d loss / d logits
        double boundary_scale =
            1.0;  ///< of the state gradient where it crosses from chunk to chunk
        std::uint64_t dropout_step = 0;  ///< key of the masks; chunk i uses dropout_step + i
        std::size_t keep_after = 0;      ///< `state` becomes the one after this many chunks
    };
    struct Result {
        double loss_sum = 0.0;
        std::int64_t count = 0;
    };
    /// Forward and backward over the chunks, starting from `state`; gradients are overwritten.
    Result train_window(const std::vector<Chunk>& chunks, const WindowOptions& options,
                        LmState& state);

    /// Forward without dropout over one chunk of `batch_size` streams; carries `state`.
    Result evaluate(const Chunk& chunk, std::int64_t batch_size, LmState& state);

    const LmConfig& config() const noexcept { return config_; }
    ParameterSet& params() noexcept { return params_; }
    const ParameterSet& params() const noexcept { return params_; }
    const RnnPlan& plan() const noexcept { return rnn_->plan(); }
    std::int64_t max_steps() const noexcept { return max_steps_; }
    std::int64_t batch_size() const noexcept { return batch_size_; }

private:
    /// What backward needs of a chunk.
    struct ChunkBuffers {
        Buffer x, y, dy;
        std::vector<std::int32_t> ones;  ///< column of the one in each row of a one-hot x
    };
    /// True if folding costs clearly fewer operations per window than looking up and projecting.
    bool folding_pays() const;
    void fold_weights();
    void unfold_gradients();
    bool one_hot_input() const { return embedding_ == nullptr || folded_.data() != nullptr; }
    std::int64_t stack_input_size() const {
        return one_hot_input() ? config_.vocab_size : config_.embedding_size;
    }
    void add_chunk_buffers();
    void prepare_training(std::size_t num_chunks);
    void write_input(const Chunk& chunk, std::int64_t batch_size, ChunkBuffers& buffers);
    RnnForwardArgs forward_args(const Chunk& chunk, std::int64_t batch_size, ChunkBuffers& buffers,
                                const LmState& from, LmState& to) const;
    Result output_layer(const Chunk& chunk, std::uint64_t dropout_step, double loss_scale,
                        ChunkBuffers& buffers, bool accumulate);
    void backward_chunks(const std::vector<Chunk>& chunks, double boundary_scale);

    LmConfig config_;
    std::int64_t max_steps_, batch_size_;
    ParameterSet params_;
    std::unique_ptr<Embedding> embedding_;
    std::unique_ptr<Rnn> rnn_;
    std::unique_ptr<Linear> output_;
    std::unique_ptr<Dropout> dropout_;
    std::unique_ptr<SoftmaxCrossEntropy> loss_;
    std::vector<ChunkBuffers> chunks_;
    std::vector<LmState> states_;  ///< states_[i] is what chunk i starts from; one more than chunks
    Buffer logits_, dropped_, dx_;
    Buffer folded_, dfolded_;       ///< [G*H,V], empty when not folding
    std::vector<LmState> dstates_;  ///< two, written in turn where gradients cross chunks
};

}  // namespace carousel::train
