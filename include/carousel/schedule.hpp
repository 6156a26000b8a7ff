#pragma once

#include <cstdint>
#include <string>

#include "carousel/export.hpp"

namespace carousel {

enum class ScheduleKind : int { kConstant = 0, kStep = 1, kCosine = 2, kPlateau = 3 };

/// How the learning rate changes. Horizons come from `lr_steps`, never from the length of a run, so
/// stopping early or resuming does not change any step.
struct ScheduleOptions {
    ScheduleKind kind = ScheduleKind::kConstant;
    std::int64_t lr_steps = 0;      ///< step: length of one stage; cosine: where it ends
    std::int64_t warmup_steps = 0;  ///< linear from lr/warmup to lr, before any kind
    double gamma = 0.5;             ///< step, plateau: factor
    double min_factor = 0.0;  ///< cosine, plateau: lr never falls below this fraction of the base
    std::int64_t hold_steps = 0;  ///< step: first stage is longer by this much
    std::int64_t patience = 2;    ///< plateau: evaluations without improvement before a cut
    double threshold = 1e-4;      ///< plateau: relative improvement that counts
};

/// Parses "constant", "step[:GAMMA[,HOLD]]", "cosine[:WARMUP[,MINIMUM]]",
/// "plateau[:GAMMA[,PATIENCE]]"; to_string writes what it reads.
CAROUSEL_API ScheduleOptions schedule_parse(const std::string& text);
CAROUSEL_API std::string to_string(const ScheduleOptions& options);

/// Learning rate of each step.
///   constant  lr
///   step      lr * gamma^k, k = number of whole stages of lr_steps after hold_steps
///   cosine    lr * (min + (1-min) (1 + cos(pi s)) / 2), s = (step-warmup) / (lr_steps-warmup) <= 1
///   plateau   lr * gamma^cuts; a cut comes after `patience` evaluations without improvement
class CAROUSEL_API Schedule {
public:
    /// Errors: InvalidArgument: step or cosine without lr_steps, a factor outside (0,1], ...
    Schedule(const ScheduleOptions& options, double base_lr);
    double lr(std::int64_t step) const;  ///< of the update number `step`, from 0
    /// Tells plateau of a validation loss; the other kinds ignore it.
    void observe(double validation_loss);

    /// What a checkpoint must keep (plateau).
    struct State {
        double best_loss = 0.0;
        std::int64_t bad_evaluations = 0;
        std::int64_t cuts = 0;
        bool has_best = false;
    };
    const State& state() const noexcept { return state_; }
    void set_state(const State& state) noexcept { state_ = state; }
    const ScheduleOptions& options() const noexcept { return options_; }

private:
    ScheduleOptions options_;
    double base_lr_;
    State state_;
};

}  // namespace carousel
