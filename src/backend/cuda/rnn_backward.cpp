#include "src/backend/cuda/rnn_backward.hpp"

#include "kernels/cell/gates.hpp"
#include "src/plan/packed_layout.hpp"

namespace carousel::cuda {

RnnBackwardRun::RnnBackwardRun(const RnnOperands& operands, const RnnBackwardArgs& args)
    : x_(operands), args_(args), common_(operands.common(args.mask)) {
    if (x_.spec_.dropout > 0 && x_.L_ > 1) {
        common_.dropout = x_.spec_.dropout;
        common_.dropout_key =
            x_.schedule_.reserve.at<std::uint64_t>(args_.reserve, x_.schedule_.key);
    }
}

CudaBackwardWants RnnBackwardRun::wants(const RnnBackwardArgs& args) {
    CudaBackwardWants wants;
    wants.dx = args.dx.defined();
    wants.state_grads = args.dhx.defined() || args.dcx.defined();
    wants.norms = args.dh_norms.defined();
    wants.weight_grads = false;
    if (args.grads == nullptr) return wants;
    for (const RnnLayerGrads& grads : args.grads->layers) {
        wants.weight_grads |= grads.dw_ih.defined() || grads.dw_hh.defined() ||
                              grads.db_ih.defined() || grads.db_hh.defined() ||
                              grads.dw_hr.defined();
    }
    return wants;
}

void RnnBackwardRun::run(const CudaStep& step) {
    switch (step.kind) {
        case CudaStepKind::kPackWeights:
            return x_.pack_weights(step, *args_.params);
        case CudaStepKind::kStateGradIn:
            return state_grad_in(step);
        case CudaStepKind::kProjectBackward:
            return project_backward(step);
        case CudaStepKind::kProjectGradProduct:
            return project_product(step);
        case CudaStepKind::kCellBackward:
            return cell(step, false);
        case CudaStepKind::kResetGradProduct:
            return reset_product(step);
        case CudaStepKind::kCellBackwardSecond:
            return cell(step, true);
        case CudaStepKind::kRecurrentGradProduct:
            return recurrent_product(step);
        case CudaStepKind::kInputGradProduct:
            return input_product(step);
        case CudaStepKind::kStateGradOut:
            return state_grad_out(step);
        case CudaStepKind::kWeightGrads:
            return weight_grads(step);
        case CudaStepKind::kBiasGrads:
            return bias_grads(step);
        case CudaStepKind::kNorms:
            return norms(step);
        default:
            return;  // events are the executor's; the rest belongs to forward
    }
}

// --- where things lie

std::int64_t RnnBackwardRun::dgates_stride() const { return grad_slots(x_.spec_.cell) * x_.H_; }

void* RnnBackwardRun::dgates(std::int64_t state, std::int64_t t, std::int64_t slot) const {
    return x_.scratch(x_.work_.dgates, x_.slot(state), t * x_.N_ * dgates_stride() + slot * x_.H_,
                      x_.S_);
}

void* RnnBackwardRun::dy_of(std::int64_t layer, std::int64_t t) const {
    return x_.scratch(x_.work_.dy, x_.config_.fronts_of_layers ? layer : layer % 2,
                      t * x_.N_ * x_.wide_, x_.S_);
}

const void* RnnBackwardRun::aux(std::int64_t state, std::int64_t t) const {
    return x_.saved(args_.reserve, x_.schedule_.aux, state, t * x_.N_ * x_.H_, x_.S_);
}

const void* RnnBackwardRun::h_in(std::int64_t state, std::int64_t t) const {
    return x_.saved(args_.reserve, x_.schedule_.h_in, state, t * x_.N_ * x_.O_, x_.S_);
}

std::int64_t RnnBackwardRun::norm_columns() const {
    const StepGeometry geometry = x_.kernels().geometry(x_.S_, x_.N_, x_.O_);
    return geometry.row_blocks * geometry.column_blocks;
}

/// Sums of one step in the ring of norm_steps steps, which holds a block of steps in order of time.
void* RnnBackwardRun::norm_partials(std::int64_t state, std::int64_t walk) const {
    const std::int64_t ring = x_.config_.norm_steps;
    const std::int64_t done = x_.T_ - 1 - walk, begin = done / ring * ring;
    const std::int64_t count = std::min(ring, x_.T_ - begin);
    const std::int64_t first = x_.first_time(state, x_.T_ - begin - count, count);
    return x_.scratch(x_.work_.norm_partials, x_.slot(state),
                      (x_.time(state, walk) - first) * norm_columns(), x_.A_);
}

GradIn RnnBackwardRun::grad_in(std::int64_t state, std::int64_t walk) const {
    const std::int64_t t = x_.time(state, walk), layer = x_.layer(state);
    const std::int64_t column = state % x_.D_ * x_.O_;
    GradIn in;
    if (layer + 1 < x_.L_) {
        in.dy = offset(dy_of(layer, t), column, x_.S_);
        in.dy_stride = x_.wide_;
        in.drops = common_.dropout > 0 ? 1 : 0;
    } else if (args_.dy.defined()) {
        in.dy = offset(args_.dy.data, t * args_.dy.strides[0] + column, x_.S_);
        in.dy_stride = args_.dy.strides[1];
    }
    in.dh_state = x_.scratch(x_.work_.dh_state, x_.slot(state), 0, x_.A_);
    in.mask_column = column;
    in.mask_layer = static_cast<std::uint32_t>(layer);
    if (args_.dh_norms.defined()) in.norm_partials = norm_partials(state, walk);
    return in;
}

// --- steps of the walk

void RnnBackwardRun::state_grad_in(const CudaStep& step) {
    const auto fill = [&](StateGradPart& part, std::int64_t state, std::int64_t) {
        part.t = x_.time(state, 0);
        part.reverse = x_.reverse(state);
        if (args_.dhy.defined()) part.dhy = offset(args_.dhy.data, state * x_.N_ * x_.O_, x_.S_);
        if (args_.dcy.defined()) part.dcy = offset(args_.dcy.data, state * x_.N_ * x_.H_, x_.A_);
        part.dh_state = x_.scratch(x_.work_.dh_state, x_.slot(state), 0, x_.A_);
        part.dc = x_.scratch(x_.work_.dc, x_.slot(state), 0, x_.A_);
        if (state > 0) return;
        part.stamp = x_.schedule_.reserve.at<std::uint64_t>(args_.reserve, x_.schedule_.key) +
                     CudaRnnSchedule::kStamp;
        part.stamp_value = x_.schedule_.pass_stamp(x_.T_, x_.N_);
    };
    for_parts<StateGradArgs>(step, fill, x_.kernels().state_grad_begin);
    if (args_.grads == nullptr) return;
    const std::int64_t blocks = x_.kernels().geometry(x_.S_, x_.N_, x_.H_).row_blocks;
    for (std::int64_t i = 0; i < step.num_states; ++i) {
        x_.api_.zero(x_.queue(step.queue),
                     x_.scratch(x_.work_.db_partials, x_.slot(step.first_state + i), 0, x_.A_),
                     static_cast<std::size_t>(blocks * dgates_stride()) * dtype_bytes(x_.A_));
    }
}

void RnnBackwardRun::state_grad_out(const CudaStep& step) {
    const auto fill = [&](StateGradPart& part, std::int64_t state, std::int64_t) {
        part.t = x_.time(state, 0);
        part.reverse = x_.reverse(state);
        part.dh_state = x_.scratch(x_.work_.dh_state, x_.slot(state), 0, x_.A_);
        part.dc = x_.scratch(x_.work_.dc, x_.slot(state), 0, x_.A_);
        if (args_.dhx.defined()) part.dhx = offset(args_.dhx.data, state * x_.N_ * x_.O_, x_.S_);
        if (args_.dcx.defined()) part.dcx = offset(args_.dcx.data, state * x_.N_ * x_.H_, x_.A_);
    };
    for_parts<StateGradArgs>(step, fill, x_.kernels().state_grad_end);
}

void RnnBackwardRun::project_backward(const CudaStep& step) {
    const auto fill = [&](ProjectBackwardPart& part, std::int64_t state, std::int64_t walk) {
        part.t = x_.time(state, walk);
        part.reverse = x_.reverse(state);
        part.last = walk + 1 == x_.T_;
        part.in = grad_in(state, walk);
        part.dp = x_.scratch(x_.work_.dp, x_.slot(state), part.t * x_.N_ * x_.O_, x_.S_);
    };
    for_parts<ProjectBackwardArgs>(step, fill, x_.kernels().project_backward);
}

void RnnBackwardRun::project_product(const CudaStep& step) {
    RnnOperands::Product product;
    product.form = RnnOperands::Form::kNN;
    product.columns = x_.H_;
    product.inner = x_.O_;
    product.a = x_.across(step, x_.O_, x_.S_, [&](std::int64_t state, std::int64_t walk) {
        return x_.scratch(x_.work_.dp, x_.slot(state), x_.time(state, walk) * x_.N_ * x_.O_, x_.S_);
    });
    product.b = x_.weights_across(step, x_.H_, &WeightPointers::w_hr);
    x_.multiply_step(step, product, x_.work_.dh);
}

void RnnBackwardRun::cell(const CudaStep& step, bool second) {
    const auto fill = [&](CellBackwardPart& part, std::int64_t state, std::int64_t walk) {
        fill_cell(part, state, walk);
    };
    for_parts<CellBackwardArgs>(
        step, fill, second ? x_.kernels().cell_backward_second : x_.kernels().cell_backward);
}

void RnnBackwardRun::fill_cell(CellBackwardPart& part, std::int64_t state,
                               std::int64_t walk) const {
    const std::int64_t t = x_.time(state, walk);
    const std::int64_t gates = gate_slots(x_.spec_.cell) * x_.H_;
    part.t = t;
    part.reverse = x_.reverse(state);
    part.last = walk + 1 == x_.T_;
    if (x_.spec_.proj_size > 0) {
        part.dh = x_.scratch(x_.work_.dh, x_.slot(state), 0, x_.A_);
    } else {
        part.in = grad_in(state, walk);
    }
    part.gates = x_.saved(args_.reserve, x_.schedule_.gates, state, t * x_.N_ * gates, x_.S_);
    part.gates_stride = gates;
    if (cell_has_c(x_.spec_.cell)) {
        const auto c_at = [&](std::int64_t step) {
            return x_.saved(args_.reserve, x_.schedule_.c, state,
                            x_.time(state, step) * x_.N_ * x_.H_, x_.A_);
        };
        part.c = c_at(walk);
        if (walk > 0) {
            part.c_prev = c_at(walk - 1);
        } else if (args_.cx.defined()) {
            part.c_prev = offset(args_.cx.data, state * x_.N_ * x_.H_, x_.A_);
        }
        part.dc = x_.scratch(x_.work_.dc, x_.slot(state), 0, x_.A_);
    }
    part.h_in = h_in(state, t);
    part.drh = x_.scratch(x_.work_.drh, x_.slot(state), 0, x_.A_);
    part.dgates = dgates(state, t);
    part.dgates_stride = dgates_stride();
    if (args_.grads != nullptr)
        part.db_partials = x_.scratch(x_.work_.db_partials, x_.slot(state), 0, x_.A_);
}

/// drh [N,H] = dn W_hn.
void RnnBackwardRun::reset_product(const CudaStep& step) {
    RnnOperands::Product product;
    product.form = RnnOperands::Form::kNN;
    product.columns = product.inner = x_.H_;
    product.a = x_.across(step, dgates_stride(), x_.S_, [&](std::int64_t state, std::int64_t walk) {
        return dgates(state, x_.time(state, walk), cell::kGruN);
    });
    product.b = x_.weights_across(step, x_.H_, &WeightPointers::w_hh, cell::kGruN * x_.H_ * x_.H_);
    x_.multiply_step(step, product, x_.work_.drh);
}

/// dh_state [N,O] += dgates W_hh. The recurrent side's slots stand together, in weight order.
void RnnBackwardRun::recurrent_product(const CudaStep& step) {
    const std::int64_t slot = x_.spec_.cell == Cell::kGru ? cell::kGruGradR : 0;
    RnnOperands::Product product;
    product.form = RnnOperands::Form::kNN;
    product.columns = x_.O_;
    product.inner = recurrent_gates(x_.spec_.cell) * x_.H_;
    product.add = true;
    product.a = x_.across(step, dgates_stride(), x_.S_, [&](std::int64_t state, std::int64_t walk) {
        return dgates(state, x_.time(state, walk), slot);
    });
    product.b = x_.weights_across(step, x_.O_, &WeightPointers::w_hh);
    x_.multiply_step(step, product, x_.work_.dh_state);
}

/// dx, or dy of the layer below, of `count` steps: dgates W_ih. The second direction adds to the
/// first. Reset-after GRU: r and z stand together, n stands apart (kernels/cell/gates.hpp).
void RnnBackwardRun::input_product(const CudaStep& step) {
    const std::int64_t layer = x_.layer(step.first_state);
    const std::int64_t columns = x_.spec_.layer_input_size(layer), stride = dgates_stride();
    const bool gru = x_.spec_.cell == Cell::kGru;
    RnnOperands::Product product;
    product.form = RnnOperands::Form::kNN;
    product.columns = columns;
    product.out_dtype = x_.S_;
    const int parts = gru ? 2 : 1;
    for (int part = 0; part < parts; ++part) {
        const std::int64_t slot = gru ? (part == 0 ? cell::kGruGradR : cell::kGruGradN) : 0;
        const std::int64_t weight_row = part == 0 ? 0 : cell::kGruN * x_.H_;
        product.inner = gru ? (part == 0 ? 2 : 1) * x_.H_ : x_.G_ * x_.H_;
        product.add = part > 0 || x_.reverse(step.first_state);
        const auto grads = [&](std::int64_t state, std::int64_t walk) {
            return dgates(state, x_.first_time(state, walk, step.count), slot);
        };
        product.b = x_.weights_across(step, columns, &WeightPointers::w_ih, weight_row * columns);
        if (layer == 0) {
            const std::int64_t t = x_.first_time(step.first_state, step.walk, step.count);
            const TensorStrides out{args_.dx.strides[0], args_.dx.strides[1]};
            x_.multiply_rows(step.queue, product, step.count,
                             {dgates(step.first_state, t, slot), x_.N_ * stride, stride},
                             {offset(args_.dx.data, t * out.t, x_.S_), out.t, out.n});
            continue;
        }
        product.rows = step.count * x_.N_;
        product.batch = step.num_states;
        product.a = x_.across(step, stride, x_.S_, grads);
        const Matrix out =
            x_.across(step, columns, x_.S_, [&](std::int64_t state, std::int64_t walk) {
                return dy_of(x_.layer(state) - 1, x_.first_time(state, walk, step.count));
            });
        product.c = const_cast<void*>(out.data);
        product.ldc = columns;
        product.step_c = out.step;
        x_.multiply(step.queue, product);
    }
}

// --- after the walk

void RnnBackwardRun::weight_product(int queue, const void* gate_grads, std::int64_t ld,
                                    const void* operand, std::int64_t operand_ld,
                                    std::int64_t total_rows, std::int64_t out_rows,
                                    std::int64_t out_columns, void* out, bool add) const {
    RnnOperands::Product product;
    product.form = RnnOperands::Form::kTN;
    product.rows = out_rows;
    product.columns = out_columns;
    product.inner = total_rows;
    product.a = {gate_grads, ld, 0};
    product.b = {operand, operand_ld, 0};
    product.c = out;
    product.ldc = out_columns;
    product.out_dtype = grad_dtype(x_.S_);
    product.add = add;
    x_.multiply(queue, product);
}

void RnnBackwardRun::weight_grads(const CudaStep& step) {
    if (args_.grads == nullptr) return;
    const std::int64_t state = step.first_state, rows = x_.T_ * x_.N_;
    const RnnLayerGrads& grads = args_.grads->layers[static_cast<std::size_t>(state)];
    const std::int64_t ld = dgates_stride();
    input_weight_grads(step);
    if (grads.dw_hh.defined()) {
        const std::int64_t slot = x_.spec_.cell == Cell::kGru ? cell::kGruGradR : 0;
        const std::int64_t together = recurrent_gates(x_.spec_.cell) * x_.H_;
        weight_product(step.queue, dgates(state, 0, slot), ld, h_in(state, 0), x_.O_, rows,
                       together, x_.O_, grads.dw_hh.data, args_.accumulate);
        if (x_.spec_.cell == Cell::kGruResetBefore) {
            weight_product(step.queue, dgates(state, 0, cell::kGruN), ld, aux(state, 0), x_.H_,
                           rows, x_.H_, x_.H_,
                           offset(grads.dw_hh.data, together * x_.H_, grad_dtype(x_.S_)),
                           args_.accumulate);
        }
    }
    if (grads.dw_hr.defined()) {
        weight_product(step.queue, x_.scratch(x_.work_.dp, x_.slot(state), 0, x_.S_), x_.O_,
                       aux(state, 0), x_.H_, rows, x_.O_, x_.H_, grads.dw_hr.data,
                       args_.accumulate);
    }
}

/// dw_ih = dgates^T x. Padding of the caller's x is never read: with lengths, and where its rows do not
/// lie evenly, valid rows are copied first, some steps at a time.
void RnnBackwardRun::input_weight_grads(const CudaStep& step) {
    const std::int64_t state = step.first_state, layer = x_.layer(state);
    const RnnLayerGrads& grads = args_.grads->layers[static_cast<std::size_t>(state)];
    if (!grads.dw_ih.defined()) return;
    const std::int64_t columns = x_.spec_.layer_input_size(layer), ld = dgates_stride();
    const auto product = [&](std::int64_t t, std::int64_t steps, const void* operand,
                             std::int64_t operand_ld, bool add) {
        const auto rows = [&](std::int64_t slot, std::int64_t first_row, std::int64_t count) {
            weight_product(step.queue, dgates(state, t, slot), ld, operand, operand_ld,
                           steps * x_.N_, count, columns,
                           offset(grads.dw_ih.data, first_row * columns, grad_dtype(x_.S_)), add);
        };
        if (x_.spec_.cell != Cell::kGru) return rows(0, 0, x_.G_ * x_.H_);
        rows(cell::kGruGradR, 0, 2 * x_.H_);
        rows(cell::kGruGradN, cell::kGruN * x_.H_, x_.H_);
    };
    if (layer > 0) {
        const void* y = x_.saved(args_.reserve, x_.schedule_.y, layer - 1, 0, x_.S_);
        return product(0, x_.T_, y, x_.wide_, args_.accumulate);
    }
    const std::int64_t stride_t = args_.x.strides[0], stride_n = args_.x.strides[1];
    const bool even = x_.N_ == 1 || x_.T_ == 1 || stride_t == x_.N_ * stride_n;
    const std::int64_t even_ld = x_.N_ > 1 ? stride_n : (x_.T_ > 1 ? stride_t : columns);
    if (args_.mask.lengths == nullptr && even && even_ld >= columns)
        return product(0, x_.T_, args_.x.data, even_ld, args_.accumulate);
    void* copy = x_.scratch(x_.work_.x_rows, step.queue, 0, x_.S_);
    for (std::int64_t t = 0; t < x_.T_; t += x_.work_.x_rows_steps) {
        MaskedRowsArgs rows;
        rows.dtype = x_.S_;
        rows.t_begin = t;
        rows.steps = std::min(x_.work_.x_rows_steps, x_.T_ - t);
        rows.seq_len = x_.T_;
        rows.batch_size = x_.N_;
        rows.columns = columns;
        rows.x = args_.x.data;
        rows.stride_t = stride_t;
        rows.stride_n = stride_n;
        rows.lengths = args_.mask.lengths;
        rows.out = copy;
        x_.launch(step.queue, x_.kernels().masked_rows(rows));
        product(t, rows.steps, copy, columns, args_.accumulate || t > 0);
    }
}

void RnnBackwardRun::bias_grads(const CudaStep& step) {
    if (args_.grads == nullptr) return;
    const std::int64_t state = step.first_state;
    const RnnLayerGrads& grads = args_.grads->layers[static_cast<std::size_t>(state)];
    const DType sum = x_.A_;
    const void* partials = x_.scratch(x_.work_.db_partials, x_.slot(state), 0, sum);
    const auto sums = [&](std::int64_t slot, std::int64_t count, void* out, std::int64_t row) {
        SumRowsArgs args;
        args.dtype = sum;
        args.partials = offset(partials, slot * x_.H_, sum);
        args.rows = x_.kernels().geometry(x_.S_, x_.N_, x_.H_).row_blocks;
        args.columns = count * x_.H_;
        args.stride = dgates_stride();
        args.out = offset(out, row * x_.H_, sum);
        args.accumulate = args_.accumulate;
        x_.launch(step.queue, x_.kernels().sum_rows(args));
    };
    const bool gru = x_.spec_.cell == Cell::kGru;
    if (grads.db_ih.defined()) {
        if (gru) {
            sums(cell::kGruGradR, 2, grads.db_ih.data, 0);
            sums(cell::kGruGradN, 1, grads.db_ih.data, cell::kGruN);
        } else {
            sums(0, x_.G_, grads.db_ih.data, 0);
        }
    }
    if (grads.db_hh.defined()) sums(gru ? cell::kGruGradR : 0, x_.G_, grads.db_hh.data, 0);
}

void RnnBackwardRun::norms(const CudaStep& step) {
    const std::int64_t state = step.first_state;
    const std::int64_t first = x_.first_time(state, step.walk, step.count);
    StepNormsArgs args;
    args.dtype = x_.A_;
    args.partials = x_.scratch(x_.work_.norm_partials, x_.slot(state), 0, x_.A_);
    args.rows = step.count;
    args.columns = norm_columns();
    args.norms = offset(args_.dh_norms.data, state * x_.T_ + first, x_.A_);
    x_.launch(step.queue, x_.kernels().step_norms(args));
}

}  // namespace carousel::cuda
