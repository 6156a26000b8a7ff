#pragma once

#include <cstdint>

#include "carousel/module.hpp"

namespace carousel {

struct StepControl;

/// What clipping decided for one step. A copy on the host of what the optimiser reads on the
/// device.
struct GradNorm {
    double norm = 0.0;     ///< of all gradients together, before clipping
    double scale = 1.0;    ///< min(1, max_norm / (norm + 1e-6)); 1 without clipping
    bool skipped = false;  ///< the norm is not finite: the next optimiser step changes nothing
};

/// Global gradient norm and clip coefficient, kept on the device where the optimiser reads them: no
/// host round trip in a step.
///
/// Repeat   fixed chunks are summed in f32/f64 lanes, the chunks in order in f64: the same bits at
///          any thread count.
class CAROUSEL_API GradClip {
public:
    /// `max_norm` 0: measure and guard, do not scale.
    GradClip(ParameterSet& params, double max_norm);

    /// Measures the gradients and sets the scale for the next Optimizer::step. The gradients
    /// themselves are not changed; the optimiser applies the scale as it reads them.
    void measure();
    /// Scales the gradients in place by the measured coefficient, and resets it to 1.
    void apply();
    /// The last measurement. On a CUDA device this waits for the stream.
    GradNorm read() const;

    StepControl* control() const noexcept { return control_.as<StepControl>(); }

private:
    ParameterSet* params_;
    double max_norm_;
    Buffer control_;   ///< one StepControl, on the device
    Buffer partials_;  ///< f64, one per chunk
};

/// Clamps every gradient element to [-limit, limit].
CAROUSEL_API void clip_grad_value(ParameterSet& params, double limit);

}  // namespace carousel
