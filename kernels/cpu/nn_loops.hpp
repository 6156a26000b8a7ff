#pragma once

#include <cstdint>

// gcc 12 warns about the "undefined" operand that its own AVX-512 intrinsics pass on purpose; the
// warning is placed in their header, so the pragma must enclose it.
#if defined(__AVX512F__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "kernels/cpu/simd.hpp"

// Anonymous namespace for the reason stated in simd.hpp.

namespace carousel::cpu {
namespace {

/// Calls body(i, lanes) over [begin, end): whole vectors (lanes = kLanes), then one partial one.
template <class T, class Body>
CAROUSEL_INLINE void for_vectors(std::int64_t begin, std::int64_t end, Body&& body) {
    constexpr int kLanes = Vec<T>::kLanes;
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) body(i, kLanes);
    if (i < end) body(i, static_cast<int>(end - i));
}

/// load and store of whole or partial vectors; with a constant `lanes` the branch folds away.
template <class T>
CAROUSEL_INLINE Vec<T> load_lanes(const T* p, int lanes) {
    return lanes == Vec<T>::kLanes ? load(p) : load_n(p, lanes);
}
template <class T>
CAROUSEL_INLINE void store_lanes(T* p, Vec<T> a, int lanes) {
    if (lanes == Vec<T>::kLanes) {
        store(p, a);
    } else {
        store_n(p, a, lanes);
    }
}

}  // namespace
}  // namespace carousel::cpu
