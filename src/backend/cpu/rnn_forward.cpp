#include "src/backend/cpu/rnn_forward.hpp"

#include <algorithm>

#include "kernels/cell/gates.hpp"
#include "src/backend/dropout_mask.hpp"

namespace carousel::cpu {

/// Addresses of one (layer, direction).
template <class T>
struct ForwardPass<T>::Sweep {
    Walk walk;
    std::int64_t layer, dir, state;
    StateWeights<T> w;
    Sequence<const T> x;  ///< layer input
    Sequence<T> y;        ///< layer output, this direction's columns
    T *gates, *c, *aux;   ///< [slots,N,*]; slot = t, or s modulo the ring's length
    const T *hx, *cx;     ///< [N,O], [N,H] of this state, or null
    T *hy, *cy;
    std::int64_t ring;  ///< steps that gates, c and aux hold
    bool save;          ///< gates are wanted after the step

    std::int64_t slot(std::int64_t s) const noexcept {
        return ring == walk.T ? walk.step(s) : s % ring;
    }
};

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
    auto* rows = reinterpret_cast<MatmulRow<T>*>(
        work_.slices.template at<char>(args_.workspace, work_.rows) +
        static_cast<std::size_t>(member.tid) * work_.rows_bytes_per_thread);
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

template <class T>
void ForwardPass<T>::recurrent_step(const Member& member, const Sweep& sweep, const Piece& piece,
                                    std::int64_t s) const noexcept {
    const std::int64_t slots = gate_slots(spec_.cell), H = spec_.hidden_size,
                       O = spec_.output_size();
    const std::int64_t t = sweep.walk.step(s), previous = sweep.walk.previous(t);
    const std::int64_t slot = sweep.slot(s), slot_previous = s > 0 ? sweep.slot(s - 1) : 0;
    auto* rows = reinterpret_cast<CellForwardRow<T>*>(
        work_.slices.template at<char>(args_.workspace, work_.rows) +
        static_cast<std::size_t>(member.tid) * work_.rows_bytes_per_thread);
    const bool projected = spec_.proj_size > 0;
    // Rows with a state fill the list from the front, rows whose state is zero from the back.
    std::int64_t front = 0, back = piece.rows.size();
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        if (!sweep.walk.active(t, n)) continue;
        const bool cut = sweep.walk.cut_before(t, n), first = t == sweep.walk.first(n);
        const T* h_prev = cut     ? nullptr
                          : first ? offset_or_null(sweep.hx, n * O)
                                  : sweep.y.row(previous, n);
        const T* c_prev = cut     ? nullptr
                          : first ? offset_or_null(sweep.cx, n * H)
                                  : offset_or_null(sweep.c, (slot_previous * N_ + n) * H);
        CellForwardRow<T>& row = h_prev == nullptr ? rows[--back] : rows[front++];
        const std::int64_t at = slot * N_ + n;
        row.gates = sweep.gates + at * slots * H;
        row.x = sweep.x.row(t, n);
        row.h_prev = h_prev == nullptr ? zeros_ : h_prev;
        row.c_prev = c_prev == nullptr ? zeros_ : c_prev;
        row.c = offset_or_null(sweep.c, at * H);
        row.aux = offset_or_null(sweep.aux, at * H);
        row.h = projected ? row.aux : sweep.y.row(t, n);
    }
    CellForwardArgs<T> args;
    args.hidden_size = H;
    args.save = sweep.save;
    args.bias_hn = sweep.w.bias_hn;
    args.descending = s % 2 == 1;
    if (fuses_input()) {
        args.w_ih = sweep.w.w_ih;
        args.input_size = spec_.layer_input_size(sweep.layer);
        args.bias = sweep.w.bias;
        // What outgrows the last-level cache before backward reads it does not pass through it.
        constexpr std::int64_t kCacheBytes = 24 * 1024 * 1024;
        args.stream = training_ && T_ * N_ * slots * H * static_cast<std::int64_t>(sizeof(T)) *
                                           spec_.num_states() >
                                       kCacheBytes;
    }
    const Span vectors = piece.vectors;
    args.vec_begin = vectors.begin;
    args.vec_end = vectors.end;
    const auto both_lists = [&](void (*kernel)(const CellForwardArgs<T>&), const T* w,
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
            both_lists(kernels_.lstm_forward, sweep.w.w_hh, O);
            break;
        case Cell::kGru:
            both_lists(kernels_.gru_forward, sweep.w.w_hh, O);
            break;
        case Cell::kRnnTanh:
            both_lists(kernels_.rnn_tanh_forward, sweep.w.w_hh, O);
            break;
        case Cell::kRnnRelu:
            both_lists(kernels_.rnn_relu_forward, sweep.w.w_hh, O);
            break;
        case Cell::kGruResetBefore:
            both_lists(kernels_.gru_reset_before_gates, sweep.w.w_hh, O);
            member.meet_group();  // W_hn needs r*h_prev of all units
            both_lists(kernels_.gru_reset_before_state, sweep.w.w_hn, O);
            break;
    }
    if (!projected) return;
    member.meet_group();  // W_hr needs all units
    auto* products = reinterpret_cast<MatmulRow<T>*>(rows);
    std::int64_t count = 0;
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        if (sweep.walk.active(t, n)) {
            products[count++] = {sweep.aux + (slot * N_ + n) * H, nullptr, nullptr,
                                 sweep.y.row(t, n)};
        }
    }
    MatmulArgs<T> projection;
    projection.rows = products;
    projection.num_rows = count;
    projection.w = sweep.w.w_hr;
    projection.k = projection.w_k = H;
    projection.m = spec_.proj_size;
    const Span columns = member.vectors(spec_.proj_size, kernels_.lanes);
    projection.vec_begin = columns.begin;
    projection.vec_end = columns.end;
    kernels_.matmul(projection);
}

/// Zeroes what lies beyond a sequence's end, and takes the cell state of rows that end at t.
template <class T>
void ForwardPass<T>::finish_rows(const Member& member, const Sweep& sweep, const Piece& piece,
                                 std::int64_t t) const noexcept {
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size();
    const bool full = args_.mask.lengths == nullptr;
    const bool last_step = t == (sweep.walk.reverse ? 0 : T_ - 1);
    if (full && (!last_step || sweep.cy == nullptr)) return;
    const Span units = units_of(piece.vectors, kernels_.lanes, H);
    const Span outputs = spec_.proj_size > 0
                             ? units_of(member.vectors(O, kernels_.lanes), kernels_.lanes, O)
                             : units;
    const std::int64_t s = sweep.walk.reverse ? T_ - 1 - t : t;
    for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
        const std::int64_t at = sweep.slot(s) * N_ + n;
        if (sweep.walk.active(t, n)) {
            if (sweep.cy != nullptr && t == sweep.walk.last(n))
                copy_span(sweep.cy + n * H, sweep.c + at * H, units);
            continue;
        }
        zero_span(sweep.y.row(t, n), outputs);
        if (sweep.cy != nullptr && sweep.walk.length(n) == 0 && last_step) {
            if (sweep.cx == nullptr) {
                zero_span(sweep.cy + n * H, units);
            } else if (sweep.cy != sweep.cx) {
                copy_span(sweep.cy + n * H, sweep.cx + n * H, units);
            }
        }
    }
}

/// hy, after every read of hx: the two may be the same memory.
template <class T>
void ForwardPass<T>::state_out(const Member& member, const PlanStep& step) const noexcept {
    const Sweep sweep = make_sweep(step.layer, step.dir);
    if (sweep.hy == nullptr) return;
    const std::int64_t O = spec_.output_size();
    const Span all{0, O}, part = member.part(N_);
    for (std::int64_t n = part.begin; n < part.end; ++n) {
        T* hy = sweep.hy + n * O;
        if (sweep.walk.length(n) > 0) {
            copy_span(hy, static_cast<const T*>(sweep.y.row(sweep.walk.last(n), n)), all);
        } else if (sweep.hx == nullptr) {
            zero_span(hy, all);
        } else if (sweep.hy != sweep.hx) {
            copy_span(hy, sweep.hx + n * O, all);
        }
    }
}

/// Saved rows -> the caller's tensors [L*D,T,N,*]; rows beyond a sequence's end are zero there.
template <class T>
static void copy_state_rows(const Walk& walk, Span units, std::int64_t H, std::int64_t gates,
                            std::int64_t t, std::int64_t n, const T* from_gates, const T* from_c,
                            T* to_gates, T* to_c) noexcept {
    const bool active = walk.active(t, n);
    if (to_c != nullptr) {
        T* to = to_c + (t * walk.N + n) * H;
        active ? copy_span(to, from_c, units) : zero_span(to, units);
    }
    if (to_gates == nullptr) return;
    for (std::int64_t gate = 0; gate < gates; ++gate) {
        T* to = to_gates + (t * walk.N + n) * gates * H + gate * H;
        active ? copy_span(to, from_gates + gate * H, units) : zero_span(to, units);
    }
}

template <class T>
void ForwardPass<T>::copy_ring(const Sweep& sweep, const Piece& piece, std::int64_t s0,
                               std::int64_t s1) const noexcept {
    if (!args_.gates.defined() && !args_.cell_states.defined()) return;
    const std::int64_t H = spec_.hidden_size, G = spec_.num_gates(), slots = gate_slots(spec_.cell);
    const Span units = units_of(piece.vectors, kernels_.lanes, H);
    auto* gates = static_cast<T*>(args_.gates.data);
    auto* cells = static_cast<T*>(args_.cell_states.data);
    if (gates != nullptr) gates += sweep.state * T_ * N_ * G * H;
    if (cells != nullptr) cells += sweep.state * T_ * N_ * H;
    for (std::int64_t s = s0; s < s1; ++s) {
        for (std::int64_t n = piece.rows.begin; n < piece.rows.end; ++n) {
            const std::int64_t at = sweep.slot(s) * N_ + n;
            copy_state_rows(sweep.walk, units, H, G, sweep.walk.step(s), n,
                            sweep.gates + at * slots * H, offset_or_null(sweep.c, at * H), gates,
                            cells);
        }
    }
}

template <class T>
void ForwardPass<T>::copy_requested(const Member& member, std::int64_t layer) const noexcept {
    if (training_) {
        for (std::int64_t dir = 0; dir < spec_.num_directions(); ++dir) {
            const Sweep sweep = make_sweep(layer, dir);
            for (const Piece& piece : pieces(member)) copy_ring(sweep, piece, 0, T_);
        }
    }
    if (!args_.layer_outputs.defined()) return;
    const std::int64_t width = spec_.num_directions() * spec_.output_size();
    const Sequence<T> from = output_of(layer);
    const Sequence<T> to =
        dense(static_cast<T*>(args_.layer_outputs.data) + layer * T_ * N_ * width, N_, width);
    const Span part = member.part(T_ * N_);
    for (std::int64_t row = part.begin; row < part.end; ++row) {
        copy_span(to.row(row / N_, row % N_), static_cast<const T*>(from.row(row / N_, row % N_)),
                  {0, width});
    }
}

template <class T>
void ForwardPass<T>::dropout(const Member& member, std::int64_t layer) const noexcept {
    const std::int64_t width = spec_.num_directions() * spec_.output_size();
    const DropoutKey key{args_.dropout_seed, args_.dropout_step, static_cast<std::uint32_t>(layer)};
    const T* from = output_of(layer).base;
    T* to = plan_.schedule.reserve.at<T>(
        args_.reserve, plan_.schedule.saved_dropped[static_cast<std::size_t>(layer)]);
    constexpr std::int64_t kBlock = 256;
    T mask[kBlock];
    const Span part = member.part(T_ * N_ * width, kBlock);
    for (std::int64_t first = part.begin; first < part.end; first += kBlock) {
        const std::int64_t count = std::min(kBlock, part.end - first);
        fill_dropout_mask(key, spec_.dropout, first, count, mask);
        for (std::int64_t i = 0; i < count; ++i) to[first + i] = from[first + i] * mask[i];
    }
}

template class ForwardPass<float>;
template class ForwardPass<double>;

}  // namespace carousel::cpu
