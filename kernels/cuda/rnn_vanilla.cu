// One step of a vanilla (Elman) layer, forward and backward, with tanh or ReLU.

#include "kernels/cell/vanilla.hpp"
#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_launch.cuh"
#include "kernels/cuda/rnn_preact.cuh"
#include "kernels/cuda/rnn_sums.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

using cell::ReluActivation;
using cell::TanhActivation;

/// One vanilla step of up to kMaxParts states, forward.
///
///   h = act(x_preact + b_ih + h_preact + b_hh), to h_next, y, y_out, hy; the saved gate is h
///   not valid: h_next = hy = h_in, y = y_out = gates_out = 0
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       x_preact, h_preact, b_ih, b_hh, h_in as in CellForwardPart; x_preact may be the memory of
///          gates, h_in that of h_next.
/// Out      gates (left alone where not valid), gates_out, h_next, y, y_out, hy; those given.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run; no thread reads what another writes.
template <class Activation, class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    vanilla_forward_kernel(StepArgs<CellForwardArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const CellForwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    if (j >= H) return;
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        const bool valid = part.t < length;
        Preacts<S, V, 1> preact = {};
        Pack<S, V> h_in = {};
        if (valid) {
            preact.fetch_all(part, H, n, j);
        } else {
            h_in = fetch<S, V>(part.h_in, n * H + j);
        }
        const Cuts cuts = row_cuts(common, part, n, length);
        Pack<A, V> h = widen(h_in);
        if (valid) {
            h = preact.both(0);
            for (int v = 0; v < V; ++v) h.at[v] = cell::vanilla_forward<Activation>(h.at[v]);
        }
        store_state<S>(args, part, n, j, valid, cuts.after, h);
        store_gate<S>(part, 1, H, n, j, 0, valid, h);
    }
}

/// One vanilla step of up to kMaxParts states, backward.
///
///   dh = dy*dropout + (cut after ? 0 : dh_state)        dgate = dh*act'(h)
///   dh_state = 0        db += sum over n of dgate
///   not valid: dgates = 0, dh_state unchanged
///
/// Dims     N = batch_size, H = hidden_size; row-major, last index fastest.
/// In       dy, gates as in CellBackwardPart.
/// Out      dgates [N,H] written fully; dh_state in and out; db_partials accumulated into;
///          norm_partials written fully.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run and for any alignment: sums follow the rows, then the steps.
template <class Activation, class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    vanilla_backward_kernel(StepArgs<CellBackwardArgs> args) {
    using A = Acc<S>;
    using Sum = Pack<A, V>;
    const StepCommon& common = args.common;
    const CellBackwardPart part = args.parts[blockIdx.z];
    const std::int64_t H = common.hidden_size, j = first_unit<V>();
    CAROUSEL_SHARED(Sum, shared, (kSumPacks<V, 1>));
    StepSums<A, V, 1> sums;
    const SumTargets to = cell_targets<A>(part, H, 1);
    const auto before = fetch_sums<1, A>(to);
    for (std::int64_t n = first_row(); j < H && n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        const std::int64_t grad = n * part.dgates_stride + j;
        if (part.t >= length) {
            store<S>(part.dgates, grad, zero<A, V>());
            continue;
        }
        const GradientIn<S, V> gradient = fetch_gradient<S, V>(common, part.in, n, j);
        const Pack<S, V> saved = fetch<S, V>(part.gates, n * part.gates_stride + j);
        const bool cut = part.last == 0 && row_cuts(common, part, n, length).after;
        Pack<A, V> dh = total_gradient(args, part, n, j, cut, gradient);
        sums.add_norm(dh);
        const Pack<A, V> h = widen(saved);
        for (int v = 0; v < V; ++v)
            dh.at[v] = cell::vanilla_backward<Activation>(h.at[v], dh.at[v]);
        store<A>(part.in.dh_state, n * H + j, zero<A, V>());
        store<S>(part.dgates, grad, dh);
        add(sums.db[0], dh);
    }
    reduce_block(shared, sums, to, before);
}

namespace {

template <class Activation>
Launch forward_with(const char* name, const CellForwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>(name, args, args.common.hidden_size, kMaxGridRows,
                              &vanilla_forward_kernel<Activation, S, kVector<S>>,
                              &vanilla_forward_kernel<Activation, S, 1>);
    });
}

template <class Activation>
Launch backward_with(const char* name, const CellBackwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>(name, args, args.common.hidden_size, kMaxRowBlocks,
                              &vanilla_backward_kernel<Activation, S, kVector<S>>,
                              &vanilla_backward_kernel<Activation, S, 1>);
    });
}

}  // namespace

Launch vanilla_forward(const CellForwardArgs& args) {
    return args.common.cell == Cell::kRnnRelu
               ? forward_with<ReluActivation>("rnn_relu_forward", args)
               : forward_with<TanhActivation>("rnn_tanh_forward", args);
}

Launch vanilla_backward(const CellBackwardArgs& args) {
    return args.common.cell == Cell::kRnnRelu
               ? backward_with<ReluActivation>("rnn_relu_backward", args)
               : backward_with<TanhActivation>("rnn_tanh_backward", args);
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
