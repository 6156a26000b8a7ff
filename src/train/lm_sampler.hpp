#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "carousel/rnn.hpp"
#include "src/train/lm_model.hpp"

namespace carousel::train {

/// How the next token is drawn from logits z.
///   temperature tau: p = softmax(z / tau); 0 is the largest logit (the first of equals)
///   top_k > 0: only the k most probable; top_p < 1: only the fewest whose probability reaches p
struct SampleOptions {
    double temperature = 1.0;
    std::int64_t top_k = 0;
    double top_p = 1.0;
};
/// InvalidArgument names the option and its range.
void validate(const SampleOptions& options);

/// Draws one token; `uniform` in [0, 1). The same logits, options and number give the same token.
class TokenDraw {
public:
    explicit TokenDraw(const SampleOptions& options);
    std::int32_t operator()(const double* logits, std::int64_t vocab_size, double uniform);

private:
    SampleOptions options_;
    std::vector<double> probabilities_;
    std::vector<std::int32_t> order_;
};

/// Runs a trained model token by token, state carried; weights are packed once. It runs on the CPU,
/// in f64 for models in f64, else in f32: one token of one stream is no work for another device.
class LmSampler {
public:
    /// Packs the model's weights of now (in 16-bit types the masters). The sampler keeps its own
    /// copies and shares its pool.
    explicit LmSampler(LmModel& model);

    /// Feeds one token; the logits [V] of the one after it, valid until the next call.
    const double* next(std::int32_t token);
    /// As next() and a draw from the logits.
    std::int32_t sample(std::int32_t token, TokenDraw& draw, double uniform);
    void reset();
    std::int64_t vocab_size() const noexcept { return config_.vocab_size; }

private:
    LmConfig config_;
    ModuleContext context_;
    Buffer embedding_, weight_, bias_;
    RnnPlan plan_;
    std::unique_ptr<PackedWeights> packed_;
    Buffer workspace_, x_, y_, logits_;
    std::vector<double> logits_f64_;
    std::int32_t one_ = -1;  ///< where the one of a one-hot x is
    LmState state_;
    RnnForwardArgs args_;
};

}  // namespace carousel::train
