#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "carousel/grad_clip.hpp"
#include "carousel/optimizer.hpp"
#include "carousel/schedule.hpp"
#include "src/backend/step_graphs.hpp"
#include "src/data/batcher.hpp"
#include "src/train/lm_model.hpp"

namespace carousel::train {

/// Loss of a model on a text.
struct Evaluation {
    double loss_sum = 0.0;  ///< nats
    std::int64_t tokens = 0;
    double loss() const noexcept {
        return tokens > 0 ? loss_sum / static_cast<double>(tokens) : 0.0;
    }
};
/// Scores tokens from fresh state, carried along, in up to `max_streams` parallel streams (at most
/// the model's batch size; fewer for a short text, whose starts without context would weigh more).
/// What does not fill the streams evenly is left out. Changes no training state. With one stream
/// every token but the first is scored.
Evaluation evaluate(LmModel& model, const std::int32_t* tokens, std::int64_t num_tokens,
                    std::int64_t max_streams);

/// Trains a language model: one call is one optimiser update. Everything random is a function of the
/// seed and of the number of the step, so a trainer set to a saved state continues bit for bit.
/// Nothing is allocated in a step once every window size has been seen.
///
/// On a CUDA device a step is enqueued without waiting for the device, and a step of a kind that was
/// run before (the same chunks, factors and addresses) is one CUDA graph, unless
/// LmConfig::graphs is false: its second run records, later ones replay. Ids, dropout keys, learning
/// rate, loss scale and Adam's counter are read on the device; results are those of plain steps, bit
/// for bit. f16 gradients are scaled dynamically (LossScaler).
class LmTrainer {
public:
    explicit LmTrainer(const LmConfig& config, std::shared_ptr<ThreadPool> pool = nullptr);

    struct StepResult {
        double loss_sum = 0.0;    ///< nats, over the tokens of this update
        std::int64_t tokens = 0;  ///< unmasked
        std::int64_t steps = 0;   ///< time steps consumed
        double lr = 0.0;
        std::int64_t number = 0;  ///< of this update, the first is 1
        double grad_norm = 0.0;   ///< before clipping
        bool skipped = false;     ///< the gradient was not finite: nothing changed
        double loss() const noexcept {
            return tokens > 0 ? loss_sum / static_cast<double>(tokens) : 0.0;
        }
    };

    /// A step whose results are still on the device. Its trainer must outlive it; what is not
    /// finished is dropped (the update happens all the same).
    class PendingStep {
    public:
        PendingStep() = default;
        ~PendingStep() { drop(); }
        PendingStep(PendingStep&& other) noexcept { swap(other); }
        PendingStep& operator=(PendingStep&& other) noexcept {
            swap(other);
            return *this;
        }
        bool valid() const noexcept { return trainer_ != nullptr; }

    private:
        friend class LmTrainer;
        void swap(PendingStep& other) noexcept;
        void drop() noexcept;

        LmTrainer* trainer_ = nullptr;
        SoftmaxCrossEntropy::Ticket loss_ = 0;
        GradClip::Ticket norm_ = 0;
        StepResult result_;  ///< what is known before the device has run
    };

    /// One update from one window tokens, targets [seq_len, N] (targets may hold kIgnoreTarget),
    /// continuing the carried state unless `reset_state`. seq_len up to the configured one. The
    /// memory can be reused on return.
    ///
    /// Only enqueues on a CUDA device, and waits only if the batches of the last few steps are all
    /// still on their way. Up to kMaxPending steps may be pending; they are finished in their order.
    /// Errors: InvalidArgument: seq_len, or an id out of range, with its position; nothing changed.
    PendingStep begin_step(const std::int32_t* tokens, const std::int32_t* targets,
                           std::int64_t seq_len, bool reset_state);
    /// The same from a batcher, by the configured truncation. Random truncation and k2 > k1 need
    /// sequential batches: InvalidArgument otherwise.
    PendingStep begin_step(data::Batcher& batcher);
    static constexpr int kMaxPending = 7;  ///< Ops::kReadBacks / 2, and room for an evaluation
    /// Waits for the step's results. Errors: InvalidArgument: see SoftmaxCrossEntropy::finish_read.
    StepResult finish_step(PendingStep pending);

    StepResult step(const std::int32_t* tokens, const std::int32_t* targets, std::int64_t seq_len,
                    bool reset_state) {
        return finish_step(begin_step(tokens, targets, seq_len, reset_state));
    }
    StepResult step(data::Batcher& batcher) { return finish_step(begin_step(batcher)); }

    const LmConfig& config() const noexcept { return model_.config(); }
    LmModel& model() noexcept { return model_; }
    const LmModel& model() const noexcept { return model_; }
    Optimizer& optimizer() noexcept { return optimizer_; }
    Schedule& schedule() noexcept { return schedule_; }
    LmState& state() noexcept { return state_; }
    LossScaler* loss_scaler() noexcept { return scaler_.get(); }  ///< f16, else null
    const StepGraphs& graphs() const noexcept { return graphs_; }
    std::int64_t steps_done() const noexcept { return step_; }  ///< pending ones included
    void set_steps_done(std::int64_t step) noexcept { step_ = step; }

    /// The longest chunk that a configuration ever runs.
    static std::int64_t max_chunk_steps(const LmConfig& config);

private:
    /// Chunks into which one batcher step was cut.
    struct Window {
        std::vector<LmModel::Chunk> chunks;
        std::size_t keep_after = 0;
        std::int64_t new_steps = 0;
        bool reset_state = false;
        double mean_steps =
            0.0;  ///< what kTokens divides by instead of the window's own length; 0 = own
    };
    void read_window(data::Batcher& batcher, Window& window);
    void read_history_window(data::SequentialBatcher& batcher, Window& window);
    void read_random_segment(data::Batcher& batcher, Window& window);
    double loss_divisor(const Window& window) const;
    PendingStep begin(const Window& window);

    TbpttOptions tbptt_;
    LmModel model_;
    GradClip clip_;
    std::unique_ptr<LossScaler> scaler_;
    Optimizer optimizer_;
    Schedule schedule_;
    LmState state_;
    std::int64_t step_ = 0;
    int num_pending_ = 0;
    std::vector<std::int32_t> tokens_, targets_;
    Window window_;
    StepGraphs graphs_;  ///< last: they go before the memory they use
};

}  // namespace carousel::train
