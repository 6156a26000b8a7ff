#pragma once

// Vectors of neighbouring units: storage type S, arithmetic in A, one memory access for all of them.

#include "kernels/cuda/device.cuh"

#include <cstdint>
#include <type_traits>

namespace carousel::CAROUSEL_KERNELS::rnn {

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
template <class T>
concept TwoBytes = sizeof(T) == 2;
/// Four values of 16 bits stay in the two registers that a load fills. Taken apart there, each would
/// need a register and an instruction, and that waits for the data: later loads with it.
template <TwoBytes T>
struct alignas(8) Pack<T, 4> {
    std::uint32_t words[2];
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

__device__ __forceinline__ unsigned short to_bits(__nv_bfloat16 x) {
    return __bfloat16_as_ushort(x);
}
__device__ __forceinline__ unsigned short to_bits(__half x) { return __half_as_ushort(x); }
template <class S>
__device__ __forceinline__ S from_bits(unsigned short bits) {
    if constexpr (std::is_same_v<S, __nv_bfloat16>) {
        return __ushort_as_bfloat16(bits);
    } else {
        return __ushort_as_half(bits);
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
template <TwoBytes S>
__device__ __forceinline__ void write(S* to, const Pack<S, 4>& pack) {
    __stcg(reinterpret_cast<uint2*>(to), make_uint2(pack.words[0], pack.words[1]));
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
template <TwoBytes S>
__device__ __forceinline__ void read(const S* from, Pack<S, 4>& pack) {
    const uint2 raw = *reinterpret_cast<const uint2*>(from);
    pack.words[0] = raw.x;
    pack.words[1] = raw.y;
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
    for (int v = 0; v < V; ++v) {
        if constexpr (TwoBytes<S> && V == 4) {
            out.at[v] =
                widen(from_bits<S>(static_cast<unsigned short>(raw.words[v / 2] >> v % 2 * 16)));
        } else {
            out.at[v] = widen(raw.at[v]);
        }
    }
    return out;
}

/// Nothing where the tensor is absent.
template <class S, int V>
__device__ __forceinline__ void store(void* base, std::int64_t at, const Pack<Acc<S>, V>& values) {
    if (base == nullptr) return;
    Pack<S, V> raw;
    if constexpr (TwoBytes<S> && V == 4) {
#pragma unroll
        for (int v = 0; v < V; v += 2) {
            raw.words[v / 2] = to_bits(narrow<S>(values.at[v])) |
                               std::uint32_t{to_bits(narrow<S>(values.at[v + 1]))} << 16;
        }
    } else {
#pragma unroll
        for (int v = 0; v < V; ++v) raw.at[v] = narrow<S>(values.at[v]);
    }
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

}  // namespace carousel::CAROUSEL_KERNELS::rnn
