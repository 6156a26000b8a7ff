#include "src/backend/cpu/rnn_backward.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cell/gates.hpp"
#include "src/backend/dropout_mask.hpp"

namespace carousel::cpu {

namespace {

/// Where the recurrent side's gate gradients begin in a row, in units of H.
constexpr std::int64_t recurrent_offset(Cell cell) noexcept {
    return cell == Cell::kGru ? cell::kGruGradR : 0;
}

/// A group of panels of this size leaves half of an L2 cache of 1 MiB to the other operands.
constexpr std::int64_t kPanelBytes = 512 * 1024;

}  // namespace

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
    std::int64_t front = 0, back = member.rows.size();
    for (std::int64_t n = member.rows.begin; n < member.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) continue;
        const bool last = t == sweep.walk.last(n), fresh = last || sweep.walk.cut_before(next, n);
        MatmulRow<T>& row = fresh ? rows[--back] : rows[front++];
        row.a = fresh ? zeros_ : dgates_ + (next * N_ + n) * slots_ * H;
        row.init = sweep.dy.defined() ? sweep.dy.row(t, n) : nullptr;
        row.init2 = last ? offset_or_null(sweep.dhy, n * P) : nullptr;
        row.c = dh + (t * N_ + n) * P;
    }
    MatmulArgs<T> args;
    args.w = sweep.w.w_hh_t;
    args.w_k = spec_.num_gates() * H;
    args.m = P;
    const Span vectors = member.vectors(P, kernels_.lanes);
    args.vec_begin = vectors.begin;
    args.vec_end = vectors.end;
    args.sum_squares = sweep.sum_squares == nullptr
                           ? nullptr
                           : sweep.sum_squares + t * member.num_threads + member.tid;
    args.rows = rows;
    args.num_rows = front;
    args.k = args.w_k;
    kernels_.matmul(args);
    args.rows = rows + back;
    args.num_rows = member.rows.size() - back;
    args.k = 0;
    kernels_.matmul(args);
}

template <class T>
void BackwardPass<T>::recurrent_step(const Member& member, const Sweep& sweep, const Piece& piece,
                                     std::int64_t t) const noexcept {
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size(), next = sweep.walk.next(t);
    const std::int64_t slots = gate_slots(spec_.cell), recurrent = recurrent_offset(spec_.cell) * H;
    const bool projected = spec_.proj_size > 0;
    T* carry = work_or_null(work_.carry);
    T* dc = work_or_null(work_.dc);
    const T* dh = work_or_null(work_.dh);
    auto* rows = reinterpret_cast<CellBackwardRow<T>*>(row_list(member));
    // Rows with a later step fill the list from the front, rows whose gradient starts here from the back.
    std::int64_t front = 0, back = piece.rows.size();
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) continue;
        const bool last = t == sweep.walk.last(n), fresh = last || sweep.walk.cut_before(next, n);
        CellBackwardRow<T>& row = projected || !fresh ? rows[front++] : rows[--back];
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
    CellBackwardArgs<T> args;
    args.hidden_size = H;
    args.saved_slots = static_cast<int>(slots);
    args.descending = t % 2 == 1;
    const Span vectors = piece.vectors;
    args.vec_begin = vectors.begin;
    args.vec_end = vectors.end;
    if (sweep.sum_squares != nullptr && !projected) {
        args.sum_squares = sweep.sum_squares + t * member.num_threads + member.tid;
    }
    const auto both_lists = [&](void (*kernel)(const CellBackwardArgs<T>&), const T* w,
                                std::int64_t k) {
        args.w = w;
        args.w_k = k;
        args.rows = rows;
        args.num_rows = front;
        args.k = k;
        kernel(args);
        args.rows = rows + back;
        args.num_rows = piece.rows.size() - back;
        args.k = 0;
        kernel(args);
    };
    switch (spec_.cell) {
        case Cell::kLstm:
            both_lists(kernels_.lstm_backward, projected ? sweep.w.w_hr_t : sweep.w.w_hh_t,
                       projected ? O : cell::kLstmGates * H);
            break;
        case Cell::kGru:
            both_lists(kernels_.gru_backward, sweep.w.w_hh_t, cell::kGruGates * H);
            break;
        case Cell::kRnnTanh:
            both_lists(kernels_.rnn_tanh_backward, sweep.w.w_hh_t, H);
            break;
        case Cell::kRnnRelu:
            both_lists(kernels_.rnn_relu_backward, sweep.w.w_hh_t, H);
            break;
        case Cell::kGruResetBefore: {
            both_lists(kernels_.gru_reset_before_backward, sweep.w.w_hh_t, 2 * H);
            member.meet_group();  // W_hn^T needs dn of all units
            // Every row now takes part: drh = dn * W_hn.
            const auto retarget = [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = begin; i < end; ++i) {
                    rows[i].dg_next = rows[i].dg + cell::kGruN * H;
                    rows[i].dy = rows[i].extra = zeros_;
                }
            };
            retarget(0, front);
            retarget(back, piece.rows.size());
            args.sum_squares = nullptr;
            args.w = sweep.w.w_hn_t;
            args.w_k = args.k = H;
            args.rows = rows;
            args.num_rows = front;
            kernels_.gru_reset_gate_backward(args);
            args.rows = rows + back;
            args.num_rows = piece.rows.size() - back;
            kernels_.gru_reset_gate_backward(args);
            break;
        }
    }
}

/// Per-step sums of the members, added in their order.
template <class T>
void BackwardPass<T>::norms(const Member& member, const Sweep& sweep) const noexcept {
    if (sweep.sum_squares == nullptr) return;
    T* out = static_cast<T*>(args_.dh_norms.data) + sweep.state * T_;
    const Span part = member.part(T_);
    for (std::int64_t t = part.begin; t < part.end; ++t) {
        double sum = 0.0;
        for (int tid = 0; tid < member.num_threads; ++tid)
            sum += sweep.sum_squares[t * member.num_threads + tid];
        out[t] = static_cast<T>(std::sqrt(sum));
    }
}

template <class T>
void BackwardPass<T>::state_grads(const Member& member, const PlanStep& step) const noexcept {
    const Sweep sweep = make_sweep(step.layer, step.dir);
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size();
    const T* carry = work_or_null(work_.carry);
    const T* dc = work_or_null(work_.dc);
    const Span units = units_of(member.vectors(H, kernels_.lanes), kernels_.lanes, H);
    const Span columns = member.vectors(O, kernels_.lanes),
               outputs = units_of(columns, kernels_.lanes, O);
    auto* rows = reinterpret_cast<MatmulRow<T>*>(row_list(member));
    std::int64_t count = 0;
    // A sequence without steps passes its gradients through; a cut before the first step stops them.
    const auto settle = [](T* to, const T* from, Span span) {
        if (to == nullptr) return;
        if (from == nullptr) {
            zero_span(to, span);
        } else if (to != from) {
            copy_span(to, from, span);
        }
    };
    for (std::int64_t n = member.rows.begin; n < member.rows.end; ++n) {
        const bool empty = sweep.walk.length(n) == 0;
        const std::int64_t first = sweep.walk.first(n);
        const bool cut = !empty && sweep.walk.cut_before(first, n);
        settle(offset_or_null(sweep.dcx, n * H),
               empty ? offset_or_null(sweep.dcy, n * H)
               : cut ? nullptr
                     : offset_or_null(dc, n * H),
               units);
        if (sweep.dhx == nullptr) continue;
        if (empty || cut) {
            settle(sweep.dhx + n * O, empty ? offset_or_null(sweep.dhy, n * O) : nullptr, outputs);
            continue;
        }
        rows[count++] = {dgates_ + (first * N_ + n) * slots_ * H + recurrent_offset(spec_.cell) * H,
                         offset_or_null(carry, n * H), nullptr, sweep.dhx + n * O};
    }
    MatmulArgs<T> args;
    args.rows = rows;
    args.num_rows = count;
    args.w = sweep.w.w_hh_t;
    args.k = args.w_k = recurrent_gates(spec_.cell) * H;
    args.m = O;
    args.vec_begin = columns.begin;
    args.vec_end = columns.end;
    kernels_.matmul(args);
}

template <class T>
void BackwardPass<T>::bias_grads(const Member& member, const PlanStep& step) const noexcept {
    if (args_.grads == nullptr) return;
    const std::int64_t H = spec_.hidden_size, G = spec_.num_gates();
    const auto state = static_cast<std::size_t>(step.layer * spec_.num_directions() + step.dir);
    const RnnLayerGrads& grads = args_.grads->layers[state];
    auto* db_ih = static_cast<T*>(grads.db_ih.data);
    auto* db_hh = static_cast<T*>(grads.db_hh.data);
    // Columns [column, column + count) of the gate gradients -> sums; returns this member's part.
    const auto sum = [&](std::int64_t column, std::int64_t count, T* sums) {
        const Span part = member.part(count, kernels_.lanes);
        if (sums == nullptr) return part;
        ColumnSumArgs<T> args;
        args.a = dgates_ + column;
        args.rows = T_ * N_;
        args.ld = slots_ * H;
        args.begin = part.begin;
        args.end = part.end;
        args.sums = sums;
        args.accumulate = args_.accumulate;
        kernels_.column_sum(args);
        return part;
    };
    if (spec_.cell == Cell::kGru) {
        sum(cell::kGruGradR * H, 2 * H, db_ih);
        sum(cell::kGruGradN * H, H, offset_or_null(db_ih, cell::kGruN * H));
        sum(cell::kGruGradR * H, G * H, db_hh);
        return;
    }
    const Span part = sum(0, G * H, db_ih);
    if (db_hh == nullptr) return;
    if (db_ih == nullptr || args_.accumulate) {
        sum(0, G * H, db_hh);
    } else {
        copy_span(db_hh, static_cast<const T*>(db_ih), part);
    }
}

template <class T>
Sequence<T> BackwardPass<T>::input_grads_of(std::int64_t layer) const noexcept {
    if (layer == 0) return as_sequence<T>(args_.dx);
    return dense(work_or_null(work_.dy[static_cast<std::size_t>(layer - 1) % 2]), N_, width_);
}

/// dx = dgates * W_ih; the second direction adds to the first.
template <class T>
void BackwardPass<T>::input_grads(const Member& member, const PlanStep& step) const noexcept {
    if (!wants_input_grads(step.layer)) return;
    const std::int64_t GH = spec_.num_gates() * spec_.hidden_size,
                       I = spec_.layer_input_size(step.layer);
    const std::int64_t state = step.layer * spec_.num_directions() + step.dir;
    const Sequence<T> dx = input_grads_of(step.layer);
    MatmulArgs<T> args;
    args.k = args.w_k = GH;
    args.m = I;
    auto* rows = reinterpret_cast<MatmulRow<T>*>(row_list(member));
    args.rows = rows;
    const auto list_rows = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            T* out = dx.row(i / N_, i % N_);
            rows[i - begin] = {dgates_ + i * slots_ * spec_.hidden_size,
                               step.dir == 1 ? out : nullptr, nullptr, out};
        }
        args.num_rows = end - begin;
    };
    const std::int64_t vectors = (I + kernels_.lanes - 1) / kernels_.lanes;
    if (!few_rows()) {  // many rows: split them
        args.w = weights(state).w_ih_t;
        args.vec_end = vectors;
        const auto capacity =
            static_cast<std::int64_t>(work_.rows_bytes_per_thread / sizeof(MatmulRow<T>));
        const Span part = member.part(T_ * N_);
        for (std::int64_t begin = part.begin; begin < part.end; begin += capacity) {
            list_rows(begin, std::min(begin + capacity, part.end));
            kernels_.matmul(args);
        }
        return;
    }
    // Few rows: split the columns. Plain weights are packed one group of panels after the other, in the
    // place of this member's first: they are read from L2 and never reach memory.
    list_rows(0, T_ * N_);
    const std::int64_t panel_size = GH * kernels_.lanes;
    const std::int64_t group = std::clamp<std::int64_t>(
        kPanelBytes / (panel_size * static_cast<std::int64_t>(sizeof(T))), 1, 4);
    const Span part = member.part(vectors);
    T* panels = work_or_null(work_.packed[static_cast<std::size_t>(state)].w_ih_t) +
                part.begin * panel_size;
    args.w = weights(state).w_ih_t;
    for (std::int64_t vec = part.begin; vec < part.end; vec += group) {
        args.vec_begin = vec;
        args.vec_end = std::min(vec + group, part.end);
        if (args_.packed == nullptr) {
            pack_w_ih_t(spec_, args_.params->layers[static_cast<std::size_t>(state)], step.layer,
                        {args.vec_begin, args.vec_end}, panels);
            args.w = panels - vec * panel_size;
        }
        kernels_.matmul(args);
    }
}

template <class T>
void BackwardPass<T>::dropout_grads(const Member& member, std::int64_t layer) const noexcept {
    const DropoutKey key{header_.dropout_seed, header_.dropout_step,
                         static_cast<std::uint32_t>(layer)};
    T* dy = work_or_null(work_.dy[static_cast<std::size_t>(layer) % 2]);
    constexpr std::int64_t kBlock = 256;
    T mask[kBlock];
    const Span part = member.part(T_ * N_ * width_, kBlock);
    for (std::int64_t first = part.begin; first < part.end; first += kBlock) {
        const std::int64_t count = std::min(kBlock, part.end - first);
        fill_dropout_mask(key, spec_.dropout, first, count, mask);
        for (std::int64_t i = 0; i < count; ++i) dy[first + i] *= mask[i];
    }
}

template class BackwardPass<float>;
template class BackwardPass<double>;

}  // namespace carousel::cpu
