#include "carousel/schedule.hpp"

#include <algorithm>
#include <cmath>

#include "carousel/error.hpp"
#include "src/train/parse.hpp"

namespace carousel {

namespace {

using train::number_text;
using train::parse_integer;
using train::parse_number;

[[noreturn]] void refuse(const std::string& sentence) {
    throw Error(ErrorCode::kInvalidArgument, sentence);
}

}  // namespace

ScheduleOptions schedule_parse(const std::string& text) {
    ScheduleOptions options;
    const std::size_t colon = text.find(':');
    const std::string kind = text.substr(0, colon);
    std::vector<std::string> values;
    if (colon != std::string::npos) values = train::split_text(text.substr(colon + 1), ',');
    std::size_t most = 0;
    if (kind == "constant") {
        options.kind = ScheduleKind::kConstant;
    } else if (kind == "step") {
        options.kind = ScheduleKind::kStep;
        most = 2;
        if (!values.empty()) options.gamma = parse_number(values[0], "gamma of --schedule step");
        if (values.size() > 1)
            options.hold_steps = parse_integer(values[1], "hold of --schedule step");
    } else if (kind == "cosine") {
        options.kind = ScheduleKind::kCosine;
        most = 2;
        if (!values.empty()) {
            options.warmup_steps = parse_integer(values[0], "warm-up of --schedule cosine");
        }
        if (values.size() > 1) {
            options.min_factor = parse_number(values[1], "minimum of --schedule cosine");
        }
    } else if (kind == "plateau") {
        options.kind = ScheduleKind::kPlateau;
        most = 2;
        if (!values.empty()) options.gamma = parse_number(values[0], "gamma of --schedule plateau");
        if (values.size() > 1) {
            options.patience = parse_integer(values[1], "patience of --schedule plateau");
        }
    } else {
        refuse("schedule '" + text +
               "' is unknown; use constant, step[:GAMMA[,HOLD]], cosine[:WARMUP[,MINIMUM]] or "
               "plateau[:GAMMA[,PATIENCE]]");
    }
    if (values.size() > most) {
        refuse("schedule '" + text + "' has " + std::to_string(values.size()) + " values; " + kind +
               " takes at most " + std::to_string(most));
    }
    return options;
}

std::string to_string(const ScheduleOptions& options) {
    switch (options.kind) {
        case ScheduleKind::kConstant:
            return "constant";
        case ScheduleKind::kStep:
            return "step:" + number_text(options.gamma) + "," + std::to_string(options.hold_steps);
        case ScheduleKind::kCosine:
            return "cosine:" + std::to_string(options.warmup_steps) + "," +
                   number_text(options.min_factor);
        case ScheduleKind::kPlateau:
            return "plateau:" + number_text(options.gamma) + "," + std::to_string(options.patience);
    }
    return "?";
}

Schedule::Schedule(const ScheduleOptions& options, double base_lr)
    : options_(options), base_lr_(base_lr) {
    const bool needs_steps =
        options.kind == ScheduleKind::kStep || options.kind == ScheduleKind::kCosine;
    if (!(base_lr > 0.0) || !std::isfinite(base_lr)) {
        refuse("the learning rate is " + number_text(base_lr) + "; it must be positive");
    }
    if (needs_steps && options.lr_steps <= 0) {
        refuse(
            "schedule '" + to_string(options) +
            "' needs a horizon: give --lr-steps, the number of steps of one stage (step) or until "
            "the end of the curve (cosine)");
    }
    if (!(options.gamma > 0.0 && options.gamma <= 1.0)) {
        refuse("the schedule's gamma is " + number_text(options.gamma) + "; it must lie in (0, 1]");
    }
    if (!(options.min_factor >= 0.0 && options.min_factor <= 1.0)) {
        refuse("the schedule's minimum is " + number_text(options.min_factor) +
               "; it is a fraction of the learning rate, in [0, 1]");
    }
    if (options.warmup_steps < 0 || options.hold_steps < 0 || options.patience < 1) {
        refuse("the schedule's warm-up and hold must not be negative, its patience at least 1");
    }
    if (options.kind == ScheduleKind::kCosine && options.warmup_steps >= options.lr_steps) {
        refuse("the warm-up of " + std::to_string(options.warmup_steps) +
               " steps does not end before --lr-steps " + std::to_string(options.lr_steps));
    }
}

double Schedule::lr(std::int64_t step) const {
    const ScheduleOptions& o = options_;
    if (step < o.warmup_steps) {
        return base_lr_ * static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
    }
    switch (o.kind) {
        case ScheduleKind::kConstant:
            return base_lr_;
        case ScheduleKind::kStep: {
            const std::int64_t past = std::max<std::int64_t>(0, step - o.hold_steps);
            return base_lr_ * std::pow(o.gamma, static_cast<double>(past / o.lr_steps));
        }
        case ScheduleKind::kCosine: {
            constexpr double kPi = 3.14159265358979323846;
            const double done = std::min(1.0, static_cast<double>(step - o.warmup_steps) /
                                                  static_cast<double>(o.lr_steps - o.warmup_steps));
            return base_lr_ *
                   (o.min_factor + (1.0 - o.min_factor) * 0.5 * (1.0 + std::cos(kPi * done)));
        }
        case ScheduleKind::kPlateau:
            return base_lr_ *
                   std::max(o.min_factor, std::pow(o.gamma, static_cast<double>(state_.cuts)));
    }
    return base_lr_;
}

void Schedule::observe(double validation_loss) {
    if (options_.kind != ScheduleKind::kPlateau) return;
    if (!state_.has_best || validation_loss < state_.best_loss * (1.0 - options_.threshold)) {
        state_.has_best = true;
        state_.best_loss = validation_loss;
        state_.bad_evaluations = 0;
        return;
    }
    if (++state_.bad_evaluations < options_.patience) return;
    state_.bad_evaluations = 0;
    ++state_.cuts;
}

}  // namespace carousel
