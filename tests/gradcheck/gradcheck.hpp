#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/support/rnn_run.hpp"

namespace carousel::test {

/// Central differences of a scalar loss over every element of `values`:
///   (loss(v + e) - loss(v - e)) / 2e, e = 1e-5, one element at a time.
/// In f64 the truncation error is of the order e^2 = 1e-10 and the rounding error 1e-16/e = 1e-11 of
/// the loss, so 1e-7 relative to a tensor's gradient is met only by a right formula.
std::vector<double> central_differences(std::vector<double>& values,
                                        const std::function<double()>& loss);

/// sum(y*dy) + sum(hy*dhy) + sum(cy*dcy) over the steps that exist.
double scalar_loss(const RnnData& data, const NamedTensors& outputs);

/// The tensors of `data` that gradients are taken of, by the names of their gradients. Hidden in
/// them: x beyond a sequence's end (NaN), which central_differences leaves out (gradient 0).
std::vector<std::pair<std::string, std::vector<double>*>> differentiable(RnnData& data);

/// Data of a line whose ReLU preactivations all stay at least 1e-3 away from 0 (other cells: the
/// line's own seed). Changes line.seed to the seed it found.
RnnData make_smooth_data(ShapeLine& line);

}  // namespace carousel::test
