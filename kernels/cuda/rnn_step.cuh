#pragma once

// What the kernels of one recurrent step share: vectors of units, time rules, dropout, and the ways
// in which a new state leaves and a gradient arrives. Semantics: kernels/cuda/rnn_args.hpp.

#include "kernels/cuda/device.cuh"

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/kernel_table.hpp"
#include "kernels/cuda/nn_philox.cuh"
#include "kernels/cuda/rnn_geometry.hpp"

namespace carousel::CAROUSEL_KERNELS::rnn {

using namespace carousel::cuda;  // NOLINT(google-build-using-namespace)

/// A: the type of sums, cell states and gradients of states beside storage type S.
template <class S>
using Acc = std::conditional_t<std::is_same_v<S, double>, double, float>;

/// Units per thread where everything is aligned: 16 bytes of A.
template <class S>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(Acc<S>));

/// V neighbouring values, loaded and stored by one instruction.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }

template <class S>
__device__ __forceinline__ S narrow(Acc<S> x) {
    if constexpr (std::is_same_v<S, __nv_bfloat16>) {
        return __float2bfloat16_rn(x);
    } else if constexpr (std::is_same_v<S, __half>) {
        return __float2half_rn(x);
    } else {
        return x;
    }
}

// Loads and stores of a whole vector in global memory. An assignment would do, but nvcc takes a store
// apart where it knows enough of the index to compute the elements' addresses with `or`; an intrinsic
// stays whole. It names L2, where the next kernel looks for what other multiprocessors have written.

template <class S>
__device__ __forceinline__ void write(S* to, const Pack<S, 1>& pack) {
    *to = pack.at[0];
}
__device__ __forceinline__ void write(double* to, const Pack<double, 2>& pack) {
    __stcg(reinterpret_cast<double2*>(to), make_double2(pack.at[0], pack.at[1]));
}
__device__ __forceinline__ void write(float* to, const Pack<float, 4>& pack) {
    __stcg(reinterpret_cast<float4*>(to),
           make_float4(pack.at[0], pack.at[1], pack.at[2], pack.at[3]));
}
__device__ __forceinline__ void write(__nv_bfloat16* to, const Pack<__nv_bfloat16, 4>& pack) {
    __stcg(reinterpret_cast<ushort4*>(to),
           make_ushort4(__bfloat16_as_ushort(pack.at[0]), __bfloat16_as_ushort(pack.at[1]),
                        __bfloat16_as_ushort(pack.at[2]), __bfloat16_as_ushort(pack.at[3])));
}
__device__ __forceinline__ void write(__half* to, const Pack<__half, 4>& pack) {
    __stcg(reinterpret_cast<ushort4*>(to),
           make_ushort4(__half_as_ushort(pack.at[0]), __half_as_ushort(pack.at[1]),
                        __half_as_ushort(pack.at[2]), __half_as_ushort(pack.at[3])));
}

template <class S>
__device__ __forceinline__ void read(const S* from, Pack<S, 1>& pack) {
    pack.at[0] = *from;
}
__device__ __forceinline__ void read(const double* from, Pack<double, 2>& pack) {
    const double2 raw = *reinterpret_cast<const double2*>(from);
    pack = {{raw.x, raw.y}};
}
__device__ __forceinline__ void read(const float* from, Pack<float, 4>& pack) {
    const float4 raw = *reinterpret_cast<const float4*>(from);
    pack = {{raw.x, raw.y, raw.z, raw.w}};
}
__device__ __forceinline__ void read(const __nv_bfloat16* from, Pack<__nv_bfloat16, 4>& pack) {
    const ushort4 raw = *reinterpret_cast<const ushort4*>(from);
    pack = {{__ushort_as_bfloat16(raw.x), __ushort_as_bfloat16(raw.y), __ushort_as_bfloat16(raw.z),
             __ushort_as_bfloat16(raw.w)}};
}
__device__ __forceinline__ void read(const __half* from, Pack<__half, 4>& pack) {
    const ushort4 raw = *reinterpret_cast<const ushort4*>(from);
    pack = {{__ushort_as_half(raw.x), __ushort_as_half(raw.y), __ushort_as_half(raw.z),
             __ushort_as_half(raw.w)}};
}

template <class A, int V>
__device__ __forceinline__ Pack<A, V> zero() {
    Pack<A, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out.at[v] = A(0);
    return out;
}

/// Elements [at, at + V) of a tensor of S as they are stored; zeros for an absent tensor.
///
/// Kernels fetch all they need before they compute with any of it, so that a step waits for memory
/// once: arithmetic, and a conversion is some, would hold back the loads that follow it.
template <class S, int V>
__device__ __forceinline__ Pack<S, V> fetch(const void* base, std::int64_t at) {
    Pack<S, V> raw = {};
    if (base != nullptr) read(static_cast<const S*>(base) + at, raw);
    return raw;
}

template <class S, int V>
__device__ __forceinline__ Pack<Acc<S>, V> widen(const Pack<S, V>& raw) {
    Pack<Acc<S>, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out.at[v] = widen(raw.at[v]);
    return out;
}

/// Nothing where the tensor is absent.
template <class S, int V>
__device__ __forceinline__ void store(void* base, std::int64_t at, const Pack<Acc<S>, V>& values) {
    if (base == nullptr) return;
    Pack<S, V> raw;
#pragma unroll
    for (int v = 0; v < V; ++v) raw.at[v] = narrow<S>(values.at[v]);
    write(static_cast<S*>(base) + at, raw);
}

template <class A, int V>
__device__ __forceinline__ void add(Pack<A, V>& sum, const Pack<A, V>& term) {
#pragma unroll
    for (int v = 0; v < V; ++v) sum.at[v] += term.at[v];
}

/// The values that a tensor of S can hold: what the next step or the other launch would read back.
template <class S, int V>
__device__ __forceinline__ void round_to(Pack<Acc<S>, V>& values) {
#pragma unroll
    for (int v = 0; v < V; ++v) values.at[v] = widen(narrow<S>(values.at[v]));
}

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
