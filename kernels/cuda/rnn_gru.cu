// One step of a reset-after GRU (torch, cuDNN), forward and backward.

#include "kernels/cell/gates.hpp"
#include "kernels/cell/gru.hpp"
#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_launch.cuh"
#include "kernels/cuda/rnn_preact.cuh"
#include "kernels/cuda/rnn_sums.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

using cell::kGruGates;
using cell::kGruGradHn;
using cell::kGruGradN;
using cell::kGruGradR;
using cell::kGruGradSlots;
using cell::kGruGradZ;
using cell::kGruHn;
using cell::kGruN;
using cell::kGruR;
using cell::kGruZ;

/// One reset-after GRU step of up to kMaxParts states, forward.
///
///   r = s(x_preact_r + b_ih_r + h_preact_r + b_hh_r)        z alike
///   hn = h_preact_n + b_hh_n        n = tanh(x_preact_n + b_ih_n + r*hn)
///   h = (1-z)*n + z*h_in, to h_next, y, y_out, hy
///   not valid: h_next = hy = h_in, y = y_out = gates_out = 0
///
/// Dims     N = batch_size, H = hidden_size, G = 3; row-major, last index fastest.
/// In       x_preact, h_preact, b_ih, b_hh, h_in as in CellForwardPart; x_preact may be the memory of
///          gates, h_in that of h_next.
/// Out      gates (r, z, n, hn; left alone where not valid), gates_out, h_next, y, y_out, hy; those
///          given.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run; no thread reads what another writes.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    gru_forward_kernel(StepArgs<CellForwardArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const CellForwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    if (j >= H) return;
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        const bool valid = part.t < length;
        const Pack<S, V> h_in = fetch<S, V>(part.h_in, n * H + j);
        Preacts<S, V, kGruGates> preacts = {};
        if (valid) preacts.fetch_all(part, H, n, j);
        const Cuts cuts = row_cuts(common, part, n, length);
        Pack<A, V> h = widen(h_in);
        Pack<A, V> gates[kGruGates] = {};
        if (valid) {
            gates[kGruR] = preacts.both(kGruR);
            gates[kGruZ] = preacts.both(kGruZ);
            gates[kGruN] = preacts.input(kGruN);
            const Pack<A, V> hn = preacts.hidden(kGruN);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const auto out = cell::gru_forward(gates[kGruR].at[v], gates[kGruZ].at[v],
                                                   gates[kGruN].at[v], hn.at[v], h.at[v]);
                gates[kGruR].at[v] = out.r;
                gates[kGruZ].at[v] = out.z;
                gates[kGruN].at[v] = out.n;
                h.at[v] = out.h;
            }
            store<S>(part.gates, n * part.gates_stride + kGruHn * H + j, hn);
        }
        store_state<S>(args, part, n, j, valid, cuts.after, h);
        for (int g = 0; g < kGruGates; ++g)
            store_gate<S>(part, kGruGates, H, n, j, g, valid, gates[g]);
    }
}

/// One reset-after GRU step of up to kMaxParts states, backward.
///
///   dh = dy*dropout + (cut after ? 0 : dh_state)
///   dn = dh*(1-z)*(1-n^2)   dz = dh*(h_in-n)*z*(1-z)   dhn = dn*r   dr = dn*hn*r*(1-r)
///   dh_state = dh*z        db += sum over n of (dn,dr,dz,dhn)
///   not valid: dgates = 0, dh_state unchanged
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       dy, gates, h_in as in CellBackwardPart.
/// Out      dgates [N,4*H] (n | r z hn) written fully; dh_state in and out; db_partials accumulated
///          into; norm_partials written fully.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run and for any alignment: sums follow the rows, then the steps.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    gru_backward_kernel(StepArgs<CellBackwardArgs> args) {
    using A = Acc<S>;
    using Sum = Pack<A, V>;
    const StepCommon& common = args.common;
    const CellBackwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    CAROUSEL_SHARED(Sum, shared, (kSumPacks<V, kGruGradSlots>));
    StepSums<A, V, kGruGradSlots> sums;
    const SumTargets to = cell_targets<A>(part, H, kGruGradSlots);
    const auto before = fetch_sums<kGruGradSlots, A>(to);
    for (std::int64_t n = first_row(); j < H && n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        if (part.t >= length) {
            for (int g = 0; g < kGruGradSlots; ++g)
                store<S>(part.dgates, n * part.dgates_stride + g * H + j, zero<A, V>());
            continue;
        }
        const GradientIn<S, V> gradient = fetch_gradient<S, V>(common, part.in, n, j);
        const Pack<S, V> saved_h = fetch<S, V>(part.h_in, n * H + j);
        Pack<S, V> saved[kGruHn + 1];
        for (int g = 0; g <= kGruHn; ++g)
            saved[g] = fetch<S, V>(part.gates, n * part.gates_stride + g * H + j);
        const bool cut = part.last == 0 && row_cuts(common, part, n, length).after;
        const Pack<A, V> dh = total_gradient(args, part, n, j, cut, gradient);
        sums.add_norm(dh);
        const Pack<A, V> r = widen(saved[kGruR]), z = widen(saved[kGruZ]);
        const Pack<A, V> cand = widen(saved[kGruN]), hn = widen(saved[kGruHn]);
        const Pack<A, V> h_in = widen(saved_h);
        Pack<A, V> dgates[kGruGradSlots], dh_in;
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const auto out =
                cell::gru_backward(r.at[v], z.at[v], cand.at[v], hn.at[v], h_in.at[v], dh.at[v]);
            dgates[kGruGradN].at[v] = out.dn;
            dgates[kGruGradR].at[v] = out.dr;
            dgates[kGruGradZ].at[v] = out.dz;
            dgates[kGruGradHn].at[v] = out.dhn;
            dh_in.at[v] = out.dh_prev;
        }
        store<A>(part.in.dh_state, n * H + j, dh_in);
        for (int g = 0; g < kGruGradSlots; ++g) {
            store<S>(part.dgates, n * part.dgates_stride + g * H + j, dgates[g]);
            add(sums.db[g], dgates[g]);
        }
    }
    reduce_block(shared, sums, to, before);
}

Launch gru_forward(const CellForwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("gru_forward", args, args.common.hidden_size, kMaxGridRows,
                              &gru_forward_kernel<S, kVector<S>>, &gru_forward_kernel<S, 1>);
    });
}

Launch gru_backward(const CellBackwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("gru_backward", args, args.common.hidden_size, kMaxRowBlocks,
                              &gru_backward_kernel<S, kVector<S>>, &gru_backward_kernel<S, 1>);
    });
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
