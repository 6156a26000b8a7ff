#include "src/backend/cuda/rnn_forward.hpp"

#include <algorithm>

#include "kernels/cell/gates.hpp"
#include "src/plan/packed_layout.hpp"

namespace carousel::cuda {

RnnForwardRun::RnnForwardRun(const RnnOperands& operands, const RnnForwardArgs& args, bool training)
    : x_(operands), args_(args), training_(training), common_(operands.common(args.mask)) {
    if (training_ && x_.spec_.dropout > 0 && x_.L_ > 1) {
        common_.dropout = x_.spec_.dropout;
        common_.dropout_key =
            x_.schedule_.reserve.at<std::uint64_t>(args_.reserve, x_.schedule_.key);
    }
}

void RnnForwardRun::run(const CudaStep& step) {
    switch (step.kind) {
        case CudaStepKind::kSetKey:
            return set_key(step);
        case CudaStepKind::kPackWeights:
            return x_.pack_weights(step, *args_.params);
        case CudaStepKind::kStateIn:
            return state_in(step);
        case CudaStepKind::kInputProduct:
            return input_product(step);
        case CudaStepKind::kRecurrentProduct:
            return recurrent_product(step);
        case CudaStepKind::kCellForward:
            return cell(step, false);
        case CudaStepKind::kResetProduct:
            return reset_product(step);
        case CudaStepKind::kCellForwardSecond:
            return cell(step, true);
        case CudaStepKind::kProjectProduct:
            return project_product(step);
        case CudaStepKind::kProjectForward:
            return project(step);
        default:
            return;  // events are the executor's; the rest belongs to backward
    }
}

// --- where things lie

void* RnnForwardRun::x_preact(std::int64_t state, std::int64_t first_time) const {
    const std::int64_t row = x_.N_ * x_preact_stride();
    if (training_) {
        return x_.saved(args_.reserve, x_.schedule_.gates, state, first_time * row, x_.S_);
    }
    // Chunks never wrap: in the reverse direction the last one, not the first, is the short one.
    const std::int64_t ring = x_.config_.ring_steps;
    const std::int64_t shift = x_.reverse(state) ? (ring - x_.T_ % ring) % ring : 0;
    return x_.scratch(x_.work_.x_preact, x_.slot(state), (first_time + shift) % ring * row, x_.S_);
}

std::int64_t RnnForwardRun::x_preact_stride() const {
    return (training_ ? gate_slots(x_.spec_.cell) : x_.G_) * x_.H_;
}

void* RnnForwardRun::h_in(std::int64_t state, std::int64_t walk) const {
    const std::int64_t rows = x_.N_ * x_.O_;
    if (training_) {
        return x_.saved(args_.reserve, x_.schedule_.h_in, state, x_.time(state, walk) * rows,
                        x_.S_);
    }
    return x_.scratch(x_.work_.h_in, x_.slot(state), walk % 2 * rows, x_.S_);
}

void* RnnForwardRun::c(std::int64_t state, std::int64_t walk) const {
    const std::int64_t rows = x_.N_ * x_.H_;
    if (!training_) return x_.scratch(x_.work_.c, x_.slot(state), 0, x_.A_);
    return x_.saved(args_.reserve, x_.schedule_.c, state, x_.time(state, walk) * rows, x_.A_);
}

void* RnnForwardRun::aux(std::int64_t state, std::int64_t walk) const {
    const std::int64_t rows = x_.N_ * x_.H_;
    if (!training_) return x_.scratch(x_.work_.aux, x_.slot(state), 0, x_.S_);
    return x_.saved(args_.reserve, x_.schedule_.aux, state, x_.time(state, walk) * rows, x_.S_);
}

void* RnnForwardRun::layer_output(std::int64_t layer, std::int64_t t) const {
    const std::int64_t at = t * x_.N_ * x_.wide_;
    if (training_) return x_.saved(args_.reserve, x_.schedule_.y, layer, at, x_.S_);
    return x_.scratch(x_.work_.y, x_.config_.fronts_of_layers ? layer : layer % 2, at, x_.S_);
}

bool RnnForwardRun::folds_bias(std::int64_t state) const {
    return x_.weights(state).b_ih != nullptr && x_.api_.folds_bias(x_.S_) &&
           (x_.layer(state) == 0 || x_.config_.algorithm == Algorithm::kStepwise);
}

StateOut RnnForwardRun::state_out(std::int64_t state, std::int64_t walk) const {
    const std::int64_t t = x_.time(state, walk), layer = x_.layer(state);
    const std::int64_t column = state % x_.D_ * x_.O_;
    StateOut out;
    if (walk + 1 < x_.T_) {
        out.h_next = h_in(state, walk + 1);
    } else if (args_.hy.defined()) {
        out.hy = offset(args_.hy.data, state * x_.N_ * x_.O_, x_.S_);
    }
    if (layer + 1 < x_.L_) {
        out.y = offset(layer_output(layer, t), column, x_.S_);
        out.y_stride = x_.wide_;
        out.drops = common_.dropout > 0 ? 1 : 0;
    } else {
        out.y = offset(args_.y.data, t * args_.y.strides[0] + column, x_.S_);
        out.y_stride = args_.y.strides[1];
    }
    out.mask_column = column;
    out.mask_layer = static_cast<std::uint32_t>(layer);
    if (args_.layer_outputs.defined()) {
        const std::int64_t row = (layer * x_.T_ + t) * x_.N_;
        out.y_out = offset(args_.layer_outputs.data, row * x_.wide_ + column, x_.S_);
        out.y_out_stride = x_.wide_;
    }
    return out;
}

// --- steps

void RnnForwardRun::set_key(const CudaStep& step) {
    SetKeyArgs args;
    args.to = x_.schedule_.reserve.at<std::uint64_t>(args_.reserve, x_.schedule_.key);
    args.from = args_.dropout_key;
    args.seed = args_.dropout_seed;
    args.step = args_.dropout_step;
    x_.launch(step.queue, x_.kernels().set_key(args));
}

void RnnForwardRun::state_in(const CudaStep& step) {
    for_parts<StateInArgs>(
        step,
        [&](StateInPart& part, std::int64_t state, std::int64_t) {
            part.t = x_.time(state, 0);
            part.reverse = x_.reverse(state);
            part.hx =
                args_.hx.defined() ? offset(args_.hx.data, state * x_.N_ * x_.O_, x_.S_) : nullptr;
            part.h_in = h_in(state, 0);
            if (!training_ || state > 0) return;
            part.stamp = x_.schedule_.reserve.at<std::uint64_t>(args_.reserve, x_.schedule_.key) +
                         CudaRnnSchedule::kStamp;
            part.stamp_value = x_.schedule_.pass_stamp(x_.T_, x_.N_);
        },
        x_.kernels().state_in);
}

void RnnForwardRun::input_product(const CudaStep& step) {
    const std::int64_t columns = x_.G_ * x_.H_, out_row = x_preact_stride();
    RnnOperands::Product product;
    product.columns = columns;
    product.out_dtype = x_.S_;
    if (x_.layer(step.first_state) == 0) {
        // x may be batch-first; the directions of the first layer read it one after the other.
        const TensorStrides in{args_.x.strides[0], args_.x.strides[1]};
        product.inner = x_.spec_.input_size;
        for (std::int64_t i = 0; i < step.num_states; ++i) {
            const std::int64_t state = step.first_state + i;
            const std::int64_t t = x_.first_time(state, step.walk, step.count);
            product.b = {x_.weights(state).w_ih, product.inner, 0};
            product.bias = folds_bias(state) ? x_.weights(state).b_ih : nullptr;
            x_.multiply_rows(step.queue, product, step.count,
                             {offset(args_.x.data, t * in.t, x_.S_), in.t, in.n},
                             {x_preact(state, t), x_.N_ * out_row, out_row});
        }
        return;
    }
    product.inner = x_.wide_;
    product.rows = step.count * x_.N_;
    product.batch = step.num_states;
    const auto first_time = [&](std::int64_t state, std::int64_t walk) {
        return x_.first_time(state, walk, step.count);
    };
    product.a = x_.across(step, x_.wide_, x_.S_, [&](std::int64_t state, std::int64_t walk) {
        return layer_output(x_.layer(state) - 1, first_time(state, walk));
    });
    product.b = x_.weights_across(step, x_.wide_, &WeightPointers::w_ih);
    const Matrix out = x_.across(step, out_row, x_.S_, [&](std::int64_t state, std::int64_t walk) {
        return x_preact(state, first_time(state, walk));
    });
    if (step.num_states == 1 && folds_bias(step.first_state))
        product.bias = x_.weights(step.first_state).b_ih;
    product.c = const_cast<void*>(out.data);
    product.ldc = out_row;
    product.step_c = out.step;
    x_.multiply(step.queue, product);
}

void RnnForwardRun::recurrent_product(const CudaStep& step) {
    RnnOperands::Product p;
    p.columns = recurrent_gates(x_.spec_.cell) * x_.H_;
    p.inner = x_.O_;
    p.a = x_.across(step, x_.O_, x_.S_,
                    [&](std::int64_t state, std::int64_t walk) { return h_in(state, walk); });
    p.b = x_.weights_across(step, x_.O_, &WeightPointers::w_hh);
    x_.multiply_step(step, p, x_.work_.h_preact);
}

void RnnForwardRun::reset_product(const CudaStep& step) {
    RnnOperands::Product p;
    p.columns = p.inner = x_.H_;
    p.a = x_.across(step, x_.H_, x_.S_,
                    [&](std::int64_t state, std::int64_t walk) { return aux(state, walk); });
    p.b = x_.weights_across(step, x_.H_, &WeightPointers::w_hh, cell::kGruN * x_.H_ * x_.H_);
    x_.multiply_step(step, p, x_.work_.h_preact_n);
}

void RnnForwardRun::project_product(const CudaStep& step) {
    RnnOperands::Product p;
    p.columns = x_.O_;
    p.inner = x_.H_;
    p.a = x_.across(step, x_.H_, x_.S_,
                    [&](std::int64_t state, std::int64_t walk) { return aux(state, walk); });
    p.b = x_.weights_across(step, x_.H_, &WeightPointers::w_hr);
    x_.multiply_step(step, p, x_.work_.projected);
}

void RnnForwardRun::cell(const CudaStep& step, bool second) {
    const auto fill = [&](CellForwardPart& part, std::int64_t state, std::int64_t walk) {
        fill_cell(part, state, walk);
    };
    for_parts<CellForwardArgs>(
        step, fill, second ? x_.kernels().cell_forward_second : x_.kernels().cell_forward);
}

void RnnForwardRun::fill_cell(CellForwardPart& part, std::int64_t state, std::int64_t walk) const {
    const std::int64_t t = x_.time(state, walk);
    const WeightPointers& weights = x_.weights(state);
    part.t = t;
    part.reverse = x_.reverse(state);
    part.x_preact = x_preact(state, t);
    part.x_preact_stride = x_preact_stride();
    part.h_preact = x_.scratch(x_.work_.h_preact, x_.slot(state), 0, x_.A_);
    part.h_preact_n = x_.scratch(x_.work_.h_preact_n, x_.slot(state), 0, x_.A_);
    part.b_ih = folds_bias(state) ? nullptr : weights.b_ih;
    part.b_hh = weights.b_hh;
    part.h_in = h_in(state, walk);
    if (cell_has_c(x_.spec_.cell)) {
        const std::int64_t initial = state * x_.N_ * x_.H_;
        if (walk > 0) {
            part.c_prev = c(state, walk - 1);
        } else if (args_.cx.defined()) {
            part.c_prev = offset(args_.cx.data, initial, x_.A_);
        }
        part.c = c(state, walk);
        if (walk + 1 == x_.T_ && args_.cy.defined())
            part.cy = offset(args_.cy.data, initial, x_.A_);
        if (args_.cell_states.defined()) {
            part.c_out = offset(args_.cell_states.data, (state * x_.T_ + t) * x_.N_ * x_.H_, x_.A_);
        }
    }
    // The second half of reset-before reads what the first half left in `gates`.
    if (training_ || x_.spec_.cell == Cell::kGruResetBefore) {
        part.gates = x_preact(state, t);
        part.gates_stride = x_preact_stride();
    }
    if (args_.gates.defined()) {
        part.gates_out =
            offset(args_.gates.data, (state * x_.T_ + t) * x_.N_ * x_.G_ * x_.H_, x_.S_);
    }
    part.aux = aux(state, walk);
    if (x_.spec_.proj_size == 0) part.out = state_out(state, walk);
}

void RnnForwardRun::project(const CudaStep& step) {
    const auto fill = [&](ProjectForwardPart& part, std::int64_t state, std::int64_t walk) {
        part.t = x_.time(state, walk);
        part.reverse = x_.reverse(state);
        part.projected = x_.scratch(x_.work_.projected, x_.slot(state), 0, x_.A_);
        part.h_in = h_in(state, walk);
        part.out = state_out(state, walk);
    };
    for_parts<ProjectForwardArgs>(step, fill, x_.kernels().project_forward);
}

}  // namespace carousel::cuda
