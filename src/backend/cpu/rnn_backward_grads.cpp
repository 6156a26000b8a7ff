// What follows a layer's backward sweep, apart from the gradients of weights: those of the initial
// states, of biases, of the layer's input, and norms of dh.

#include <algorithm>
#include <cmath>

#include "kernels/cell/gates.hpp"
#include "src/backend/cpu/rnn_backward.hpp"
#include "src/backend/dropout_mask.hpp"

namespace carousel::cpu {

namespace {

/// A group of panels of this size leaves half of an L2 cache of 1 MiB to the other operands.
constexpr std::int64_t kPanelBytes = 512 * 1024;

}  // namespace

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
    const Span part = member.part(T_ * N_ * width_, kDropoutGrain);
    apply_dropout(key, spec_.dropout, part.begin, part.size(), static_cast<const T*>(dy), dy);
}

template void BackwardPass<float>::norms(const Member&, const Sweep&) const noexcept;
template void BackwardPass<float>::state_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<float>::bias_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<float>::input_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<float>::dropout_grads(const Member&, std::int64_t) const noexcept;
template void BackwardPass<double>::norms(const Member&, const Sweep&) const noexcept;
template void BackwardPass<double>::state_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<double>::bias_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<double>::input_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<double>::dropout_grads(const Member&, std::int64_t) const noexcept;

}  // namespace carousel::cpu
