#pragma once

// What the training layer's kernels share: element types, packs of elements, loops over flat buffers,
// reductions of a block, and the geometry of flat launches.

#include "kernels/cuda/device.cuh"

#include <cmath>

#include "kernels/cuda/nn_functions.hpp"
#include "kernels/cuda/rnn_args.hpp"

namespace carousel::CAROUSEL_KERNELS {

// --- element types: S as stored, A = Arithmetic<S> to compute in

template <class S>
struct ArithmeticOf {
    using type = float;
};
template <>
struct ArithmeticOf<double> {
    using type = double;
};
template <class S>
using Arithmetic = typename ArithmeticOf<S>::type;

__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }

template <class S>
struct Narrow;
template <>
struct Narrow<double> {
    static __device__ __forceinline__ double from(double x) { return x; }
};
template <>
struct Narrow<float> {
    static __device__ __forceinline__ float from(float x) { return x; }
};
template <>
struct Narrow<__nv_bfloat16> {
    static __device__ __forceinline__ __nv_bfloat16 from(float x) { return __float2bfloat16_rn(x); }
};
template <>
struct Narrow<__half> {
    static __device__ __forceinline__ __half from(float x) { return __float2half_rn(x); }
};
/// x rounded to S.
template <class S>
__device__ __forceinline__ S narrow(Arithmetic<S> x) {
    return Narrow<S>::from(x);
}

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float sqrt_of(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrt_of(double x) { return sqrt(x); }
__device__ __forceinline__ float fma_of(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fma_of(double a, double b, double c) { return fma(a, b, c); }

/// min(limit, max(-limit, x)); NaN stays NaN, as in the CPU's loops.
template <class A>
__device__ __forceinline__ A clamp_of(A limit, A x) {
    const A low = x < -limit ? -limit : x;
    return low > limit ? limit : low;
}

// --- packs: kVec elements that one instruction moves

/// Elements of 16 bytes, the widest load.
template <class S>
inline constexpr int kPackSize = 16 / static_cast<int>(sizeof(S));

template <class S, int kVec>
struct alignas(sizeof(S) * kVec) Pack {
    S v[kVec];
};

/// p[0 .. kVec), widened; p is aligned to the pack.
template <int kVec, class S>
__device__ __forceinline__ void load_pack(const S* p, Arithmetic<S> (&x)[kVec]) {
    const Pack<S, kVec> pack = *reinterpret_cast<const Pack<S, kVec>*>(p);
#pragma unroll
    for (int k = 0; k < kVec; ++k) x[k] = widen(pack.v[k]);
}
template <int kVec, class S>
__device__ __forceinline__ void store_pack(S* p, const Arithmetic<S> (&x)[kVec]) {
    Pack<S, kVec> pack;
#pragma unroll
    for (int k = 0; k < kVec; ++k) pack.v[k] = narrow<S>(x[k]);
    *reinterpret_cast<Pack<S, kVec>*>(p) = pack;
}

template <int kValue>
struct IntConstant {
    static constexpr int value = kValue;
};

/// Index of this thread in a launch along x, and the number of threads.
__device__ __forceinline__ std::int64_t flat_thread() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t flat_threads() {
    return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

/// body(i, IntConstant<lanes>) over [0, numel): whole packs, then single elements.
template <int kVec, class Body>
__device__ __forceinline__ void for_packs(std::int64_t numel, Body&& body) {
    const std::int64_t packs = numel / kVec;
    for (std::int64_t i = flat_thread(); i < packs; i += flat_threads()) {
        body(i * kVec, IntConstant<kVec>{});
    }
    if constexpr (kVec > 1) {
        for (std::int64_t i = packs * kVec + flat_thread(); i < numel; i += flat_threads()) {
            body(i, IntConstant<1>{});
        }
    }
}

// --- reductions in a fixed order

inline constexpr unsigned kFullWarp = 0xffffffffU;

/// Every lane gets op over the lanes' values, pairwise.
template <class T, class Op>
__device__ __forceinline__ T reduce_warp(T value, Op op) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value = op(value, __shfl_xor_sync(kFullWarp, value, distance));
    }
    return value;
}

struct Add {
    template <class T>
    __device__ __forceinline__ T operator()(T a, T b) const {
        return a + b;
    }
};
struct Max {
    template <class T>
    __device__ __forceinline__ T operator()(T a, T b) const {
        return a > b ? a : b;
    }
};

/// Every thread gets op over a block of whole warps along x; `scratch` has room for 33 values and is
/// free again on return.
template <class T, class Op>
__device__ __forceinline__ T reduce_block(T value, Op op, T* scratch) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int warp = static_cast<int>(threadIdx.x / 32);
    const int warps = static_cast<int>(blockDim.x / 32);
    value = reduce_warp(value, op);
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        T total = scratch[0];
        for (int w = 1; w < warps; ++w) total = op(total, scratch[w]);
        scratch[32] = total;
    }
    __syncthreads();
    const T total = scratch[32];
    __syncthreads();
    return total;
}

// --- host: geometry and choice of instantiation

inline constexpr unsigned kFlatBlock = 256;
/// Blocks of a flat launch: 16 per SM of the largest target. A constant, not the device's number, so
/// that launches depend on their arguments alone.
inline constexpr std::int64_t kMaxFlatBlocks = 132 * 16;

inline std::int64_t blocks_for(std::int64_t count, std::int64_t per_block) {
    return (count + per_block - 1) / per_block;
}

/// Grid of a grid-stride loop over `items` items, one per thread. At least one block.
inline Dim3 flat_grid(std::int64_t items) {
    std::int64_t blocks = blocks_for(items, kFlatBlock);
    if (blocks < 1) blocks = 1;
    if (blocks > kMaxFlatBlocks) blocks = kMaxFlatBlocks;
    return {static_cast<unsigned>(blocks), 1, 1};
}

/// True if all addresses are multiples of `bytes`. Null pointers are, and are never read.
template <class... Pointers>
bool aligned_to(std::size_t bytes, Pointers... pointers) {
    return ((reinterpret_cast<std::uintptr_t>(pointers) % bytes == 0) && ...);
}
/// True if all addresses may be read in packs of 16 bytes.
template <class... Pointers>
bool packs_fit(Pointers... pointers) {
    return aligned_to(16, pointers...);
}

template <class S>
struct TypeTag {
    using type = S;
};

/// body(TypeTag<S>) for the type that tensors of `dtype` are stored in.
template <class Body>
Launch for_dtype(DType dtype, Body&& body) {
    switch (dtype) {
        case DType::kF64:
            return body(TypeTag<double>{});
        case DType::kBf16:
            return body(TypeTag<__nv_bfloat16>{});
        case DType::kF16:
            return body(TypeTag<__half>{});
        default:  // f32, tf32
            return body(TypeTag<float>{});
    }
}

}  // namespace carousel::CAROUSEL_KERNELS
