#pragma once

#include <cstdint>
#include <memory>

#include "carousel/rnn.hpp"
#include "src/train/lm_model.hpp"

namespace carousel::train {

/// One token of one stream through a trained model, state carried: embedding or one-hot, recurrent
/// stack, output layer. Weights are copied and packed once. On a CUDA device calls only enqueue, and
/// every address stays where it is, so that they can be recorded in a graph.
class TokenStep {
public:
    /// Copies the model's weights of now to the device and type of `config`, which is the model's
    /// with the same or the CPU's device. Types: the model's own, or that of its masters.
    TokenStep(LmModel& model, const LmConfig& config);

    /// Reads one token, at this address in memory of the device.
    void feed(const std::int32_t* token);
    /// logits() of the token after the ones fed so far.
    void score();
    const void* logits() const noexcept { return logits_.data(); }
    /// Forgets what was fed; waits on a CUDA device.
    void reset() { state_.zero(); }

    const LmConfig& config() const noexcept { return config_; }
    const ModuleContext& context() const noexcept { return context_; }
    const RnnPlan& plan() const noexcept { return plan_; }

private:
    LmConfig config_;
    ModuleContext context_;
    Buffer embedding_, weight_, bias_;
    RnnPlan plan_;
    std::unique_ptr<PackedWeights> packed_;
    Buffer workspace_, x_, y_, logits_;
    LmState state_;
    RnnForwardArgs args_;
};

}  // namespace carousel::train
