#include "src/backend/cpu/rnn_backward.hpp"

#include "kernels/cell/gates.hpp"

namespace carousel::cpu {

template <class T>
BackwardPass<T>::BackwardPass(const RnnPlan::Impl& plan, const RnnBackwardArgs& args) noexcept
    : plan_(plan),
      spec_(plan.spec),
      args_(args),
      work_(plan.schedule.grads),
      kernels_(rnn_kernels<T>()),
      header_(*plan.schedule.reserve.at<ReserveHeader>(args.reserve, plan.schedule.reserve_header)),
      T_(args.seq_len),
      N_(args.batch_size),
      slots_(grad_slots(plan.spec.cell)),
      width_(plan.spec.num_directions() * plan.spec.output_size()),
      zeros_(work_.slices.template at<T>(args.workspace, work_.zeros)),
      dgates_(work_.slices.template at<T>(args.workspace, work_.dgates)) {
    std::memset(work_.slices.template at<T>(args.workspace, work_.zeros), 0,
                work_.slices[work_.zeros].bytes);
}

template <class T>
char* BackwardPass<T>::row_list(const Member& member) const noexcept {
    return work_.slices.template at<char>(args_.workspace, work_.rows) +
           static_cast<std::size_t>(member.tid) * work_.rows_bytes_per_thread;
}

template <class T>
T* BackwardPass<T>::work_or_null(std::size_t slice) const noexcept {
    return slice == kNoSlice ? nullptr : work_.slices.template at<T>(args_.workspace, slice);
}

template <class T>
StateWeights<T> BackwardPass<T>::weights(std::int64_t state) const noexcept {
    return state_weights<T>(args_.packed, work_, args_.workspace, state);
}

template <class T>
typename BackwardPass<T>::Sweep BackwardPass<T>::make_sweep(std::int64_t layer,
                                                            std::int64_t dir) const noexcept {
    const RnnSchedule& schedule = plan_.schedule;
    const std::int64_t state = layer * spec_.num_directions() + dir;
    const std::int64_t O = spec_.output_size(), H = spec_.hidden_size;
    const auto index = static_cast<std::size_t>(layer);
    const auto reserve = [&](std::size_t slice) {
        return slice_or_null<T>(schedule.reserve, args_.reserve, slice);
    };
    Sweep sweep{};
    sweep.walk = {T_, N_, dir == 1, args_.mask};
    sweep.layer = layer;
    sweep.dir = dir;
    sweep.state = state;
    sweep.w = weights(state);
    if (layer == 0) {
        sweep.x = as_sequence<const T>(args_.x);
    } else {
        const std::size_t dropped = schedule.saved_dropped[index - 1];
        sweep.x =
            dense(reserve(dropped != kNoSlice ? dropped : schedule.saved_y[index - 1]), N_, width_);
    }
    const bool top = layer + 1 == spec_.num_layers;
    sweep.y =
        top ? as_sequence<const T>(args_.y) : dense(reserve(schedule.saved_y[index]), N_, width_);
    sweep.y.base += dir * O;
    if (!top) {
        sweep.dy = dense(static_cast<const T*>(work_or_null(work_.dy[index % 2])), N_, width_);
    } else if (args_.dy.defined()) {
        sweep.dy = as_sequence<const T>(args_.dy);
    }
    if (sweep.dy.defined()) sweep.dy.base += dir * O;
    const StateSlices& saved = schedule.saved[static_cast<std::size_t>(state)];
    sweep.gates = reserve(saved.gates);
    sweep.c = reserve(saved.c);
    sweep.aux = reserve(saved.aux);
    sweep.hx = offset_or_null(static_cast<const T*>(args_.hx.data), state * N_ * O);
    sweep.cx = offset_or_null(static_cast<const T*>(args_.cx.data), state * N_ * H);
    sweep.dhy = offset_or_null(static_cast<const T*>(args_.dhy.data), state * N_ * O);
    sweep.dcy = offset_or_null(static_cast<const T*>(args_.dcy.data), state * N_ * H);
    sweep.dhx = offset_or_null(static_cast<T*>(args_.dhx.data), state * N_ * O);
    sweep.dcx = offset_or_null(static_cast<T*>(args_.dcx.data), state * N_ * H);
    sweep.sum_squares = args_.dh_norms.defined()
                            ? work_.slices.template at<double>(args_.workspace, work_.norms)
                            : nullptr;
    return sweep;
}

template <class T>
void BackwardPass<T>::run(const Member& member) const noexcept {
    for (const PlanStep& step : plan_.schedule.backward) {
        switch (step.kind) {
            case StepKind::kPackBackward: {
                if (args_.packed != nullptr) continue;
                const auto state =
                    static_cast<std::size_t>(step.layer * spec_.num_directions() + step.dir);
                pack_state<T>(spec_, args_.params->layers[state], step.layer, work_.slices,
                              work_.packed[state], args_.workspace, member.tid, member.num_threads,
                              {.w_ih_t = few_rows() || !wants_input_grads(step.layer)});
                break;
            }
            case StepKind::kBackwardSweep:
                sweep(member, step);
                break;
            case StepKind::kStateGrads:
                state_grads(member, step);
                break;
            case StepKind::kWeightGrads:
                weight_grads(member, step);
                break;
            case StepKind::kBiasGrads:
                bias_grads(member, step);
                break;
            case StepKind::kInputGrads:
                input_grads(member, step);
                break;
            case StepKind::kDropoutGrads:
                dropout_grads(member, step.layer);
                break;
            default:
                break;
        }
        member.meet_team();
    }
}

template <class T>
void BackwardPass<T>::sweep(const Member& member, const PlanStep& step) const noexcept {
    const Sweep sweep = make_sweep(step.layer, step.dir);
    if (sweep.sum_squares != nullptr) {
        for (std::int64_t t = 0; t < T_; ++t)
            sweep.sum_squares[t * member.num_threads + member.tid] = 0.0;
    }
    const Pieces pieces = member.pieces(spec_.hidden_size, kernels_.lanes, splits_left_over(spec_));
    for (std::int64_t s = T_ - 1; s >= 0; --s) {
        const std::int64_t t = sweep.walk.step(s);
        for (const Piece& piece : pieces) begin_rows(member, sweep, piece, t);
        if (spec_.proj_size > 0) {
            projected_dh(member, sweep, t);
            member.meet_group();  // W_hr^T needs all of dh
        }
        for (const Piece& piece : pieces) recurrent_step(member, sweep, piece, t);
        member.meet_group();  // the step before needs all gate gradients of this one
    }
    member.meet_team();
    norms(member, sweep);
}

/// Prepares this member's units of every row: dc where a row's gradient starts or was cut, zeros beyond
/// a sequence's end (operands of the products over all rows).
template <class T>
void BackwardPass<T>::begin_rows(const Member& member, const Sweep& sweep, const Piece& piece,
                                 std::int64_t t) const noexcept {
    const std::int64_t H = spec_.hidden_size, P = spec_.proj_size;
    T* dc = work_or_null(work_.dc);
    T* dh = work_or_null(work_.dh);
    if (args_.mask.lengths == nullptr && args_.mask.reset == nullptr && t != sweep.walk.last(0))
        return;
    const Span units = units_of(piece.vectors, kernels_.lanes, H);
    const Span outputs = units_of(member.vectors(P, kernels_.lanes), kernels_.lanes, P);
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) {
            for (std::int64_t slot = 0; slot < slots_; ++slot) {
                zero_span(dgates_ + ((t * N_ + n) * slots_ + slot) * H, units);
            }
            if (dh != nullptr) zero_span(dh + (t * N_ + n) * P, outputs);
            continue;
        }
        if (dc == nullptr) continue;
        if (t == sweep.walk.last(n)) {
            if (sweep.dcy != nullptr) {
                copy_span(dc + n * H, sweep.dcy + n * H, units);
            } else {
                zero_span(dc + n * H, units);
            }
        } else if (sweep.walk.cut_before(sweep.walk.next(t), n)) {
            zero_span(dc + n * H, units);
        }
    }
}

/// With a projection: dh = dy + dhy + dgates_next * W_hh, kept for dw_hr.
template <class T>
void BackwardPass<T>::projected_dh(const Member& member, const Sweep& sweep,
                                   std::int64_t t) const noexcept {
    const std::int64_t H = spec_.hidden_size, P = spec_.proj_size, next = sweep.walk.next(t);
    T* dh = work_or_null(work_.dh);
    auto* rows = reinterpret_cast<MatmulRow<T>*>(row_list(member));
    TwoLists lists{0, member.rows.size(), member.rows.size()};
    for (std::int64_t n = member.rows.begin; n < member.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) continue;
        const bool last = t == sweep.walk.last(n), fresh = last || sweep.walk.cut_before(next, n);
        MatmulRow<T>& row = rows[fresh ? --lists.back : lists.front++];
        row.a = fresh ? zeros_ : dgates_ + (next * N_ + n) * slots_ * H;
        row.init = sweep.dy.defined() ? sweep.dy.row(t, n) : nullptr;
        row.init2 = last ? offset_or_null(sweep.dhy, n * P) : nullptr;
        row.c = dh + (t * N_ + n) * P;
    }
    MatmulArgs<T> args;
    args.rows = rows;
    args.m = P;
    const Span vectors = member.vectors(P, kernels_.lanes);
    args.vec_begin = vectors.begin;
    args.vec_end = vectors.end;
    args.sum_squares = sweep.sum_squares == nullptr
                           ? nullptr
                           : sweep.sum_squares + t * member.num_threads + member.tid;
    run_both(kernels_.matmul, args, lists, sweep.w.w_hh_t, spec_.num_gates() * H);
}

/// Lists the rows of `piece` at step t, those with a later step from the front, those whose gradient
/// starts here from the back.
template <class T>
TwoLists BackwardPass<T>::list_rows(const Sweep& sweep, const Piece& piece, std::int64_t t,
                                    CellBackwardRow<T>* rows) const noexcept {
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size(), next = sweep.walk.next(t);
    const std::int64_t slots = gate_slots(spec_.cell), recurrent = recurrent_offset(spec_.cell) * H;
    const bool projected = spec_.proj_size > 0;
    T* carry = work_or_null(work_.carry);
    T* dc = work_or_null(work_.dc);
    const T* dh = work_or_null(work_.dh);
    TwoLists lists{0, piece.rows.size(), piece.rows.size()};
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) continue;
        const bool last = t == sweep.walk.last(n), fresh = last || sweep.walk.cut_before(next, n);
        CellBackwardRow<T>& row = rows[projected || !fresh ? lists.front++ : --lists.back];
        const std::int64_t at = t * N_ + n;
        const T* extra = last    ? offset_or_null(sweep.dhy, n * O)
                         : fresh ? nullptr
                                 : offset_or_null(carry, n * H);
        row.dg_next = fresh ? zeros_ : dgates_ + (next * N_ + n) * slots_ * H + recurrent;
        row.dy = sweep.dy.defined() ? sweep.dy.row(t, n) : zeros_;
        row.extra = extra == nullptr ? zeros_ : extra;
        if (projected) {  // dh is known; what is left is dh * W_hr
            row.dg_next = dh + at * O;
            row.dy = row.extra = zeros_;
        }
        row.gates = sweep.gates + at * slots * H;
        const bool cut = sweep.walk.cut_before(t, n), first = t == sweep.walk.first(n);
        const T* h_prev = sweep.h_prev(t, n, O);
        row.h_prev = h_prev == nullptr ? zeros_ : h_prev;
        const T* c_prev = cut     ? nullptr
                          : first ? offset_or_null(sweep.cx, n * H)
                                  : offset_or_null(sweep.c, (sweep.walk.previous(t) * N_ + n) * H);
        row.c_prev = c_prev == nullptr ? zeros_ : c_prev;
        row.c = offset_or_null(sweep.c, at * H);
        row.dc = offset_or_null(dc, n * H);
        row.carry = offset_or_null(carry, n * H);
        row.dg = dgates_ + at * slots_ * H;
    }
    return lists;
}

template <class T>
void BackwardPass<T>::recurrent_step(const Member& member, const Sweep& sweep, const Piece& piece,
                                     std::int64_t t) const noexcept {
    auto* rows = reinterpret_cast<CellBackwardRow<T>*>(row_list(member));
    const TwoLists lists = list_rows(sweep, piece, t, rows);
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size();
    const bool projected = spec_.proj_size > 0;
    CellBackwardArgs<T> args;
    args.rows = rows;
    args.hidden_size = H;
    args.saved_slots = static_cast<int>(gate_slots(spec_.cell));
    args.descending = t % 2 == 1;
    args.vec_begin = piece.vectors.begin;
    args.vec_end = piece.vectors.end;
    if (sweep.sum_squares != nullptr && !projected) {
        args.sum_squares = sweep.sum_squares + t * member.num_threads + member.tid;
    }
    switch (spec_.cell) {
        case Cell::kLstm:
            run_both(kernels_.lstm_backward, args, lists,
                     projected ? sweep.w.w_hr_t : sweep.w.w_hh_t,
                     projected ? O : cell::kLstmGates * H);
            break;
        case Cell::kGru:
            run_both(kernels_.gru_backward, args, lists, sweep.w.w_hh_t, cell::kGruGates * H);
            break;
        case Cell::kRnnTanh:
            run_both(kernels_.rnn_tanh_backward, args, lists, sweep.w.w_hh_t, H);
            break;
        case Cell::kRnnRelu:
            run_both(kernels_.rnn_relu_backward, args, lists, sweep.w.w_hh_t, H);
            break;
        case Cell::kGruResetBefore:
            run_both(kernels_.gru_reset_before_backward, args, lists, sweep.w.w_hh_t, 2 * H);
            member.meet_group();  // W_hn^T needs dn of all units
            reset_gate_step(args, lists, sweep, rows);
            break;
    }
}

/// The second product of the reset-before GRU, in which every row takes part: drh = dn * W_hn.
template <class T>
void BackwardPass<T>::reset_gate_step(CellBackwardArgs<T>& args, const TwoLists& lists,
                                      const Sweep& sweep, CellBackwardRow<T>* rows) const noexcept {
    const std::int64_t H = spec_.hidden_size;
    args.sum_squares = nullptr;
    args.w = sweep.w.w_hn_t;
    args.w_k = args.k = H;
    for (const Span part : {Span{0, lists.front}, Span{lists.back, lists.end}}) {
        for (std::int64_t i = part.begin; i < part.end; ++i) {
            rows[i].dg_next = rows[i].dg + cell::kGruN * H;
            rows[i].dy = rows[i].extra = zeros_;
        }
        args.rows = rows + part.begin;
        args.num_rows = part.size();
        kernels_.gru_reset_gate_backward(args);
    }
}

template class BackwardPass<float>;
template class BackwardPass<double>;

}  // namespace carousel::cpu
