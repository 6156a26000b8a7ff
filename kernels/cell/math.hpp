#pragma once

// Scalar activations for host and device. A SIMD value type brings its own overloads, which the cell
// templates find by argument-dependent lookup.

#include <cmath>

#if defined(__CUDACC__)
#define CAROUSEL_HD __device__ __forceinline__
#else
#define CAROUSEL_HD inline
#endif

namespace carousel::cell {

/// 1/d for d >= 1, within an ulp or two; on a card 0 where that is below 2^-126.
///
/// nvcc's exact division branches around a slow path, and no instruction of another unit or gate
/// moves across that branch: a thread would work out its sigmoids one after the other, each at its
/// full latency.
#if defined(__CUDACC__)
CAROUSEL_HD float reciprocal(float d) { return __fdividef(1.0f, d); }
#else
CAROUSEL_HD float reciprocal(float d) { return 1.0f / d; }
#endif

CAROUSEL_HD float sigmoid(float x) { return reciprocal(1.0f + expf(-x)); }
CAROUSEL_HD double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
CAROUSEL_HD float tanh(float x) { return tanhf(x); }
CAROUSEL_HD double tanh(double x) { return ::tanh(x); }
/// max(0, x); NaN stays NaN.
CAROUSEL_HD float relu(float x) { return 0.0f > x ? 0.0f : x; }
CAROUSEL_HD double relu(double x) { return 0.0 > x ? 0.0 : x; }
/// dy where y > 0, else 0: the derivative of relu in terms of its output, 0 at the kink.
CAROUSEL_HD float relu_backward(float y, float dy) { return y > 0.0f ? dy : 0.0f; }
CAROUSEL_HD double relu_backward(double y, double dy) { return y > 0.0 ? dy : 0.0; }

}  // namespace carousel::cell
