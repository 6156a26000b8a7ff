#pragma once

// The device language for the C++ compiler: included by kernels/cuda/device.cuh under CAROUSEL_SIMT.
// Only what the kernels use, with CUDA's own names and meaning; what a card leaves undefined (the
// value of a lane that is not there, memory never written) is a NaN or a fault here. CUDA's vector and
// half-precision types, which any C++ compiler reads, come from device.cuh.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "simt/device_runtime.hpp"

#undef __launch_bounds__
#undef __global__
#undef __shared__
#define __launch_bounds__(...)
#define __global__
#define __shared__ shared_arrays_are_declared_with_CAROUSEL_SHARED
#ifndef __restrict__
#define __restrict__ __restrict
#endif

#define CAROUSEL_SHARED(type, name, count)                                             \
    static constexpr char name##_shared_key = 0;                                       \
    type(&name)[count] = *static_cast<type(*)[count]>(::carousel::simt::static_shared( \
        &name##_shared_key, sizeof(type) * (count), alignof(type), #name))
#define CAROUSEL_DYNAMIC_SHARED(type, name) \
    type* name = static_cast<type*>(::carousel::simt::dynamic_shared())

#define threadIdx (::carousel::simt::device_indices.thread)
#define blockIdx (::carousel::simt::device_indices.block)
#define blockDim (::carousel::simt::device_indices.block_size)
#define gridDim (::carousel::simt::device_indices.grid_size)

// Not instrumented: these report to the executor themselves.
#define CAROUSEL_SIMT_PLAIN __attribute__((no_sanitize_thread, noinline))

namespace carousel::simt {

inline constexpr int warp_size = 32;

/// Where a shuffle reads, by the rules of PTX's shfl.sync.
enum class ShuffleMode { kIndex, kUp, kDown, kXor };
inline unsigned shuffle_source(ShuffleMode mode, unsigned lane, unsigned operand, unsigned width) {
    const unsigned segment = 32U - width;  // as a mask: the bits that number the segments
    const unsigned first = lane & segment, last = first | (31U & ~segment);
    switch (mode) {
        case ShuffleMode::kIndex:
            return first | (operand & 31U & ~segment);
        case ShuffleMode::kUp:
            return lane >= first + operand ? lane - operand : lane;
        case ShuffleMode::kDown:
            return lane + operand <= last ? lane + operand : lane;
        case ShuffleMode::kXor:
            break;
    }
    return (lane ^ operand) <= last ? lane ^ operand : lane;
}

template <class T>
struct ShufflePayload {
    T value;
    T result;
    unsigned source;
};

template <class T>
void shuffle_body(void* const payloads[32], unsigned) {
    for (int lane = 0; lane < 32; ++lane) {
        if (auto* mine = static_cast<ShufflePayload<T>*>(payloads[lane])) {
            if (const auto* from = static_cast<ShufflePayload<T>*>(payloads[mine->source])) {
                mine->result = from->value;
            } else {
                std::memset(static_cast<void*>(&mine->result), 0xFF, sizeof(T));  // undefined there
            }
        }
    }
}

template <class T>
T shuffle(ShuffleMode mode, unsigned mask, T value, unsigned operand, int width,
          SourceLocation at) {
    static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
    static constexpr WarpOperation kOperations[] = {
        {"__shfl_sync", &shuffle_body<T>, false, true},
        {"__shfl_up_sync", &shuffle_body<T>, false, true},
        {"__shfl_down_sync", &shuffle_body<T>, false, true},
        {"__shfl_xor_sync", &shuffle_body<T>, false, true},
    };
    if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
        fail("a shuffle's width must be a power of two up to 32", at);
    }
    ShufflePayload<T> payload{
        value, value, shuffle_source(mode, lane_id(), operand, static_cast<unsigned>(width))};
    warp_collective(kOperations[static_cast<int>(mode)], mask, &payload, at);
    return payload.result;
}

struct VotePayload {
    unsigned value;
    unsigned result;
};
enum class Vote { kBallot, kAny, kAll, kAdd, kMin, kMax, kAnd, kOr, kXor };

template <Vote kVote, class T>
void vote_body(void* const payloads[32], unsigned) {
    bool first = true;
    T total{};
    for (unsigned lane = 0; lane < 32; ++lane) {
        const auto* payload = static_cast<VotePayload*>(payloads[lane]);
        if (payload == nullptr) {
            continue;
        }
        T value = static_cast<T>(payload->value);
        if constexpr (kVote == Vote::kBallot) {
            value = static_cast<T>(payload->value != 0 ? 1U << lane : 0U);
        } else if constexpr (kVote == Vote::kAny || kVote == Vote::kAll) {
            value = payload->value != 0;
        }
        if (first) {
            total = value;
        } else if constexpr (kVote == Vote::kAdd) {
            total = static_cast<T>(static_cast<unsigned>(total) + static_cast<unsigned>(value));
        } else if constexpr (kVote == Vote::kMin) {
            total = std::min(total, value);
        } else if constexpr (kVote == Vote::kMax) {
            total = std::max(total, value);
        } else if constexpr (kVote == Vote::kAnd || kVote == Vote::kAll) {
            total &= value;
        } else if constexpr (kVote == Vote::kXor) {
            total ^= value;
        } else {
            total |= value;
        }
        first = false;
    }
    for (int lane = 0; lane < 32; ++lane) {
        if (auto* payload = static_cast<VotePayload*>(payloads[lane])) {
            payload->result = static_cast<unsigned>(total);
        }
    }
}

template <Vote kVote, class T>
T vote(const char* name, unsigned mask, T value, SourceLocation at) {
    const WarpOperation operation{name, &vote_body<kVote, T>, false, true};
    VotePayload payload{static_cast<unsigned>(value), 0};
    warp_collective(operation, mask, &payload, at);
    return static_cast<T>(payload.result);
}

template <class T>
std::uint64_t value_bits(const T& value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T) < 8 ? sizeof(T) : 8);
    return bits;
}

template <class T, class Combine>
CAROUSEL_SIMT_PLAIN T atomic_update(T* address, Combine combine, Order order, Scope scope,
                                    SourceLocation at) {
    strong_before(address, sizeof(T), true, at);
    const T old_value = *address;
    const T new_value = combine(old_value);
    const bool changed = std::memcmp(&old_value, &new_value, sizeof(T)) != 0;
    *address = new_value;
    strong_update(address, sizeof(T), value_bits(old_value), changed, order, scope, at);
    return old_value;
}

template <class T>
CAROUSEL_SIMT_PLAIN T strong_load(const T* address, Order order, Scope scope, SourceLocation at) {
    strong_before(address, sizeof(T), false, at);
    const T value = *address;
    strong_read(address, sizeof(T), value_bits(value), order, scope, at);
    return value;
}

template <class T>
CAROUSEL_SIMT_PLAIN void strong_store(T* address, T value, Order order, Scope scope,
                                      SourceLocation at) {
    strong_before(address, sizeof(T), true, at);
    *address = value;
    strong_write(address, sizeof(T), order, scope, at);
}

}  // namespace carousel::simt

#define CAROUSEL_SIMT_AT \
    ::carousel::simt::SourceLocation at = ::carousel::simt::SourceLocation::current()

// Barriers and fences.

inline void __syncthreads(CAROUSEL_SIMT_AT) { carousel::simt::barrier(0, 0, true, 0, at); }
inline int __syncthreads_count(int predicate, CAROUSEL_SIMT_AT) {
    return static_cast<int>(carousel::simt::barrier(0, 0, true, predicate != 0, at));
}
inline int __syncthreads_or(int predicate, CAROUSEL_SIMT_AT) {
    return carousel::simt::barrier(0, 0, true, predicate != 0, at) != 0;
}
inline int __syncthreads_and(int predicate, CAROUSEL_SIMT_AT) {
    return carousel::simt::barrier(0, 0, true, predicate == 0, at) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFU, CAROUSEL_SIMT_AT) {
    static constexpr carousel::simt::WarpOperation kOperation{
        "__syncwarp", [](void* const[32], unsigned) {}, true, false};
    char payload = 0;
    carousel::simt::warp_collective(kOperation, mask, &payload, at);
}
inline void __threadfence_block() { carousel::simt::fence(carousel::simt::Scope::kBlock); }
inline void __threadfence() { carousel::simt::fence(carousel::simt::Scope::kDevice); }
inline void __threadfence_system() { carousel::simt::fence(carousel::simt::Scope::kSystem); }
inline void __nanosleep(unsigned, CAROUSEL_SIMT_AT) { carousel::simt::pause(at); }
inline long long clock64() { return static_cast<long long>(carousel::simt::clock_ns()); }
[[noreturn]] inline void __trap(CAROUSEL_SIMT_AT) { carousel::simt::fail("__trap()", at); }

// Shuffles and votes.

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CAROUSEL_SIMT_AT) {
    return carousel::simt::shuffle(carousel::simt::ShuffleMode::kIndex, mask, value,
                                   static_cast<unsigned>(source), width, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CAROUSEL_SIMT_AT) {
    return carousel::simt::shuffle(carousel::simt::ShuffleMode::kUp, mask, value, delta, width, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CAROUSEL_SIMT_AT) {
    return carousel::simt::shuffle(carousel::simt::ShuffleMode::kDown, mask, value, delta, width,
                                   at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CAROUSEL_SIMT_AT) {
    return carousel::simt::shuffle(carousel::simt::ShuffleMode::kXor, mask, value,
                                   static_cast<unsigned>(lane_mask), width, at);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CAROUSEL_SIMT_AT) {
    using namespace carousel::simt;
    return vote<Vote::kBallot, unsigned>("__ballot_sync", mask, predicate != 0, at);
}
inline int __any_sync(unsigned mask, int predicate, CAROUSEL_SIMT_AT) {
    using namespace carousel::simt;
    return static_cast<int>(vote<Vote::kAny, unsigned>("__any_sync", mask, predicate != 0, at));
}
inline int __all_sync(unsigned mask, int predicate, CAROUSEL_SIMT_AT) {
    using namespace carousel::simt;
    return static_cast<int>(vote<Vote::kAll, unsigned>("__all_sync", mask, predicate != 0, at));
}
#define CAROUSEL_SIMT_REDUCE(name, operation, type)                                            \
    inline type name(unsigned mask, type value, CAROUSEL_SIMT_AT) {                            \
        return carousel::simt::vote<carousel::simt::Vote::operation, type>(#name, mask, value, \
                                                                           at);                \
    }
CAROUSEL_SIMT_REDUCE(__reduce_add_sync, kAdd, unsigned)
CAROUSEL_SIMT_REDUCE(__reduce_add_sync, kAdd, int)
CAROUSEL_SIMT_REDUCE(__reduce_min_sync, kMin, unsigned)
CAROUSEL_SIMT_REDUCE(__reduce_min_sync, kMin, int)
CAROUSEL_SIMT_REDUCE(__reduce_max_sync, kMax, unsigned)
CAROUSEL_SIMT_REDUCE(__reduce_max_sync, kMax, int)
CAROUSEL_SIMT_REDUCE(__reduce_and_sync, kAnd, unsigned)
CAROUSEL_SIMT_REDUCE(__reduce_or_sync, kOr, unsigned)
CAROUSEL_SIMT_REDUCE(__reduce_xor_sync, kXor, unsigned)
#undef CAROUSEL_SIMT_REDUCE

// Atomics: relaxed, at the scope of the device; `_block` and `_system` as their names say.

#define CAROUSEL_SIMT_ATOMIC(name, expression)                                    \
    template <class T>                                                            \
    T name(T* address, std::type_identity_t<T> value, CAROUSEL_SIMT_AT) {         \
        return carousel::simt::atomic_update(                                     \
            address, [&](T old) { return static_cast<T>(expression); },           \
            carousel::simt::Order::kRelaxed, carousel::simt::Scope::kDevice, at); \
    }                                                                             \
    template <class T>                                                            \
    T name##_block(T* address, std::type_identity_t<T> value, CAROUSEL_SIMT_AT) { \
        return carousel::simt::atomic_update(                                     \
            address, [&](T old) { return static_cast<T>(expression); },           \
            carousel::simt::Order::kRelaxed, carousel::simt::Scope::kBlock, at);  \
    }
CAROUSEL_SIMT_ATOMIC(atomicAdd, old + value)
CAROUSEL_SIMT_ATOMIC(atomicSub, old - value)
CAROUSEL_SIMT_ATOMIC(atomicMin, std::min(old, value))
CAROUSEL_SIMT_ATOMIC(atomicMax, std::max(old, value))
CAROUSEL_SIMT_ATOMIC(atomicAnd, old& value)
CAROUSEL_SIMT_ATOMIC(atomicOr, old | value)
CAROUSEL_SIMT_ATOMIC(atomicXor, old ^ value)
CAROUSEL_SIMT_ATOMIC(atomicExch, (static_cast<void>(old), value))
CAROUSEL_SIMT_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef CAROUSEL_SIMT_ATOMIC

template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> desired,
            CAROUSEL_SIMT_AT) {
    return carousel::simt::atomic_update(
        address, [&](T old) { return old == expected ? desired : old; },
        carousel::simt::Order::kRelaxed, carousel::simt::Scope::kDevice, at);
}

// Loads and stores with cache hints.

template <class T>
T __ldg(const T* address) {
    return *address;
}
template <class T>
T __ldcs(const T* address) {
    return *address;
}
template <class T>
T __ldcg(const T* address) {
    return *address;
}
template <class T>
void __stcs(T* address, std::type_identity_t<T> value) {
    *address = value;
}
template <class T>
void __stcg(T* address, std::type_identity_t<T> value) {
    *address = value;
}

// Arithmetic that CUDA has in the global namespace and the C++ library has not. The intrinsics that
// trade accuracy for speed give the exact result here; tolerances of tests allow for both.

using std::max;
using std::min;
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __umulhi(unsigned x, unsigned y) {
    return static_cast<unsigned>((static_cast<std::uint64_t>(x) * y) >> 32);
}
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0F / x; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __dadd_rn(double x, double y) { return x + y; }
