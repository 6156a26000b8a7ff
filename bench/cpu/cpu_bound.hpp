#pragma once

#include <cstddef>

#include "bench/core/lower_bound.hpp"

// What no implementation on a CPU can go below that computes in the row's dtype, steps one after the
// other and layers one after the other:
//
//   sum over layers of   products of all steps: FLOP / peak
//                        recurrent products, per step: max(FLOP / peak, bytes of W_hh / bandwidth)
//
// with the peak of fused multiply-adds and the bandwidth of reading W_hh again and again, both measured
// beside the row. Element-wise work is left out.

namespace carousel::bench {

/// Bytes of one layer's recurrent weights: what every step reads.
std::size_t recurrent_weight_bytes(const GridCase& c);

LowerBound cpu_lower_bound(const GridCase& c, Pass pass, double peak_gflops, double read_gb_s);

}  // namespace carousel::bench
