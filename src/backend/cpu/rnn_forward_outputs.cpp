// What leaves a forward pass beside y: final states, the tensors a caller asked for, dropout between
// layers.

#include "src/backend/cpu/rnn_forward.hpp"
#include "src/backend/dropout_mask.hpp"

namespace carousel::cpu {

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
    const Span part = member.part(T_ * N_ * width, kDropoutGrain);
    apply_dropout(key, spec_.dropout, part.begin, part.size(), from, to);
}

template void ForwardPass<float>::finish_rows(const Member&, const Sweep&, const Piece&,
                                              std::int64_t) const noexcept;
template void ForwardPass<float>::state_out(const Member&, const PlanStep&) const noexcept;
template void ForwardPass<float>::copy_requested(const Member&, std::int64_t) const noexcept;
template void ForwardPass<float>::copy_ring(const Sweep&, const Piece&, std::int64_t,
                                            std::int64_t) const noexcept;
template void ForwardPass<float>::dropout(const Member&, std::int64_t) const noexcept;
template void ForwardPass<double>::finish_rows(const Member&, const Sweep&, const Piece&,
                                               std::int64_t) const noexcept;
template void ForwardPass<double>::state_out(const Member&, const PlanStep&) const noexcept;
template void ForwardPass<double>::copy_requested(const Member&, std::int64_t) const noexcept;
template void ForwardPass<double>::copy_ring(const Sweep&, const Piece&, std::int64_t,
                                             std::int64_t) const noexcept;
template void ForwardPass<double>::dropout(const Member&, std::int64_t) const noexcept;

}  // namespace carousel::cpu
