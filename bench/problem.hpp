#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "carousel/rnn.hpp"

// One row of a shape file, the numbers it is computed on, and what comes out: common ground of all
// sides that are compared. Everything is f32, laid out as Carousel (and PyTorch) lay it out.

namespace carousel::bench {

/// One line of a shape file: `lstm H512 N64 T64 L2`, optionally `I<input>`.
struct Row {
    std::string text;  ///< the line without remark and surplus spaces
    RnnSpec spec;
    std::int64_t seq_len = 0;
    std::int64_t batch_size = 0;
};
/// Errors: InvalidArgument with file, line number and word.
std::vector<Row> read_rows(const std::string& path);

/// Multiply-adds of the matrix products count as two operations; element-wise work is left out.
/// Backward multiplies with each weight twice, for the gradient of its input and of itself.
double forward_flops(const Row& row);
inline double training_flops(const Row& row) { return 3.0 * forward_flops(row); }

/// Inputs of forward and backward, random but always the same; every side reads these.
struct Problem {
    explicit Problem(const Row& row);
    Row row;
    Buffer weights;  ///< flat, by param_layout
    Buffer x, hx, cx, dy, dhy, dcy;
};

/// What a side computed, for the comparison before the timing. Empty: the cell has no such tensor.
struct Outcome {
    std::vector<float> y, hy, cy;
    std::vector<float> dx, dhx, dcx, dweights;
};
struct Difference {
    double outputs = 0.0;    ///< the worst of y, hy, cy
    double gradients = 0.0;  ///< the worst of dx, dhx, dcx and every weight's gradient
};
/// ‖a - b‖ / ‖b‖ per tensor, and the worst of them. NaN counts as infinitely different.
Difference difference(const RnnSpec& spec, const Outcome& a, const Outcome& b);

}  // namespace carousel::bench
