#include "carousel/grad_clip.hpp"

#include <cmath>
#include <string>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"

namespace carousel {

GradClip::GradClip(ParameterSet& params, double max_norm) : params_(&params), max_norm_(max_norm) {
    if (!(max_norm >= 0.0) || std::isinf(max_norm)) {
        throw Error(ErrorCode::kInvalidArgument, "max_norm is " + nn::number_text(max_norm) +
                                                     "; it must be positive, or 0 for no clipping");
    }
    nn::check_allocated(
        params.flat_values());  // the number of partial sums follows from all tensors
    const Device device = params.context().device();
    control_ = Buffer(sizeof(StepControl), device, "scalars of the optimiser step");
    const StepControl initial;
    params.context().ops().upload(control_.data(), &initial, sizeof initial);
    // Each span rounds up by one chunk; each touched row is a chunk of its own.
    std::int64_t count = Ops::norm_partials(params.numel()) + 2;
    const bool by_rows = params.context().ops().visits_rows();
    for (const ParameterSet::TouchedRows& touched : params.touched_rows()) {
        if (by_rows) count += params.infos()[touched.parameter].shape[0];
    }
    partials_ = Buffer(static_cast<std::size_t>(count) * sizeof(double), device,
                       "partial sums of the gradient norm");
}

void GradClip::measure() {
    const ParameterSet& params = *params_;
    Ops& ops = params.context().ops();
    const std::size_t element = dtype_bytes(ops.state_dtype());
    const auto* grads = static_cast<const std::byte*>(params.flat_grads());
    GradNormArgs args;
    args.max_norm = max_norm_;
    args.partials = partials_.as<double>();
    args.control = control();
    args.loss_scale = scaler_ != nullptr ? scaler_->state() : nullptr;
    if (params.touched_rows().size() != 1 || !ops.visits_rows()) {
        const NormSpan all{grads, params.numel()};
        args.spans = &all;
        args.num_spans = 1;
        ops.grad_norm(args);
        return;
    }
    // Rows that no id touched are zero: only the others are read.
    const ParameterSet::TouchedRows& touched = params.touched_rows().front();
    const ParameterInfo& table = params.infos()[touched.parameter];
    const std::int64_t after = table.offset + table.numel;
    const NormSpan spans[2] = {
        {grads, table.offset},
        {grads + static_cast<std::size_t>(after) * element, params.numel() - after}};
    args.spans = spans;
    args.num_spans = 2;
    args.table = grads + static_cast<std::size_t>(table.offset) * element;
    args.rows.row_size = touched.row_size;
    args.rows.rows = touched.rows.data();
    args.rows.num_rows = static_cast<std::int64_t>(touched.rows.size());
    ops.grad_norm(args);
}

void GradClip::apply() {
    Ops& ops = params_->context().ops();
    ops.scale_by(&control()->scale, params_->flat_grads(), params_->numel());
    LossScale* loss_scale = scaler_ != nullptr ? scaler_->state() : nullptr;
    if (loss_scale != nullptr) {
        ops.scale_by(&loss_scale->unscale, params_->flat_grads(), params_->numel());
    }
    ops.reset_scale(control(), loss_scale);
}

GradClip::Ticket GradClip::begin_read() const {
    return params_->context().ops().read_back(control(), sizeof(StepControl));
}

GradNorm GradClip::finish_read(Ticket ticket) const {
    StepControl control;
    params_->context().ops().collect(ticket, &control);
    GradNorm result;
    result.norm = control.grad_norm;
    result.scale = control.scale;
    result.skipped = control.skip != 0;
    return result;
}

GradNorm GradClip::read() const { return finish_read(begin_read()); }

std::int64_t GradClip::applied_steps() const {
    StepControl copy;
    params_->context().ops().download(&copy, control(), sizeof copy);
    return copy.applied_steps;
}

void GradClip::set_applied_steps(std::int64_t steps) {
    StepControl copy;
    params_->context().ops().download(&copy, control(), sizeof copy);
    copy.applied_steps = steps;
    params_->context().ops().upload(control(), &copy, sizeof copy);
}

LossScaler::LossScaler(const ModuleContext& context, const Options& options) : context_(context) {
    const auto require = [](bool rule, const char* name, double value, const char* range) {
        if (rule) return;
        throw Error(ErrorCode::kInvalidArgument, std::string("the loss scaler's ") + name + " is " +
                                                     nn::number_text(value) + "; it must " + range);
    };
    LossScale state;
    require(options.initial_scale >= state.min_scale && options.initial_scale <= state.max_scale,
            "initial_scale", options.initial_scale, "lie in [1, 2^24]");
    require(options.growth >= 1.0 && !std::isinf(options.growth), "growth", options.growth,
            "be 1 or more");
    require(options.backoff > 0.0 && options.backoff <= 1.0, "backoff", options.backoff,
            "lie in (0, 1]");
    require(options.growth_interval >= 1, "growth_interval",
            static_cast<double>(options.growth_interval), "be at least 1");
    state.scale = options.initial_scale;
    state.growth = options.growth;
    state.backoff = options.backoff;
    state.growth_interval = options.growth_interval;
    state_ = Buffer(sizeof state, context.device(), "scale of the loss");
    context_.ops().upload(state_.data(), &state, sizeof state);
}

double LossScaler::scale() const {
    LossScale copy;
    context_.ops().download(&copy, state_.data(), sizeof copy);
    return copy.scale;
}

void clip_grad_value(ParameterSet& params, double limit) {
    if (!(limit > 0.0)) {
        throw Error(
            ErrorCode::kInvalidArgument,
            "the limit of clip_grad_value is " + nn::number_text(limit) + "; it must be positive");
    }
    params.context().ops().clamp(limit, params.flat_grads(), params.numel());
}

}  // namespace carousel
