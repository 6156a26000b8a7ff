#pragma once

#include <string>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/rnn_run.hpp"

// Whole passes of a CUDA plan against the independent reference. The same checks on a device that runs
// kernels on the CPU (tests/simt) and on a card (tests/gpu).

namespace carousel::test {

/// Norm of the difference over the norm of the oracle's tensor, which gets operands rounded alike:
/// f64 and f32 as tolerance(); tf32 2e-3, bf16 and f16 2e-2 for up to 100 steps.
double device_tolerance(DType dtype, std::int64_t seq_len);

/// What the oracle says of a run that gave `results`. Where ReLU meets tf32 and 16 bits, its gradient
/// is taken on the side of the kink that the run was on: rounding decides that, and the jump is no
/// error of rounding's size.
NamedTensors reference_for(const ShapeLine& line, const RnnData& data, const NamedTensors& results);

/// Stepwise, and wavefront where there is more than one layer or direction.
std::vector<Algorithm> device_algorithms(const RnnSpec& spec);

/// Training, backward and inference of one line under every algorithm; fails with the tensor's name
/// and the line.
void check_device_line(const ShapeLine& line, const Device& device);

/// Every line. An exception fails its line, and the next goes on.
void check_device_lines(const std::vector<ShapeLine>& lines, const Device& device);

/// The lines of tests/shapes/rnn_options.txt of one cell.
std::vector<ShapeLine> option_lines(Cell cell);

/// The same line with another element type.
ShapeLine with_dtype(const ShapeLine& line, DType dtype);

/// A few lines per element type, at sizes that 16-bit vectors and tiles do not divide.
std::vector<ShapeLine> dtype_lines(Cell cell);

}  // namespace carousel::test
