#pragma once

#include <string>
#include <vector>

#include "carousel/device.hpp"
#include "carousel/rnn_spec.hpp"

namespace carousel::cli {

/// One layer run in f32 and in f64 from the same numbers; each error is max|f32 - f64| / max|f64|.
struct SelfTest {
    Cell cell = Cell::kLstm;
    double y_error = 0.0;   ///< of the outputs
    double dx_error = 0.0;  ///< of the gradient of the input
    double dw_error = 0.0;  ///< of the gradients of the weights
    bool ok = false;        ///< all are finite and within kSelfTestTolerance
};

/// Rounding of f32 (6e-8) grows over 2 layers x 20 steps by far less than this; a wrong kernel is
/// off by orders of magnitude more.
inline constexpr double kSelfTestTolerance = 1e-4;

/// Runs forward and backward of a small stack of every cell on `device`.
std::vector<SelfTest> run_self_tests(Device device);

}  // namespace carousel::cli
