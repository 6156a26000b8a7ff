#include "src/backend/cpu/rnn_forward.hpp"

#include <algorithm>

#include "kernels/cell/gates.hpp"

namespace carousel::cpu {

template <class T>
ForwardPass<T>::ForwardPass(const RnnPlan::Impl& plan, const RnnForwardArgs& args,
                            bool training) noexcept
    : plan_(plan),
      spec_(plan.spec),
      args_(args),
      work_(training ? plan.schedule.training : plan.schedule.inference),
      kernels_(rnn_kernels<T>()),
      training_(training),
      T_(args.seq_len),
      N_(args.batch_size),
      zeros_(work_.slices.template at<T>(args.workspace, work_.zeros)) {
    std::memset(work_.slices.template at<T>(args.workspace, work_.zeros), 0,
                work_.slices[work_.zeros].bytes);
    if (training) {
        auto* header =
            plan.schedule.reserve.at<ReserveHeader>(args.reserve, plan.schedule.reserve_header);
        *header = {ReserveHeader::kMagic, T_, N_, args.dropout_seed, args.dropout_step,
                   spec_hash(spec_)};
    }
}

template <class T>
StateWeights<T> ForwardPass<T>::weights(std::int64_t state) const noexcept {
    return state_weights<T>(args_.packed, work_, args_.workspace, state);
}

template <class T>
char* ForwardPass<T>::row_list(const Member& member) const noexcept {
    return work_.slices.template at<char>(args_.workspace, work_.rows) +
           static_cast<std::size_t>(member.tid) * work_.rows_bytes_per_thread;
}

template <class T>
Sequence<T> ForwardPass<T>::output_of(std::int64_t layer) const noexcept {
    const std::int64_t width = spec_.num_directions() * spec_.output_size();
    if (layer + 1 == spec_.num_layers) return as_sequence<T>(args_.y);
    const auto index = static_cast<std::size_t>(layer);
    if (training_)
        return dense(plan_.schedule.reserve.at<T>(args_.reserve, plan_.schedule.saved_y[index]), N_,
                     width);
    return dense(work_.slices.template at<T>(args_.workspace, work_.y[index % 2]), N_, width);
}

template <class T>
Sequence<const T> ForwardPass<T>::input_of(std::int64_t layer) const noexcept {
    if (layer == 0) return as_sequence<const T>(args_.x);
    const std::size_t dropped =
        training_ ? plan_.schedule.saved_dropped[static_cast<std::size_t>(layer - 1)] : kNoSlice;
    if (dropped != kNoSlice) {
        return dense(
            plan_.schedule.reserve.at<const T>(static_cast<const void*>(args_.reserve), dropped),
            N_, spec_.layer_input_size(layer));
    }
    const Sequence<T> y = output_of(layer - 1);
    return {y.base, y.stride_t, y.stride_n};
}

template <class T>
typename ForwardPass<T>::Sweep ForwardPass<T>::make_sweep(std::int64_t layer,
                                                          std::int64_t dir) const noexcept {
    const std::int64_t state = layer * spec_.num_directions() + dir;
    const std::int64_t O = spec_.output_size(), H = spec_.hidden_size;
    Sweep sweep{};
    sweep.walk = {T_, N_, dir == 1, args_.mask};
    sweep.layer = layer;
    sweep.dir = dir;
    sweep.state = state;
    sweep.w = weights(state);
    sweep.x = input_of(layer);
    sweep.y = output_of(layer);
    sweep.y.base += dir * O;
    const StateSlices& slices =
        training_ ? plan_.schedule.saved[static_cast<std::size_t>(state)] : work_.ring;
    const SliceLayout& layout = training_ ? plan_.schedule.reserve : work_.slices;
    void* base = training_ ? args_.reserve : args_.workspace;
    const auto at = [&](std::size_t index) {
        return index == kNoSlice ? nullptr : layout.template at<T>(base, index);
    };
    sweep.gates = at(slices.gates);
    sweep.c = at(slices.c);
    sweep.aux = at(slices.aux);
    sweep.ring = training_ ? T_ : std::min(plan_.config.chunk_steps, T_);
    sweep.save = training_ || args_.gates.defined();
    const auto state_row = [&](auto* data, std::int64_t width) {
        return offset_or_null(data, state * N_ * width);
    };
    sweep.hx = state_row(static_cast<const T*>(args_.hx.data), O);
    sweep.cx = state_row(static_cast<const T*>(args_.cx.data), H);
    sweep.hy = state_row(static_cast<T*>(args_.hy.data), O);
    sweep.cy = state_row(static_cast<T*>(args_.cy.data), H);
    return sweep;
}

template <class T>
void ForwardPass<T>::run(const Member& member) const noexcept {
    for (const PlanStep& step :
         training_ ? plan_.schedule.forward_training : plan_.schedule.forward_inference) {
        switch (step.kind) {
            case StepKind::kPackForward: {
                if (args_.packed != nullptr) continue;
                const auto state =
                    static_cast<std::size_t>(step.layer * spec_.num_directions() + step.dir);
                pack_state<T>(spec_, args_.params->layers[state], step.layer, work_.slices,
                              work_.packed[state], args_.workspace, member.tid, member.num_threads,
                              {.w_ih = packs_where_used()});
                break;
            }
            case StepKind::kForwardSweep:
                sweep(member, step);
                break;
            case StepKind::kStateOut:
                state_out(member, step);
                break;
            case StepKind::kRequested:
                copy_requested(member, step.layer);
                break;
            case StepKind::kDropout:
                dropout(member, step.layer);
                break;
            default:
                break;
        }
        member.meet_team();
    }
}

template <class T>
void ForwardPass<T>::sweep(const Member& member, const PlanStep& step) const noexcept {
    const Sweep sweep = make_sweep(step.layer, step.dir);
    const Pieces pieces = this->pieces(member);
    for (std::int64_t s0 = 0; s0 < T_; s0 += plan_.config.chunk_steps) {
        const std::int64_t s1 = std::min(s0 + plan_.config.chunk_steps, T_);
        if (!fuses_input()) {
            for (const Piece& piece : pieces)
                input_product(member, sweep, piece, pieces.begin()->vectors.begin, s0, s1);
        }
        for (std::int64_t s = s0; s < s1; ++s) {
            for (const Piece& piece : pieces) {
                recurrent_step(member, sweep, piece, s);
                if (spec_.proj_size > 0) {
                    member.meet_group();  // W_hr needs all units
                    project(member, sweep, piece, s);
                }
                finish_rows(member, sweep, piece, sweep.walk.step(s));
            }
            member.meet_group();
        }
        for (const Piece& piece : pieces) {
            if (!training_) copy_ring(sweep, piece, s0, s1);
        }
    }
}

template <class T>
Pieces ForwardPass<T>::pieces(const Member& member) const noexcept {
    return member.pieces(spec_.hidden_size, kernels_.lanes, splits_left_over(spec_));
}

/// Pre-activations of the input side, for one piece of this member: what it writes it alone reads, so no
/// barrier stands between this and the steps. `own_panel` is the first vector of its first piece.
template <class T>
void ForwardPass<T>::input_product(const Member& member, const Sweep& sweep, const Piece& piece,
                                   std::int64_t own_panel, std::int64_t s0,
                                   std::int64_t s1) const noexcept {
    const std::int64_t G = spec_.num_gates(), slots = gate_slots(spec_.cell), H = spec_.hidden_size;
    auto* rows = reinterpret_cast<MatmulRow<T>*>(row_list(member));
    std::int64_t count = 0;
    for (std::int64_t s = s0; s < s1; ++s) {
        const std::int64_t t = sweep.walk.step(s);
        T* gates = sweep.gates + sweep.slot(s) * N_ * slots * H;
        for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
            if (!sweep.walk.active(t, n)) continue;
            rows[count++] = {sweep.x.row(t, n), nullptr, nullptr, gates + n * slots * H};
        }
    }
    MatmulArgs<T> args;
    args.rows = rows;
    args.num_rows = count;
    args.w = sweep.w.w_ih;
    args.k = args.w_k = spec_.layer_input_size(sweep.layer);
    args.m = H;
    args.bias = sweep.w.bias;
    const auto product = G == 1 ? kernels_.matmul : kernels_.gates_matmul[G];
    const Span vectors = piece.vectors;
    args.vec_begin = vectors.begin;
    args.vec_end = vectors.end;
    if (!packs_where_used()) {
        product(args);
        return;
    }
    // One panel at a time, in a place that is this member's: it is read from L2 and never reaches memory.
    const std::int64_t panel_size = args.w_k * G * kernels_.lanes;
    T* panel = work_.slices.template at<T>(
                   args_.workspace, work_.packed[static_cast<std::size_t>(sweep.state)].w_ih) +
               own_panel * panel_size;
    for (std::int64_t vec = vectors.begin; vec < vectors.end; ++vec) {
        pack_w_ih(spec_, args_.params->layers[static_cast<std::size_t>(sweep.state)], sweep.layer,
                  {vec, vec + 1}, panel);
        args.w = panel - vec * panel_size;
        args.vec_begin = vec;
        args.vec_end = vec + 1;
        product(args);
    }
}

/// Lists the rows of `piece` at step s, those with a state from the front, those whose state is zero from
/// the back.
template <class T>
TwoLists ForwardPass<T>::list_rows(const Sweep& sweep, const Piece& piece, std::int64_t s,
                                   CellForwardRow<T>* rows) const noexcept {
    const std::int64_t slots = gate_slots(spec_.cell), H = spec_.hidden_size,
                       O = spec_.output_size();
    const std::int64_t t = sweep.walk.step(s), previous = sweep.walk.previous(t);
    const std::int64_t slot = sweep.slot(s), slot_previous = s > 0 ? sweep.slot(s - 1) : 0;
    TwoLists lists{0, piece.rows.size(), piece.rows.size()};
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) continue;
        const bool cut = sweep.walk.cut_before(t, n), first = t == sweep.walk.first(n);
        const T* h_prev = cut     ? nullptr
                          : first ? offset_or_null(sweep.hx, n * O)
                                  : sweep.y.row(previous, n);
        const T* c_prev = cut     ? nullptr
                          : first ? offset_or_null(sweep.cx, n * H)
                                  : offset_or_null(sweep.c, (slot_previous * N_ + n) * H);
        CellForwardRow<T>& row = rows[h_prev == nullptr ? --lists.back : lists.front++];
        const std::int64_t at = slot * N_ + n;
        row.gates = sweep.gates + at * slots * H;
        row.x = sweep.x.row(t, n);
        row.h_prev = h_prev == nullptr ? zeros_ : h_prev;
        row.c_prev = c_prev == nullptr ? zeros_ : c_prev;
        row.c = offset_or_null(sweep.c, at * H);
        row.aux = offset_or_null(sweep.aux, at * H);
        row.h = spec_.proj_size > 0 ? row.aux : sweep.y.row(t, n);
    }
    return lists;
}

template <class T>
void ForwardPass<T>::recurrent_step(const Member& member, const Sweep& sweep, const Piece& piece,
                                    std::int64_t s) const noexcept {
    auto* rows = reinterpret_cast<CellForwardRow<T>*>(row_list(member));
    const TwoLists lists = list_rows(sweep, piece, s, rows);
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size();
    CellForwardArgs<T> args;
    args.rows = rows;
    args.hidden_size = H;
    args.save = sweep.save;
    args.bias_hn = sweep.w.bias_hn;
    args.descending = s % 2 == 1;
    args.vec_begin = piece.vectors.begin;
    args.vec_end = piece.vectors.end;
    if (fuses_input()) {
        args.w_ih = sweep.w.w_ih;
        args.input_size = spec_.layer_input_size(sweep.layer);
        args.bias = sweep.w.bias;
        // What outgrows the last-level cache before backward reads it does not pass through it.
        constexpr std::int64_t kCacheBytes = 24 * 1024 * 1024;
        args.stream = training_ && T_ * N_ * gate_slots(spec_.cell) * H *
                                           static_cast<std::int64_t>(sizeof(T)) *
                                           spec_.num_states() >
                                       kCacheBytes;
    }
    switch (spec_.cell) {
        case Cell::kLstm:
            run_both(kernels_.lstm_forward, args, lists, sweep.w.w_hh, O);
            break;
        case Cell::kGru:
            run_both(kernels_.gru_forward, args, lists, sweep.w.w_hh, O);
            break;
        case Cell::kRnnTanh:
            run_both(kernels_.rnn_tanh_forward, args, lists, sweep.w.w_hh, O);
            break;
        case Cell::kRnnRelu:
            run_both(kernels_.rnn_relu_forward, args, lists, sweep.w.w_hh, O);
            break;
        case Cell::kGruResetBefore:
            run_both(kernels_.gru_reset_before_gates, args, lists, sweep.w.w_hh, O);
            member.meet_group();  // W_hn needs r*h_prev of all units
            run_both(kernels_.gru_reset_before_state, args, lists, sweep.w.w_hn, O);
            break;
    }
}

/// With a projection: y = W_hr * (o * tanh(c)), from all units.
template <class T>
void ForwardPass<T>::project(const Member& member, const Sweep& sweep, const Piece& piece,
                             std::int64_t s) const noexcept {
    const std::int64_t t = sweep.walk.step(s), H = spec_.hidden_size;
    auto* rows = reinterpret_cast<MatmulRow<T>*>(row_list(member));
    std::int64_t count = 0;
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) continue;
        rows[count++] = {sweep.aux + (sweep.slot(s) * N_ + n) * H, nullptr, nullptr,
                         sweep.y.row(t, n)};
    }
    MatmulArgs<T> args;
    args.rows = rows;
    args.num_rows = count;
    args.w = sweep.w.w_hr;
    args.k = args.w_k = H;
    args.m = spec_.proj_size;
    const Span columns = member.vectors(spec_.proj_size, kernels_.lanes);
    args.vec_begin = columns.begin;
    args.vec_end = columns.end;
    kernels_.matmul(args);
}

template class ForwardPass<float>;
template class ForwardPass<double>;

}  // namespace carousel::cpu
