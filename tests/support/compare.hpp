#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "carousel/tensor.hpp"
#include "tests/support/rnn_run.hpp"

namespace carousel::test {

/// ||actual - expected|| / ||expected|| over all elements; 0 if both are all zero, infinity if only
/// `expected` is or if anything is not finite or the sizes differ.
double relative_error(const std::vector<double>& actual, const std::vector<double>& expected);

/// Largest relative_error that rounding explains for a recurrence of `seq_len` steps:
///
///   f64  1e-12,  f32  1e-5,  both times sqrt(max(1, T / 100))
///
/// A step adds errors of a few units in the last place per dot product (2^-53 and 2^-24), which the
/// recurrence keeps bounded; sums over T steps grow like sqrt(T). The constants are a few hundred
/// units: the room that 100 steps of products of H terms need.
double tolerance(DType dtype, std::int64_t seq_len);

/// Fails, naming tensor and error, unless `actual` holds exactly the tensors of `expected`, each
/// within `limit`.
void expect_close(const NamedTensors& actual, const NamedTensors& expected, double limit);

/// Fails, naming the tensor, unless both hold the same tensors with equal values (NaN equals NaN).
void expect_same_bits(const NamedTensors& actual, const NamedTensors& expected);

/// Keeps only the tensors named.
NamedTensors only(const NamedTensors& all, const std::vector<std::string>& names);

}  // namespace carousel::test
