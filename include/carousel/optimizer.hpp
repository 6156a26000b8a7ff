#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "carousel/grad_clip.hpp"
#include "carousel/module.hpp"

namespace carousel {

enum class OptimizerKind : int { kSgd = 0, kRmsprop = 1, kAdam = 2, kAdamW = 3 };
CAROUSEL_API const char* optimizer_name(OptimizerKind kind) noexcept;  ///< "sgd", "rmsprop", …
CAROUSEL_API OptimizerKind
optimizer_parse(const std::string& text);  ///< InvalidArgument if unknown

/// Settings, with the names and defaults of torch.optim.
struct OptimizerOptions {
    OptimizerKind kind = OptimizerKind::kAdam;
    double momentum = 0.0;  ///< SGD and RMSProp
    double alpha = 0.99;    ///< RMSProp: decay of the mean square
    double beta1 = 0.9;     ///< Adam, AdamW
    double beta2 = 0.999;
    double eps = 1e-8;          ///< RMSProp, Adam, AdamW: added outside the square root
    double weight_decay = 0.0;  ///< L2 added to the gradient; AdamW: decoupled
    double clip_value =
        0.0;  ///< > 0: each gradient element is clamped to +-clip_value after scaling
};

/// One update of all parameters of a set, in one pass.
///
///   g = clamp(scale * grad, +-clip_value);  unless AdamW: g += weight_decay * p
///   SGD      b = momentum b + g;  p -= lr b
///   RMSProp  s = alpha s + (1-alpha) g²;  u = g / (sqrt(s) + eps);  b = momentum b + u;  p -= lr b
///   Adam(W)  [AdamW: p -= lr weight_decay p]
///            m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g²
///            p -= lr / (1-beta1^t) * m / (sqrt(v) / sqrt(1-beta2^t) + eps)
///
/// t counts applied updates: a step skipped for a non-finite norm changes nothing and is not
/// counted. SGD without momentum and weight decay visits only the touched rows of an embedding; the
/// numbers are those of the dense update. Source   torch.optim (SGD with dampening 0).
class CAROUSEL_API Optimizer {
public:
    /// Errors: InvalidArgument (an option out of range, named; before allocate()); OutOfMemory.
    Optimizer(ParameterSet& params, GradClip& clip, const OptimizerOptions& options);

    /// Applies the gradients with the scale and the skip flag that GradClip::measure left.
    /// Errors: InvalidArgument: a learning rate that is negative or not finite.
    void step(double lr);
    /// The same with the learning rate that set_lr put on the device, where a replayed graph finds
    /// the present one. set_lr only enqueues; it cannot be captured itself.
    void set_lr(double lr);
    void step();

    /// State as tensors named `<slot>.<parameter>` ("exp_avg.output.weight"), for checkpoints.
    struct StateTensor {
        std::string name;
        std::vector<std::int64_t> shape;
        TensorView view;
    };
    std::vector<StateTensor> state() const;
    std::int64_t applied_steps() const;  ///< updates applied so far; Adam's t
    void set_applied_steps(std::int64_t steps);
    const OptimizerOptions& options() const noexcept { return options_; }

private:
    void update(double lr, const double* device_lr);

    ParameterSet* params_;
    GradClip* clip_;
    OptimizerOptions options_;
    Buffer slots_[2];  ///< in the dtype of the masters
    Buffer lr_;        ///< one f64
};

}  // namespace carousel
