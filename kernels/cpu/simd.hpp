#pragma once

// The SIMD value type on which the cell templates are instantiated on the CPU: as many lanes as the
// instruction set of the including translation unit has. Everything here is in an anonymous namespace,
// so that objects compiled for different instruction sets share no function (the linker would keep one
// copy for all, and a processor without AVX-512 would meet AVX-512 code).

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace carousel::cpu {
namespace {

#define CAROUSEL_INLINE inline __attribute__((always_inline))
// A register tile is a function of its own: inlined beside others, its accumulators go to the stack.
#define CAROUSEL_TILE __attribute__((noinline)) void

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
// Zero-masked forms with all lanes on: the plain intrinsics of GCC 12 start from an undefined register
// and draw -Wuninitialized.
constexpr __mmask16 kAll16 = 0xFFFF;
constexpr __mmask8 kAll8 = 0xFF;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VecTraits;
template <>
struct VecTraits<float> {
    typedef float Raw __attribute__((vector_size(kVectorBytes)));
    typedef float RawUnaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
    typedef std::int32_t Int __attribute__((vector_size(kVectorBytes)));
    // exp: range reduction with ln2 in two parts (Cephes); 2^n is made in the exponent bits.
    static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    static constexpr int kMantissaBits = 23, kExponentBias = 127;
    static constexpr float kLn2Hi = 0.693359375f, kLn2Lo = -2.12194440e-4f;
    static constexpr float kExpMin = -87.0f, kExpMax = 88.0f, kTwoTanhMax = 20.0f;
};
template <>
struct VecTraits<double> {
    typedef double Raw __attribute__((vector_size(kVectorBytes)));
    typedef double RawUnaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
    typedef std::int64_t Int __attribute__((vector_size(kVectorBytes)));
    static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr int kMantissaBits = 52, kExponentBias = 1023;
    static constexpr double kLn2Hi = 6.93147180369123816490e-01,
                            kLn2Lo = 1.90821492927058770002e-10;
    static constexpr double kExpMin = -708.0, kExpMax = 709.0, kTwoTanhMax = 44.0;
};

template <class T>
struct Vec {
    using Raw = typename VecTraits<T>::Raw;
    using Int = typename VecTraits<T>::Int;
    static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

    Raw v;

    Vec() = default;
    CAROUSEL_INLINE explicit Vec(T scalar) : v(scalar - Raw{}) {}
    CAROUSEL_INLINE explicit Vec(int scalar) : Vec(static_cast<T>(scalar)) {}
    CAROUSEL_INLINE Vec(Raw raw) : v(raw) {}  // NOLINT(google-explicit-constructor)

    CAROUSEL_INLINE friend Vec operator+(Vec a, Vec b) { return a.v + b.v; }
    CAROUSEL_INLINE friend Vec operator-(Vec a, Vec b) { return a.v - b.v; }
    CAROUSEL_INLINE friend Vec operator*(Vec a, Vec b) { return a.v * b.v; }
    CAROUSEL_INLINE friend Vec operator/(Vec a, Vec b) { return a.v / b.v; }
    CAROUSEL_INLINE Vec& operator+=(Vec b) {
        v += b.v;
        return *this;
    }
};

template <class T>
CAROUSEL_INLINE Vec<T> load(const T* p) {
    return *reinterpret_cast<const typename VecTraits<T>::RawUnaligned*>(p);
}
template <class T>
CAROUSEL_INLINE void store(T* p, Vec<T> a) {
    *reinterpret_cast<typename VecTraits<T>::RawUnaligned*>(p) = a.v;
}

// Partial vectors: lanes at and beyond n read as 0 and are not written; their memory is not touched.
#if defined(__AVX512F__)
CAROUSEL_INLINE Vec<float> load_n(const float* p, int n) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
}
CAROUSEL_INLINE void store_n(float* p, Vec<float> a, int n) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), a.v);
}
CAROUSEL_INLINE Vec<double> load_n(const double* p, int n) {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p);
}
CAROUSEL_INLINE void store_n(double* p, Vec<double> a, int n) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), a.v);
}
#else
template <class T>
CAROUSEL_INLINE Vec<T> load_n(const T* p, int n) {
    Vec<T> a(T(0));
    for (int lane = 0; lane < n; ++lane) a.v[lane] = p[lane];
    return a;
}
template <class T>
CAROUSEL_INLINE void store_n(T* p, Vec<T> a, int n) {
    for (int lane = 0; lane < n; ++lane) p[lane] = a.v[lane];
}
#endif

/// a*b + c; one rounding where the instruction set has FMA.
template <class T>
CAROUSEL_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
    return a.v * b.v + c.v;
}
/// a where a > b, else b: a NaN in b stays.
template <class T>
CAROUSEL_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        return _mm512_maskz_max_ps(kAll16, a.v, b.v);
    } else {
        return _mm512_maskz_max_pd(kAll8, a.v, b.v);
    }
#else
    return a.v > b.v ? a.v : b.v;
#endif
}
/// a where a < b, else b: a NaN in b stays.
template <class T>
CAROUSEL_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        return _mm512_maskz_min_ps(kAll16, a.v, b.v);
    } else {
        return _mm512_maskz_min_pd(kAll8, a.v, b.v);
    }
#else
    return a.v < b.v ? a.v : b.v;
#endif
}
template <class T>
CAROUSEL_INLINE Vec<T> sqrt(Vec<T> a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        return _mm512_maskz_sqrt_ps(kAll16, a.v);
    } else {
        return _mm512_maskz_sqrt_pd(kAll8, a.v);
    }
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) {
        return _mm256_sqrt_ps(a.v);
    } else {
        return _mm256_sqrt_pd(a.v);
    }
#else
    Vec<T> out;
    for (int lane = 0; lane < Vec<T>::kLanes; ++lane) {
        out.v[lane] = sizeof(T) == 4
                          ? static_cast<T>(__builtin_sqrtf(static_cast<float>(a.v[lane])))
                          : static_cast<T>(__builtin_sqrt(a.v[lane]));
    }
    return out;
#endif
}
/// yes where a > b, else no.
template <class T>
CAROUSEL_INLINE Vec<T> select_greater(Vec<T> a, Vec<T> b, Vec<T> yes, Vec<T> no) {
    return a.v > b.v ? yes.v : no.v;
}

/// 1/a for finite normal a, within 1 ulp.
template <class T>
CAROUSEL_INLINE Vec<T> reciprocal(Vec<T> a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
        // 14 bits from the table, 28 after one Newton step: shorter than the divider's latency.
        const Vec<float> estimate = _mm512_maskz_rcp14_ps(kAll16, a.v);
        const Vec<float> error = Vec<float>(1.0f) - a * estimate;
        return fma(estimate, error, estimate);
    }
#endif
    return Vec<T>(T(1)) / a;
}

/// x = n*ln2 + r with |r| <= ln2/2: q = e^r - 1 and scale = 2^n, for x within Traits' range; a NaN in x
/// is in q. The f32 polynomial is a minimax fit of (e^r - 1 - r)/r^2, weighted for the relative error of
/// e^r (4e-9); f64 is Taylor to degree 13.
template <class T>
struct ExpParts {
    Vec<T> q, scale;
};
template <class T>
CAROUSEL_INLINE ExpParts<T> exp_parts(Vec<T> x) {
    using Traits = VecTraits<T>;
    using Int = typename Vec<T>::Int;
    using V = Vec<T>;
    const V shifted = fma(x, V(T(1.44269504088896340736)), V(Traits::kRound));
    const V n = shifted - V(Traits::kRound);
    V r = x - n * V(Traits::kLn2Hi);
    r = r - n * V(Traits::kLn2Lo);
    V p;
    if constexpr (sizeof(T) == 4) {
        p = V(0.00138144672f);
        p = fma(p, r, V(0.00836878084f));
        p = fma(p, r, V(0.0416683927f));
        p = fma(p, r, V(0.166665196f));
        p = fma(p, r, V(0.49999994f));
    } else {
        p = V(1.0 / 6227020800.0);
        p = fma(p, r, V(1.0 / 479001600.0));
        p = fma(p, r, V(1.0 / 39916800.0));
        p = fma(p, r, V(1.0 / 3628800.0));
        p = fma(p, r, V(1.0 / 362880.0));
        p = fma(p, r, V(1.0 / 40320.0));
        p = fma(p, r, V(1.0 / 5040.0));
        p = fma(p, r, V(1.0 / 720.0));
        p = fma(p, r, V(1.0 / 120.0));
        p = fma(p, r, V(1.0 / 24.0));
        p = fma(p, r, V(1.0 / 6.0));
        p = fma(p, r, V(0.5));
    }
    // The low mantissa bits of `shifted` hold n.
    const Int bias = Int{} + Traits::kExponentBias;
    const Int bits = (reinterpret_cast<Int>(shifted.v) + bias) << Traits::kMantissaBits;
    return {fma(p, r * r, r), V(reinterpret_cast<typename V::Raw>(bits))};
}

/// x limited to [low, high]; NaN stays NaN.
template <class T>
CAROUSEL_INLINE Vec<T> clamp(Vec<T> x, T low, T high) {
    return min(Vec<T>(high), max(Vec<T>(low), x));
}

/// e^x for x clamped to the range in which the result is a normal number; NaN stays NaN. Within 2 ulp.
template <class T>
CAROUSEL_INLINE Vec<T> exp(Vec<T> x) {
    const ExpParts<T> e = exp_parts(clamp(x, VecTraits<T>::kExpMin, VecTraits<T>::kExpMax));
    return fma(e.q, e.scale, e.scale);
}

/// 1/(1 + e^-x).
template <class T>
CAROUSEL_INLINE Vec<T> sigmoid(Vec<T> x) {
    return reciprocal(Vec<T>(T(1)) + exp(Vec<T>(T(0)) - x));
}

/// tanh x = m/(m + 2) with m = e^2x - 1 formed without cancellation. Within 4 ulp, also near 0; beyond
/// |2x| = kTwoTanhMax it is +-1 to rounding.
template <class T>
CAROUSEL_INLINE Vec<T> tanh(Vec<T> x) {
    using V = Vec<T>;
    const ExpParts<T> e =
        exp_parts(clamp(x + x, -VecTraits<T>::kTwoTanhMax, VecTraits<T>::kTwoTanhMax));
    const V m = fma(e.q, e.scale, e.scale - V(T(1)));
    return m * reciprocal(m + V(T(2)));
}

template <class T>
CAROUSEL_INLINE Vec<T> relu(Vec<T> x) {
    return max(Vec<T>(T(0)), x);
}
template <class T>
CAROUSEL_INLINE Vec<T> relu_backward(Vec<T> y, Vec<T> dy) {
    return select_greater(y, Vec<T>(T(0)), dy, Vec<T>(T(0)));
}

/// Transposes a square of kLanes vectors in log2(kLanes) rounds of two-operand shuffles.
template <class T>
CAROUSEL_INLINE void transpose(Vec<T> (&rows)[Vec<T>::kLanes]) {
    constexpr int L = Vec<T>::kLanes;
#if defined(__clang__)
    T square[L][L];
    for (int r = 0; r < L; ++r) store(square[r], rows[r]);
    for (int r = 0; r < L; ++r) {
        for (int lane = 0; lane < L; ++lane) rows[r].v[lane] = square[lane][r];
    }
#else
    using Int = typename Vec<T>::Int;
#pragma GCC unroll 4
    for (int half = L / 2; half > 0; half /= 2) {
        Int low, high;  // of each pair of blocks: what stays or comes over
        for (int lane = 0; lane < L; ++lane) {
            const bool first = (lane & half) == 0;
            low[lane] = first ? lane : L + lane - half;
            high[lane] = first ? lane + half : L + lane;
        }
#pragma GCC unroll 16
        for (int r = 0; r < L; ++r) {
            if ((r & half) != 0) continue;
            const typename Vec<T>::Raw a = rows[r].v, b = rows[r + half].v;
            rows[r] = Vec<T>(__builtin_shuffle(a, b, low));
            rows[r + half] = Vec<T>(__builtin_shuffle(a, b, high));
        }
    }
#endif
}

/// Sum of all lanes in a fixed order (halves, then halves of halves).
template <class T>
CAROUSEL_INLINE T reduce_add(Vec<T> a) {
    T lanes[Vec<T>::kLanes];
    store(lanes, a);
    for (int width = Vec<T>::kLanes / 2; width > 0; width /= 2) {
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    return lanes[0];
}
template <class T>
CAROUSEL_INLINE T reduce_max(Vec<T> a) {
    T lanes[Vec<T>::kLanes];
    store(lanes, a);
    T m = lanes[0];
    for (int lane = 1; lane < Vec<T>::kLanes; ++lane) m = lanes[lane] > m ? lanes[lane] : m;
    return m;
}

}  // namespace
}  // namespace carousel::cpu
