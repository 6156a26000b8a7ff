#pragma once

#include <cstdint>

#include "carousel/module.hpp"

namespace carousel {

struct LossScale;
struct StepControl;

/// Dynamic scale of the loss, for f16, whose gradients underflow: kept and moved on the device.
///
/// The loss multiplies its gradients by the scale; the norm, the clip coefficient and the update are
/// those of the unscaled gradients. A step with a non-finite gradient is skipped and lowers the scale;
/// `growth_interval` finite steps in a row raise it. With powers of two nothing is rounded.
class CAROUSEL_API LossScaler {
public:
    struct Options {
        double initial_scale = 65536.0;  ///< defaults as torch.amp.GradScaler
        double growth = 2.0, backoff = 0.5;
        std::int64_t growth_interval = 2000;
    };
    /// Errors: InvalidArgument names the option and its range.
    explicit LossScaler(const ModuleContext& context) : LossScaler(context, Options{}) {}
    LossScaler(const ModuleContext& context, const Options& options);

    double scale() const;  ///< of the next step; waits for what was enqueued
    LossScale* state() const noexcept { return state_.as<LossScale>(); }  ///< on the device

private:
    ModuleContext context_;
    Buffer state_;
};

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
    /// `max_norm` 0: measure and guard, do not scale. Errors: InvalidArgument (before allocate() too).
    GradClip(ParameterSet& params, double max_norm);

    /// Measures the gradients and sets the scale for the next Optimizer::step. The gradients
    /// themselves are not changed; the optimiser applies the scale as it reads them.
    void measure();
    /// Scales the gradients in place by the measured coefficient, and resets it to 1.
    void apply();
    /// The last measurement. On a CUDA device this waits for the stream.
    GradNorm read() const;
    /// The same in two halves: enqueues the copy to the host, and waits for it. Up to 16 results may
    /// wait to be read.
    using Ticket = std::uint64_t;
    Ticket begin_read() const;
    GradNorm finish_read(Ticket ticket) const;

    /// The gradients carry this scaler's scale from now on; null = none.
    void set_loss_scaler(LossScaler* scaler) noexcept { scaler_ = scaler; }
    const LossScaler* loss_scaler() const noexcept { return scaler_; }

    /// On the device; on a CUDA device not to be dereferenced.
    StepControl* control() const noexcept { return control_.as<StepControl>(); }
    std::int64_t applied_steps() const;  ///< waits
    void set_applied_steps(std::int64_t steps);

private:
    ParameterSet* params_;
    double max_norm_;
    LossScaler* scaler_ = nullptr;
    Buffer control_;   ///< one StepControl, on the device
    Buffer partials_;  ///< f64, one per chunk
};

/// Clamps every gradient element to [-limit, limit].
CAROUSEL_API void clip_grad_value(ParameterSet& params, double limit);

}  // namespace carousel
