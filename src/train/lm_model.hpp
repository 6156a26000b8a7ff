#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "carousel/loss.hpp"
#include "carousel/module.hpp"
#include "src/train/lm_config.hpp"
#include "src/train/window_inputs.hpp"

namespace carousel::cuda {
class GraphKey;
}

namespace carousel::train {

/// Hidden and cell states of a stack, [L,N,H] each, zero at first, on the configuration's device.
struct LmState {
    Buffer h;  ///< in the storage dtype
    Buffer c;  ///< in the accumulator's; empty for cells without one
    LmState() = default;
    LmState(const LmConfig& config, std::int64_t batch_size);
    void zero();
    /// As zero(), on the device's queue: does not wait.
    void zero(Ops& ops);
};

/// A language model: tokens -> embedding or one-hot -> recurrent stack -> linear -> softmax
/// cross-entropy against the next tokens. Where the vocabulary is small beside the embedding, the
/// embedding is folded into the first layer's input weights, w_ih weightᵀ [G*H,V], on one-hot input:
/// the same function and gradients with fewer operations (not in 16-bit types, where the product of
/// the two would be rounded once more). It owns parameters and the buffers of one window of several
/// chunks; parameters are named `embedding.weight`, `rnn.*`, `output.weight`, `output.bias`.
///
/// On a CUDA device calls enqueue and return, except where they read a loss. A window's buffers stay
/// where they are, so that what enqueue_window() enqueues can be recorded in a graph.
class LmModel {
public:
    /// `max_steps`: the longest chunk.
    LmModel(const LmConfig& config, std::int64_t max_steps, std::int64_t batch_size,
            std::shared_ptr<ThreadPool> pool);

    /// Fills the parameters from the seed, by `init` and `forget_bias`: the same numbers on every
    /// device, rounded where the dtype is narrow.
    void initialize();

    /// One chunk of a window, tokens and targets [steps, N] in host memory.
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
    /// Errors: InvalidArgument: a token or target out of range, with its position; nothing has run.
    Result train_window(const std::vector<Chunk>& chunks, const WindowOptions& options,
                        LmState& state);

    /// The same in parts. Checks the ids, makes the buffers of a window larger than any before, and
    /// sends ids and dropout keys to the device.
    void upload_window(const std::vector<Chunk>& chunks, const WindowOptions& options);
    /// Enqueues forward and backward of the window uploaded last, whose chunks and options these are:
    /// their sizes and factors only, what lies behind the addresses is read on the device.
    void enqueue_window(const std::vector<Chunk>& chunks, const WindowOptions& options,
                        LmState& state);
    /// Sizes, factors and every address that enqueue_window() passes on.
    void add_to_key(cuda::GraphKey& key, const std::vector<Chunk>& chunks,
                    const WindowOptions& options, const LmState& state) const;

    /// Forward without dropout over one chunk of `batch_size` streams; carries `state`.
    Result evaluate(const Chunk& chunk, std::int64_t batch_size, LmState& state);
    /// The same without waiting for the loss.
    void enqueue_evaluation(const Chunk& chunk, std::int64_t batch_size, LmState& state);

    /// Loss of the window or evaluation enqueued last, in two halves: enqueues the copy to the host,
    /// waits for it. See SoftmaxCrossEntropy.
    SoftmaxCrossEntropy::Ticket begin_read() { return loss_->begin_read(); }
    Result finish_read(SoftmaxCrossEntropy::Ticket ticket);

    /// Gradients of the loss carry this scaler's scale from now on; null = none.
    void set_loss_scaler(const LossScaler* scaler) noexcept { loss_->set_loss_scaler(scaler); }

    const LmConfig& config() const noexcept { return config_; }
    ParameterSet& params() noexcept { return params_; }
    const ParameterSet& params() const noexcept { return params_; }
    const RnnPlan& plan() const noexcept { return rnn_->plan(); }
    std::int64_t max_steps() const noexcept { return max_steps_; }
    std::int64_t batch_size() const noexcept { return batch_size_; }
    const WindowInputs& inputs() const noexcept { return inputs_; }

private:
    /// What backward needs of a chunk.
    struct ChunkBuffers {
        Buffer x, y, dy;
        Buffer ones;  ///< i32 [rows]: column of the one in each row of a one-hot x
    };
    /// True if folding costs clearly fewer operations per window than looking up and projecting.
    bool folding_pays() const;
    Ops& ops() const { return params_.context().ops(); }
    void fold_weights();
    void unfold_gradients();
    bool one_hot_input() const { return embedding_ == nullptr || folded_.data() != nullptr; }
    std::int64_t stack_input_size() const {
        return one_hot_input() ? config_.vocab_size : config_.embedding_size;
    }
    void add_chunk_buffers();
    void prepare_training(std::size_t num_chunks);
    void check_ids(const Chunk& chunk, std::int64_t batch_size) const;
    void write_input(std::size_t chunk, std::int64_t rows);
    RnnForwardArgs forward_args(std::size_t chunk, std::int64_t steps, std::int64_t batch_size,
                                const LmState& from, LmState& to) const;
    void output_layer(std::size_t chunk, std::int64_t rows, double loss_scale, bool accumulate);
    void backward_chunks(const std::vector<Chunk>& chunks, double boundary_scale,
                         const LmState& state);
    void scale_state_gradient(LmState& gradient, double factor);

    LmConfig config_;
    std::int64_t max_steps_, batch_size_;
    ParameterSet params_;
    std::unique_ptr<Embedding> embedding_;
    std::unique_ptr<Rnn> rnn_;
    std::unique_ptr<Linear> output_;
    std::unique_ptr<Dropout> dropout_;
    std::unique_ptr<SoftmaxCrossEntropy> loss_;
    std::shared_ptr<Ops> wide_ops_;  ///< of cell states in 16-bit models; made when needed
    WindowInputs inputs_;
    std::vector<ChunkBuffers> chunks_;
    std::vector<LmState> states_;  ///< states_[i] is what chunk i ends with
    Buffer logits_, dropped_, dx_;
    Buffer folded_, dfolded_;       ///< [G*H,V], empty when not folding
    std::vector<LmState> dstates_;  ///< two, written in turn where gradients cross chunks
};

}  // namespace carousel::train
