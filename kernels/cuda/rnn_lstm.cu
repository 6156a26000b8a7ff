// One step of an LSTM, forward and backward.

#include "kernels/cell/gates.hpp"
#include "kernels/cell/lstm.hpp"
#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_launch.cuh"
#include "kernels/cuda/rnn_preact.cuh"
#include "kernels/cuda/rnn_sums.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

using cell::kLstmF;
using cell::kLstmG;
using cell::kLstmGates;
using cell::kLstmI;
using cell::kLstmO;

/// One LSTM step of up to kMaxParts states, forward.
///
///   preact = x_preact + b_ih + h_preact + b_hh        c_in = cut before the step ? 0 : c_prev
///   i = s(preact_i)  f = s(preact_f)  g = tanh(preact_g)  o = s(preact_o)
///   c = f*c_in + i*g        h = o*tanh(c)
///   with projection: aux = h; else h to h_next, y, y_out, hy
///   not valid: c = c_prev, h_next = hy = h_in, everything else 0
///
/// Dims     N = batch_size, H = hidden_size, G = 4; row-major, last index fastest.
/// In       x_preact, h_preact, b_ih, b_hh, h_in, c_prev as in CellForwardPart; x_preact may be the
///          memory of gates, c_prev that of c, h_in that of h_next.
/// Out      c, cy, c_out, gates, gates_out, aux, h_next, y, y_out, hy; those given, written fully but
///          for gates, which keep what they were where the row is not valid.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run; no thread reads what another writes.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    lstm_forward_kernel(StepArgs<CellForwardArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const CellForwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    if (j >= H) return;
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const std::int64_t unit = n * H + j;
        const std::int64_t length = row_length(common, n, j);
        const bool valid = part.t < length;
        Pack<A, V> c = fetch<A, V>(part.c_prev, unit), h = zero<A, V>();
        Preacts<S, V, kLstmGates> preacts = {};
        Pack<S, V> h_in = {};
        if (valid) {
            preacts.fetch_all(part, H, n, j);
        } else if (part.aux == nullptr) {
            h_in = fetch<S, V>(part.h_in, unit);
        }
        const Cuts cuts = row_cuts(common, part, n, length);
        Pack<A, V> gates[kLstmGates] = {};
        if (valid) {
            if (cuts.before) c = zero<A, V>();
            for (int g = 0; g < kLstmGates; ++g) gates[g] = preacts.both(g);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const auto out =
                    cell::lstm_forward(gates[kLstmI].at[v], gates[kLstmF].at[v],
                                       gates[kLstmG].at[v], gates[kLstmO].at[v], c.at[v]);
                gates[kLstmI].at[v] = out.i;
                gates[kLstmF].at[v] = out.f;
                gates[kLstmG].at[v] = out.g;
                gates[kLstmO].at[v] = out.o;
                c.at[v] = out.c;
                h.at[v] = out.h;
            }
        } else {
            h = widen(h_in);
        }
        if (part.aux != nullptr) {
            store<S>(part.aux, unit, h);
        } else {
            store_state<S>(args, part, n, j, valid, cuts.after, h);
        }
        store<A>(part.c, unit, c);
        store<A>(part.cy, unit, c);
        store<A>(part.c_out, unit, valid ? c : zero<A, V>());
        for (int g = 0; g < kLstmGates; ++g)
            store_gate<S>(part, kLstmGates, H, n, j, g, valid, gates[g]);
    }
}

/// One LSTM step of up to kMaxParts states, backward.
///
///   dh = dy*dropout + (cut after ? 0 : dh_state), or given        dc = cut after ? 0 : dc
///   do = dh*tanh(c)*o*(1-o)        dc += dh*o*(1-tanh(c)^2)
///   di = dc*g*i*(1-i)   df = dc*c_in*f*(1-f)   dg = dc*i*(1-g^2)
///   dc = dc*f        dh_state = 0        db += sum over n of (di,df,dg,do)
///   not valid: dgates = 0, dc and dh_state unchanged
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       dy, gates, c_prev, c, dh as in CellBackwardPart.
/// Out      dgates written fully; dc, dh_state in and out; db_partials accumulated into;
///          norm_partials written fully.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run and for any alignment: sums follow the rows, then the steps.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    lstm_backward_kernel(StepArgs<CellBackwardArgs> args) {
    using A = Acc<S>;
    using Sum = Pack<A, V>;
    const StepCommon& common = args.common;
    const CellBackwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    CAROUSEL_SHARED(Sum, shared, (kSumPacks<V, kLstmGates>));
    StepSums<A, V, kLstmGates> sums;
    const SumTargets to = cell_targets<A>(part, H, kLstmGates);
    const auto before = fetch_sums<kLstmGates, A>(to);
    for (std::int64_t n = first_row(); j < H && n < common.batch_size; n += row_stride()) {
        const std::int64_t unit = n * H + j;
        const std::int64_t length = row_length(common, n, j);
        if (part.t >= length) {
            for (int g = 0; g < kLstmGates; ++g)
                store<S>(part.dgates, n * part.dgates_stride + g * H + j, zero<A, V>());
            continue;
        }
        const bool projected = part.dh != nullptr;
        GradientIn<S, V> gradient = {};
        Pack<A, V> dh = fetch<A, V>(part.dh, unit);
        if (!projected) gradient = fetch_gradient<S, V>(common, part.in, n, j);
        Pack<A, V> dc = fetch<A, V>(part.dc, unit);
        Pack<A, V> c_in = fetch<A, V>(part.c_prev, unit);
        const Pack<A, V> c = fetch<A, V>(part.c, unit);
        Pack<S, V> saved[kLstmGates];
        for (int g = 0; g < kLstmGates; ++g)
            saved[g] = fetch<S, V>(part.gates, n * part.gates_stride + g * H + j);
        const Cuts cuts = row_cuts(common, part, n, length);
        const bool cut_after = part.last == 0 && cuts.after;
        if (!projected) {
            dh = total_gradient(args, part, n, j, cut_after, gradient);
            sums.add_norm(dh);
            store<A>(part.in.dh_state, unit, zero<A, V>());
        }
        if (cut_after) dc = zero<A, V>();
        if (cuts.before) c_in = zero<A, V>();
        Pack<A, V> dgates[kLstmGates];
        for (int g = 0; g < kLstmGates; ++g) dgates[g] = widen(saved[g]);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const auto out = cell::lstm_backward(dgates[kLstmI].at[v], dgates[kLstmF].at[v],
                                                 dgates[kLstmG].at[v], dgates[kLstmO].at[v],
                                                 c_in.at[v], c.at[v], dh.at[v], dc.at[v]);
            dgates[kLstmI].at[v] = out.di;
            dgates[kLstmF].at[v] = out.df;
            dgates[kLstmG].at[v] = out.dg;
            dgates[kLstmO].at[v] = out.d_o;
            dc.at[v] = out.dc_prev;
        }
        store<A>(part.dc, unit, dc);
        for (int g = 0; g < kLstmGates; ++g) {
            store<S>(part.dgates, n * part.dgates_stride + g * H + j, dgates[g]);
            add(sums.db[g], dgates[g]);
        }
    }
    reduce_block(shared, sums, to, before);
}

Launch lstm_forward(const CellForwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("lstm_forward", args, args.common.hidden_size, kMaxGridRows,
                              &lstm_forward_kernel<S, kVector<S>>, &lstm_forward_kernel<S, 1>);
    });
}

Launch lstm_backward(const CellBackwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("lstm_backward", args, args.common.hidden_size, kMaxRowBlocks,
                              &lstm_backward_kernel<S, kVector<S>>, &lstm_backward_kernel<S, 1>);
    });
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
