// One step of a reset-before GRU (ONNX, Keras). The reset gate acts on h before the product with W_hn,
// so each direction of the step is two launches with that product between them.

#include "kernels/cell/gates.hpp"
#include "kernels/cell/gru.hpp"
#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_launch.cuh"
#include "kernels/cuda/rnn_preact.cuh"
#include "kernels/cuda/rnn_sums.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

using cell::kGruGates;
using cell::kGruN;
using cell::kGruR;
using cell::kGruZ;

/// First half of a reset-before GRU step of up to kMaxParts states, forward.
///
///   r = s(x_preact_r + b_ih_r + h_preact_r + b_hh_r)        z alike        aux = r*h_in
///   not valid: aux = gates_out = 0
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       x_preact [N,3*H], h_preact [N,2*H], b_ih, b_hh, h_in as in CellForwardPart; x_preact may
///          be the memory of gates.
/// Out      gates (r, z; left alone where not valid), gates_out (r, z), aux; those given.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run; no thread reads what another writes.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    gru_reset_before_gates_kernel(StepArgs<CellForwardArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const CellForwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    if (j >= H) return;
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const bool valid = part.t < row_length(common, n, j);
        Pack<A, V> gates[2] = {}, rh = zero<A, V>();
        if (valid) {
            const Pack<S, V> h_in = fetch<S, V>(part.h_in, n * H + j);
            Preacts<S, V, 2> preacts = {};
            preacts.fetch_all(part, H, n, j);
            const Pack<A, V> h = widen(h_in);
            gates[kGruR] = preacts.both(kGruR);
            gates[kGruZ] = preacts.both(kGruZ);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const auto out =
                    cell::gru_reset_before_gates(gates[kGruR].at[v], gates[kGruZ].at[v], h.at[v]);
                gates[kGruR].at[v] = out.r;
                gates[kGruZ].at[v] = out.z;
                rh.at[v] = out.rh;
            }
        }
        store<S>(part.aux, n * H + j, rh);
        store_gate<S>(part, kGruGates, H, n, j, kGruR, valid, gates[kGruR]);
        store_gate<S>(part, kGruGates, H, n, j, kGruZ, valid, gates[kGruZ]);
    }
}

/// Second half of a reset-before GRU step of up to kMaxParts states, forward.
///
///   n = tanh(x_preact_n + b_ih_n + h_preact_n + b_hh_n)        h = (1-z)*n + z*h_in
///   z is read from gates, or computed again where nothing is saved, and rounded as if it had been
///   not valid: h_next = hy = h_in, y = y_out = gates_out = 0
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       x_preact [N,3*H], h_preact_n [N,H], b_ih, b_hh, h_in, gates as in CellForwardPart;
///          h_preact [N,2*H] if gates is null. h_in may be the memory of h_next.
/// Out      gates (n; left alone where not valid), gates_out (n), h_next, y, y_out, hy; those given.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run; no thread reads what another writes.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    gru_reset_before_state_kernel(StepArgs<CellForwardArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const CellForwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    const bool saved = part.gates != nullptr;
    if (j >= H) return;
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        const bool valid = part.t < length;
        const Pack<S, V> h_in = fetch<S, V>(part.h_in, n * H + j);
        Preacts<S, V, 1> preact_n = {}, preact_z = {};
        Pack<S, V> saved_z = {};
        if (valid) {
            preact_n.fetch_gate(0, part, kGruN, part.h_preact_n, n, H, n, j);
            if (saved) {
                saved_z = fetch<S, V>(part.gates, n * part.gates_stride + kGruZ * H + j);
            } else {
                preact_z.fetch_gate(0, part, kGruZ, part.h_preact, n * 2 + kGruZ, H, n, j);
            }
        }
        const Cuts cuts = row_cuts(common, part, n, length);
        Pack<A, V> h = widen(h_in), cand = zero<A, V>();
        if (valid) {
            Pack<A, V> z = widen(saved_z);
            if (!saved) {
                z = preact_z.both(0);
#pragma unroll
                for (int v = 0; v < V; ++v)
                    z.at[v] = cell::gru_reset_before_gates(A(0), z.at[v], A(0)).z;
                round_to<S>(z);
            }
            cand = preact_n.both(0);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const auto out = cell::gru_reset_before_state(cand.at[v], z.at[v], h.at[v]);
                cand.at[v] = out.n;
                h.at[v] = out.h;
            }
        }
        store_state<S>(args, part, n, j, valid, cuts.after, h);
        store_gate<S>(part, kGruGates, H, n, j, kGruN, valid, cand);
    }
}

/// First half of a reset-before GRU step of up to kMaxParts states, backward.
///
///   dh = dy*dropout + (cut after ? 0 : dh_state)
///   dn = dh*(1-z)*(1-n^2)   dz = dh*(h_in-n)*z*(1-z)
///   dh_state = dh*z        db_z, db_n += sums over n
///   not valid: dgates = 0, dh_state unchanged
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       dy, gates, h_in as in CellBackwardPart.
/// Out      dgates (z, n of [N,3*H]) written fully; dh_state in and out; db_partials accumulated into;
///          norm_partials written fully.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run and for any alignment: sums follow the rows, then the steps.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    gru_reset_before_backward_kernel(StepArgs<CellBackwardArgs> args) {
    using A = Acc<S>;
    using Sum = Pack<A, V>;
    const StepCommon& common = args.common;
    const CellBackwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    CAROUSEL_SHARED(Sum, shared, (kSumPacks<V, 2>));
    StepSums<A, V, 2> sums;
    const SumTargets to = cell_targets<A>(part, H, kGruGates, kGruZ);
    const auto before = fetch_sums<2, A>(to);
    for (std::int64_t n = first_row(); j < H && n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        const std::int64_t grad = n * part.dgates_stride + j, gate = n * part.gates_stride + j;
        if (part.t >= length) {
            store<S>(part.dgates, grad + kGruZ * H, zero<A, V>());
            store<S>(part.dgates, grad + kGruN * H, zero<A, V>());
            continue;
        }
        const GradientIn<S, V> gradient = fetch_gradient<S, V>(common, part.in, n, j);
        const Pack<S, V> saved_h = fetch<S, V>(part.h_in, n * H + j);
        const Pack<S, V> saved_z = fetch<S, V>(part.gates, gate + kGruZ * H);
        const Pack<S, V> saved_n = fetch<S, V>(part.gates, gate + kGruN * H);
        const bool cut = part.last == 0 && row_cuts(common, part, n, length).after;
        const Pack<A, V> dh = total_gradient(args, part, n, j, cut, gradient);
        sums.add_norm(dh);
        const Pack<A, V> z = widen(saved_z), cand = widen(saved_n), h_in = widen(saved_h);
        Pack<A, V> dz, dn, dh_in;
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const auto out =
                cell::gru_reset_before_backward(z.at[v], cand.at[v], h_in.at[v], dh.at[v]);
            dz.at[v] = out.dz;
            dn.at[v] = out.dn;
            dh_in.at[v] = out.dh_prev;
        }
        store<A>(part.in.dh_state, n * H + j, dh_in);
        store<S>(part.dgates, grad + kGruZ * H, dz);
        store<S>(part.dgates, grad + kGruN * H, dn);
        add(sums.db[0], dz);
        add(sums.db[1], dn);
    }
    reduce_block(shared, sums, to, before);
}

/// Second half of a reset-before GRU step of up to kMaxParts states, backward.
///
///   dr = drh*h_in*r*(1-r)        dh_state += drh*r        db_r += sum over n of dr
///   not valid: dr = 0, dh_state unchanged
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       drh, gates, h_in as in CellBackwardPart.
/// Out      dgates (r of [N,3*H]) written fully; dh_state, db_partials accumulated into.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run and for any alignment: sums follow the rows, then the steps.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    gru_reset_gate_backward_kernel(StepArgs<CellBackwardArgs> args) {
    using A = Acc<S>;
    using Sum = Pack<A, V>;
    const StepCommon& common = args.common;
    const CellBackwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    CAROUSEL_SHARED(Sum, shared, (kSumPacks<V, 1>));
    StepSums<A, V, 1> sums;
    SumTargets to = cell_targets<A>(part, H, kGruGates, kGruR);
    to.norm_partials = nullptr;  // the first half wrote the norm
    const auto before = fetch_sums<1, A>(to);
    for (std::int64_t n = first_row(); j < H && n < common.batch_size; n += row_stride()) {
        const std::int64_t grad = n * part.dgates_stride + kGruR * H + j, unit = n * H + j;
        if (part.t >= row_length(common, n, j)) {
            store<S>(part.dgates, grad, zero<A, V>());
            continue;
        }
        const Pack<S, V> saved_h = fetch<S, V>(part.h_in, unit);
        const Pack<S, V> saved_r = fetch<S, V>(part.gates, n * part.gates_stride + kGruR * H + j);
        const Pack<A, V> drh = fetch<A, V>(part.drh, unit);
        Pack<A, V> dh_in = fetch<A, V>(part.in.dh_state, unit), dr;
        const Pack<A, V> r = widen(saved_r), h_in = widen(saved_h);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const auto out = cell::gru_reset_gate_backward(r.at[v], h_in.at[v], drh.at[v]);
            dr.at[v] = out.dr;
            dh_in.at[v] += out.dh_prev;
        }
        store<A>(part.in.dh_state, unit, dh_in);
        store<S>(part.dgates, grad, dr);
        add(sums.db[0], dr);
    }
    reduce_block(shared, sums, to, before);
}

Launch gru_reset_before_gates(const CellForwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("gru_reset_before_gates", args, args.common.hidden_size, kMaxGridRows,
                              &gru_reset_before_gates_kernel<S, kVector<S>>,
                              &gru_reset_before_gates_kernel<S, 1>);
    });
}

Launch gru_reset_before_state(const CellForwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("gru_reset_before_state", args, args.common.hidden_size, kMaxGridRows,
                              &gru_reset_before_state_kernel<S, kVector<S>>,
                              &gru_reset_before_state_kernel<S, 1>);
    });
}

Launch gru_reset_before_backward(const CellBackwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("gru_reset_before_backward", args, args.common.hidden_size,
                              kMaxRowBlocks, &gru_reset_before_backward_kernel<S, kVector<S>>,
                              &gru_reset_before_backward_kernel<S, 1>);
    });
}

Launch gru_reset_gate_backward(const CellBackwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("gru_reset_gate_backward", args, args.common.hidden_size,
                              kMaxRowBlocks, &gru_reset_gate_backward_kernel<S, kVector<S>>,
                              &gru_reset_gate_backward_kernel<S, 1>);
    });
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
