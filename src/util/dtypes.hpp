#pragma once

#include "carousel/tensor.hpp"

// Which element type holds what, for each arithmetic that a spec can name.

namespace carousel {

/// x, y, h and weights: the dtype itself; tf32 names an arithmetic on f32 tensors.
constexpr DType storage_dtype(DType dtype) noexcept {
    return dtype == DType::kTf32 ? DType::kF32 : dtype;
}

/// Sums, cell states c and their gradients, norms: f64 for f64, else f32.
constexpr DType accumulator_dtype(DType dtype) noexcept {
    return dtype == DType::kF64 ? DType::kF64 : DType::kF32;
}

/// Gradients of weights: as sums, because they update master weights, which are f32 where the working
/// copies are bf16 or f16.
constexpr DType grad_dtype(DType dtype) noexcept { return accumulator_dtype(dtype); }

}  // namespace carousel
