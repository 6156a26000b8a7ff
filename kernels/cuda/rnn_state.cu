// Where state and its gradient enter and leave a walk; rows and keys that are copied on the device.

#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_launch.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

/// A dropout key into device memory, from device memory if `from` is given.
__global__ void set_key_kernel(SetKeyArgs args) {
    args.to[0] = args.from != nullptr ? args.from[0] : args.seed;
    args.to[1] = args.from != nullptr ? args.from[1] : args.step;
}

/// The state that the first step of a walk reads, of up to kMaxParts states.
///
///   h_in = cut before the first step ? 0 : hx
///
/// Dims     N = batch_size, O = output_size; row-major, last index fastest.
/// In       hx [N,O] S; null = zero.
/// Out      h_in [N,O] S, written fully; stamp, where given.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    state_in_kernel(StepArgs<StateInArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const StateInPart part = args.parts[blockIdx.z];
    const std::int64_t O = common.output_size, j = first_unit<V>();
    if (part.stamp != nullptr && is_first_of_part()) *part.stamp = part.stamp_value;
    if (j >= O) return;
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const Pack<S, V> hx = fetch<S, V>(part.hx, n * O + j);
        const bool cut = row_cuts(common, part, n, row_length(common, n, j)).before;
        store<S>(part.h_in, n * O + j, cut ? zero<A, V>() : widen(hx));
    }
}

/// Gradients of the states after a walk, where its backward pass begins, of up to kMaxParts states.
///
///   dh_state = dhy        dc = dcy
///
/// Dims     N = batch_size, O = output_size, H = hidden_size; row-major, last index fastest.
/// In       dhy [N,O] S, dcy [N,H] A; null = zero. stamp, where given: of the reserve.
/// Out      dh_state [N,O] A, dc [N,H] A; those given, written fully. The status word, if the stamp is
///          not this pass's: nothing was saved for it, and what follows has no meaning.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    state_grad_begin_kernel(StepArgs<StateGradArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const StateGradPart part = args.parts[blockIdx.z];
    const std::int64_t O = common.output_size, H = common.hidden_size, j = first_unit<V>();
    if (part.stamp != nullptr && is_first_of_part() && *part.stamp != part.stamp_value) {
        atomicOr(common.status, static_cast<unsigned>(kStatusReserve));
    }
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        if (j < O) store<A>(part.dh_state, n * O + j, widen(fetch<S, V>(part.dhy, n * O + j)));
        if (j < H) store<A>(part.dc, n * H + j, fetch<A, V>(part.dcy, n * H + j));
    }
}

/// Gradients of the states before a walk, where its backward pass ends, of up to kMaxParts states.
///
///   dhx = cut before the first step ? 0 : dh_state        dcx = cut before it ? 0 : dc
///
/// Dims     N = batch_size, O = output_size, H = hidden_size; row-major, last index fastest.
/// In       dh_state [N,O] A, dc [N,H] A.
/// Out      dhx [N,O] S, dcx [N,H] A; those given, written fully.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    state_grad_end_kernel(StepArgs<StateGradArgs> args) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const StateGradPart part = args.parts[blockIdx.z];
    const std::int64_t O = common.output_size, H = common.hidden_size, j = first_unit<V>();
    for (std::int64_t n = first_row(); n < common.batch_size; n += row_stride()) {
        const bool cut = row_cuts(common, part, n, row_length(common, n, j)).before;
        if (j < O && part.dhx != nullptr) {
            const Pack<A, V> dh = fetch<A, V>(part.dh_state, n * O + j);
            store<S>(part.dhx, n * O + j, cut ? zero<A, V>() : dh);
        }
        if (j < H && part.dcx != nullptr) {
            const Pack<A, V> dc = fetch<A, V>(part.dc, n * H + j);
            store<A>(part.dcx, n * H + j, cut ? zero<A, V>() : dc);
        }
    }
}

/// Rows of a sequence tensor with zeros beyond each sequence's end: operands of weight gradients,
/// where a row that is not valid may hold anything, and 0 * NaN would not be 0.
///
///   out[s,n,:] = t_begin + s < len(n) ? x[t_begin + s,n,:] : 0
///
/// Dims     N = batch_size; x by strides in elements, out dense [steps,N,columns].
/// In       x S, not read where not valid; lengths [N] or null.
/// Out      out S, written fully.
template <class S, int V>
__global__ void __launch_bounds__(kMaxStepThreads<V>, kMinStepBlocks<V>)
    masked_rows_kernel(MaskedRowsArgs args) {
    const std::int64_t N = args.batch_size, j = first_unit<V>();
    if (j >= args.columns) return;
    for (std::int64_t row = first_row(); row < args.steps * N; row += row_stride()) {
        const std::int64_t n = row % N, t = args.t_begin + row / N;
        // A length below 0 or above seq_len masks like the bound it is clamped to.
        const bool valid = args.lengths == nullptr || t < args.lengths[n];
        Pack<S, V> x = {};
        if (valid) x = fetch<S, V>(args.x, t * args.stride_t + n * args.stride_n + j);
        write(static_cast<S*>(args.out) + row * args.columns + j, x);
    }
}

Launch set_key(const SetKeyArgs& args) {
    return make_launch("set_key", &set_key_kernel, args, Dim3{}, Dim3{});
}

Launch state_in(const StateInArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("state_in", args, args.common.output_size, kMaxGridRows,
                              &state_in_kernel<S, kVector<S>>, &state_in_kernel<S, 1>);
    });
}

Launch state_grad_begin(const StateGradArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("state_grad_begin", args, args.common.hidden_size, kMaxGridRows,
                              &state_grad_begin_kernel<S, kVector<S>>,
                              &state_grad_begin_kernel<S, 1>, args.common.output_size);
    });
}

Launch state_grad_end(const StateGradArgs& args) {
    return with_storage(args.common.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        return step_launch<S>("state_grad_end", args, args.common.hidden_size, kMaxGridRows,
                              &state_grad_end_kernel<S, kVector<S>>, &state_grad_end_kernel<S, 1>,
                              args.common.output_size);
    });
}

Launch masked_rows(const MaskedRowsArgs& args) {
    return with_storage(args.dtype, [&](auto storage) {
        using S = typename decltype(storage)::type;
        Alignment<S> alignment(args.columns);
        alignment.rows(args.x, args.stride_t).rows(args.x, args.stride_n).tensor(args.out);
        const int vector = alignment.whole() ? kVector<S> : 1;
        const StepGeometry geometry =
            step_geometry(args.steps * args.batch_size, args.columns, vector, kMaxGridRows);
        return make_launch(
            "masked_rows",
            vector > 1 ? &masked_rows_kernel<S, kVector<S>> : &masked_rows_kernel<S, 1>, args,
            Dim3{static_cast<unsigned>(geometry.column_blocks),
                 static_cast<unsigned>(geometry.row_blocks), 1},
            Dim3{geometry.block_x, geometry.block_y, 1});
    });
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
