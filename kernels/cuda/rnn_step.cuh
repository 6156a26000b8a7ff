#pragma once

// What the kernels of one recurrent step share: place in the grid, time rules, dropout, and the ways in
// which a new state leaves and a gradient arrives. Semantics: kernels/cuda/rnn_args.hpp.

#include "kernels/cuda/device.cuh"

#include <cstdint>

#include "kernels/cuda/kernel_table.hpp"
#include "kernels/cuda/nn_philox.cuh"
#include "kernels/cuda/rnn_geometry.hpp"
#include "kernels/cuda/rnn_pack.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

using namespace carousel::cuda;  // NOLINT(google-build-using-namespace)

// Position in the grid of step_geometry.

template <int V>
__device__ __forceinline__ std::int64_t first_unit() {
    return static_cast<std::int64_t>(blockIdx.x) * kStepUnits + static_cast<int>(threadIdx.x) * V;
}
__device__ __forceinline__ std::int64_t first_row() {
    return static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
}
__device__ __forceinline__ std::int64_t row_stride() {
    return static_cast<std::int64_t>(gridDim.y) * blockDim.y;
}

/// One thread of each part of a launch.
__device__ __forceinline__ bool is_first_of_part() {
    return (blockIdx.x | blockIdx.y | threadIdx.x | threadIdx.y) == 0;
}

// Time rules.

/// len(n). A length outside [0, T] is clamped, and the thread of the row's first unit reports it.
__device__ __forceinline__ std::int64_t row_length(const StepCommon& common, std::int64_t n,
                                                   std::int64_t unit) {
    if (common.lengths == nullptr) return common.seq_len;
    const std::int64_t length = common.lengths[n];
    if (length >= 0 && length <= common.seq_len) return length;
    if (unit == 0 && common.status != nullptr) {
        atomicOr(common.status, static_cast<unsigned>(kStatusLength));
    }
    return length < 0 ? 0 : common.seq_len;
}

/// Whether the state is zero across the boundaries before and after a step, in the order of the
/// forward walk. `after` has no meaning at the walk's last step.
struct Cuts {
    bool before = false, after = false;
};

template <class Part>
__device__ __forceinline__ Cuts row_cuts(const StepCommon& common, const Part& part, std::int64_t n,
                                         std::int64_t length) {
    if (common.reset == nullptr) return {};
    const auto cut_at = [&](std::int64_t t) {  // between steps t-1 and t of the data
        return t < length && common.reset[t * common.batch_size + n] != 0;
    };
    const bool earlier = cut_at(part.t), later = cut_at(part.t + 1);
    return part.reverse != 0 ? Cuts{later, earlier} : Cuts{earlier, later};
}

// Dropout.

/// What the launcher works out of the probability.
struct DropoutScale {
    double keep = 1.0;            ///< 1/(1-p)
    std::uint64_t threshold = 0;  ///< p * 2^32
};

/// Arguments of a step as its kernel takes them.
template <class Args>
struct StepArgs : Args {
    DropoutScale scale;
};

/// Multipliers, 0 or 1/(1-p), of elements [element, element + V) of [T,N,D*O]; `element` is a multiple
/// of V, so that one draw of four words has them all.
///
/// Source   the draw of src/backend/dropout_mask.hpp: word e%4 of Philox4x32-10 at counter e/4.
template <class A, int V>
__device__ __forceinline__ Pack<A, V> dropout_multiplier(const StepCommon& common,
                                                         const DropoutScale& scale,
                                                         std::uint32_t layer,
                                                         std::int64_t element) {
    const PhiloxWords drawn = dropout_words(common.dropout_key[0], common.dropout_key[1], layer,
                                            static_cast<std::uint64_t>(element) / 4);
    // Word e%4 + v by two conditional moves: an array indexed at run time would live in memory.
    const bool odd = element % 2 != 0, upper = element % 4 >= 2;
    Pack<A, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) {
        std::uint32_t word = drawn.w[v];
        if constexpr (V <= 2) word = upper ? drawn.w[v + 2] : word;
        if constexpr (V == 1) word = odd ? (upper ? drawn.w[3] : drawn.w[1]) : word;
        out.at[v] = word < scale.threshold ? A(0) : static_cast<A>(scale.keep);
    }
    return out;
}

// State out, gradient in. `j` is the first of the thread's V columns of O.

/// The state after a step to where the step wants it: h where the row is valid, else what it was.
template <class S, int V, class Args, class Part>
__device__ __forceinline__ void store_state(const StepArgs<Args>& args, const Part& part,
                                            std::int64_t n, std::int64_t j, bool valid,
                                            bool cut_after, const Pack<Acc<S>, V>& state) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const StateOut& out = part.out;
    const std::int64_t at = n * common.output_size + j;
    store<S>(out.hy, at, state);
    store<S>(out.h_next, at, cut_after ? zero<A, V>() : state);
    Pack<A, V> y = valid ? state : zero<A, V>();
    store<S>(out.y_out, n * out.y_out_stride + j, y);
    if (out.y == nullptr) return;
    if (out.drops != 0 && valid) {
        round_to<S>(y);  // as if the mask were applied to a stored y
        const Pack<A, V> multiplier = dropout_multiplier<A, V>(
            common, args.scale, out.mask_layer,
            (part.t * common.batch_size + n) * common.y_columns + out.mask_column + j);
#pragma unroll
        for (int v = 0; v < V; ++v) y.at[v] *= multiplier.at[v];
    }
    store<S>(out.y, n * out.y_stride + j, y);
}

/// What a step's gradient is made of, fetched.
template <class S, int V>
struct GradientIn {
    Pack<S, V> dy;
    Pack<Acc<S>, V> dh_state;
};

/// For a valid row only: dy of others is not the library's to read.
template <class S, int V>
__device__ __forceinline__ GradientIn<S, V> fetch_gradient(const StepCommon& common,
                                                           const GradIn& in, std::int64_t n,
                                                           std::int64_t j) {
    return {fetch<S, V>(in.dy, n * in.dy_stride + j),
            fetch<Acc<S>, V>(in.dh_state, n * common.output_size + j)};
}

/// dL/dh_t: dy*dropout + (cut after the step ? 0 : dh_state).
template <class S, int V, class Args, class Part>
__device__ __forceinline__ Pack<Acc<S>, V> total_gradient(const StepArgs<Args>& args,
                                                          const Part& part, std::int64_t n,
                                                          std::int64_t j, bool cut_after,
                                                          const GradientIn<S, V>& raw) {
    using A = Acc<S>;
    const StepCommon& common = args.common;
    const GradIn& in = part.in;
    Pack<A, V> dy = widen(raw.dy);
    if (in.drops != 0 && in.dy != nullptr) {
        const Pack<A, V> multiplier = dropout_multiplier<A, V>(
            common, args.scale, in.mask_layer,
            (part.t * common.batch_size + n) * common.y_columns + in.mask_column + j);
#pragma unroll
        for (int v = 0; v < V; ++v) dy.at[v] *= multiplier.at[v];
    }
    if (!cut_after) add(dy, raw.dh_state);
    return dy;
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
