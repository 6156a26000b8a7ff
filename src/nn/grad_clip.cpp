#include "carousel/grad_clip.hpp"

#include <cmath>
#include <new>
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
    const Device device = params.context().device();
    control_ = Buffer(sizeof(StepControl), device, "scalars of the optimiser step");
    new (control_.data()) StepControl();
    // Each span rounds up by one chunk; each touched row is a chunk of its own.
    std::int64_t count = Ops::norm_partials(params.numel()) + 2;
    for (const ParameterSet::TouchedRows& touched : params.touched_rows()) {
        count += params.infos()[touched.parameter].shape[0];
    }
    partials_ = Buffer(static_cast<std::size_t>(count) * sizeof(double), device,
                       "partial sums of the gradient norm");
}

void GradClip::measure() {
    const ParameterSet& params = *params_;
    Ops& ops = params.context().ops();
    const std::size_t element = dtype_bytes(params.context().dtype());
    const auto* grads = static_cast<const std::byte*>(params.flat_grads());
    if (params.touched_rows().size() != 1) {
        const NormSpan all{grads, params.numel()};
        ops.grad_norm(&all, 1, nullptr, RowSet{}, max_norm_, partials_.as<double>(), control());
        return;
    }
    // Rows that no id touched are zero: only the others are read.
    const ParameterSet::TouchedRows& touched = params.touched_rows().front();
    const ParameterInfo& table = params.infos()[touched.parameter];
    const std::int64_t after = table.offset + table.numel;
    const NormSpan spans[2] = {
        {grads, table.offset},
        {grads + static_cast<std::size_t>(after) * element, params.numel() - after}};
    RowSet set;
    set.row_size = touched.row_size;
    set.rows = touched.rows.data();
    set.num_rows = static_cast<std::int64_t>(touched.rows.size());
    ops.grad_norm(spans, 2, grads + static_cast<std::size_t>(table.offset) * element, set,
                  max_norm_, partials_.as<double>(), control());
}

void GradClip::apply() {
    params_->context().ops().scale(control()->scale, params_->flat_grads(), params_->numel());
    control()->scale = 1.0;
}

GradNorm GradClip::read() const {
    GradNorm result;
    result.norm = control()->grad_norm;
    result.scale = control()->scale;
    result.skipped = control()->skip != 0;
    return result;
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
