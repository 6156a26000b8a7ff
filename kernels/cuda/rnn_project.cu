// The projection of an LSTM's hidden state: what follows its product forward and precedes it backward.

#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_launch.cuh"
#include "kernels/cuda/rnn_sums.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

/// Projected hidden state of one step of up to kMaxParts states.
///
///   h = projected, to h_next, y, y_out, hy
///   not valid: h_next = hy = h_in, y = y_out = 0
///
/// Dims     N = batch_size, O = proj_size; row-major, last index fastest.
/// In       projected [N,O] A; h_in [N,O] S, may be the memory of h_next.
/// Out      h_next, y, y_out, hy; those given, written fully.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run; no thread reads what another writes.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    project_forward_kernel(StepArgs<ProjectForwardArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const ProjectForwardPart part = args.parts[blockIdx.z];
    const std::int64_t O = common.output_size, j = first_unit<V>();
    if (j >= O) return;
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        const bool valid = part.t < length;
        const Pack<A, V> state = valid ? fetch<A, V>(part.projected, n * O + j)
                                       : widen(fetch<S, V>(part.h_in, n * O + j));
        const Cuts cuts = row_cuts(common, part, n, length);
        store_state<S>(args, part, n, j, valid, cuts.after, state);
    }
}

/// Gradient of the projected hidden state of one step of up to kMaxParts states.
///
///   dp = dy*dropout + (cut after ? 0 : dh_state)        dh_state = 0
///   not valid: dp = 0, dh_state unchanged
///
/// Dims     N = batch_size, O = proj_size; row-major, last index fastest.
/// In       dy [N,O] S.
/// Out      dp [N,O] S, written fully; dh_state in and out; norm_partials written fully.
/// Units    sizes and strides in elements.
/// Repeat   bitwise equal run to run and for any alignment: sums follow the rows.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    project_backward_kernel(StepArgs<ProjectBackwardArgs> args) {
    using A = Acc<S>;
    using Sum = Pack<A, V>;
    const StepCommon& common = args.common;
    const ProjectBackwardPart part = args.parts[blockIdx.z];
    const std::int64_t O = common.output_size, j = first_unit<V>();
    CAROUSEL_SHARED(Sum, shared, (kSumPacks<V, 0>));
    StepSums<A, V, 0> sums;
    for (std::int64_t n = first_row(); j < O && n < common.batch_size; n += row_stride()) {
        const std::int64_t length = row_length(common, n, j);
        Pack<A, V> dp = zero<A, V>();
        if (part.t < length) {
            const GradientIn<S, V> gradient = fetch_gradient<S, V>(common, part.in, n, j);
            const bool cut = part.last == 0 && row_cuts(common, part, n, length).after;
            dp = total_gradient(args, part, n, j, cut, gradient);
            sums.add_norm(dp);
            store<A>(part.in.dh_state, n * O + j, zero<A, V>());
        }
        store<S>(part.dp, n * O + j, dp);
    }
    SumTargets to;
    to.norm_partials = part.in.norm_partials;
    reduce_block(shared, sums, to, {});
}

Launch project_forward(const ProjectForwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("project_forward", args, args.common.output_size, kMaxGridRows,
                              &project_forward_kernel<S, kVector<S>>,
                              &project_forward_kernel<S, 1>);
    });
}

Launch project_backward(const ProjectBackwardArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("project_backward", args, args.common.output_size, kMaxRowBlocks,
                              &project_backward_kernel<S, kVector<S>>,
                              &project_backward_kernel<S, 1>);
    });
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
