#pragma once

#include <cstdint>
#include <vector>

#include "src/train/token_step.hpp"

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

/// Runs a trained model token by token on the CPU, in f64 for models in f64, else in f32.
class LmSampler {
public:
    /// Packs the model's weights of now (in 16-bit types the masters). The sampler keeps its own
    /// copies and shares its pool.
    explicit LmSampler(LmModel& model);

    /// Feeds one token; the logits [V] of the one after it, valid until the next call.
    const double* next(std::int32_t token);
    /// As next() and a draw from the logits.
    std::int32_t sample(std::int32_t token, TokenDraw& draw, double uniform);
    void reset() { step_.reset(); }
    std::int64_t vocab_size() const noexcept { return step_.config().vocab_size; }

private:
    TokenStep step_;
    std::vector<double> logits_f64_;
};

}  // namespace carousel::train
