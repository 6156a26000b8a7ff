#pragma once

// A recurrent step to be run by the real kernels and computed again in double precision.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/kernel_table.hpp"
#include "simt/rnn_step_reference.hpp"
#include "simt/rnn_step_tensors.hpp"

namespace carousel::simt {

struct Position {
    std::int64_t t = 0;
    bool reverse = false;
};

struct StepCase {
    Cell cell = Cell::kLstm;
    DType dtype = DType::kF32;
    std::int64_t T = 7, N = 3, H = 33;
    std::int64_t P = 0;                  ///< LSTM: projected size, 0 = none
    std::vector<Position> parts = {{}};  ///< one per part of the launch
    bool lengths = false, reset = false, drops = false;
    bool in_place = false;  ///< results over operands, wherever the interface allows it
    bool extras = true;     ///< optional results wanted
    int biases = 2;
    Layout layout;
    std::uint64_t seed = 1;

    std::int64_t output_size() const { return P > 0 ? P : H; }
    std::string text() const;
};

/// Cases that between them meet every value of every option with every shape, for one cell and type.
std::vector<StepCase> step_cases(Cell cell, DType dtype);

/// First, middle and last step of both directions.
std::vector<Position> positions(std::int64_t T);

/// A matrix of doubles on the host: what a tensor held before a launch.
struct Values {
    Values() = default;
    explicit Values(const Rows& tensor);
    double at(std::int64_t row, std::int64_t column) const {
        return values[static_cast<std::size_t>(row * columns + column)];
    }
    std::int64_t columns = 0;
    std::vector<double> values;
};

/// What the parts of a launch share, on the host and on the device.
class StepWorld {
public:
    explicit StepWorld(const StepCase& step);

    const StepCase& step;
    UnitCell unit;
    DType stored, sums;  ///< S and A
    Tensors tensors;
    TimeRules rules;
    cuda::StepCommon common;

    static constexpr double kDropout = 0.4;
    static constexpr std::uint32_t kLayer = 3;

    /// Multiplier of column j of direction `reverse` at (t, n); 1 without dropout.
    double mask(const Position& at, std::int64_t n, std::int64_t j) const;
    std::int64_t mask_column(const Position& at) const {
        return at.reverse ? step.output_size() : 0;
    }
    std::uint32_t status() const { return status_[0]; }

private:
    std::vector<double> mask_;  ///< [T,N,2*O]
    DeviceBuffer<std::int64_t> lengths_;
    DeviceBuffer<std::uint8_t> reset_;
    DeviceBuffer<std::uint64_t> key_;
    DeviceBuffer<std::uint32_t> status_;
};

/// Runs a launch and expects no race and no read of shared memory that nothing wrote.
void run_checked(const cuda::Launch& launch, const Options& options);

inline void* address(const Rows* tensor) { return tensor == nullptr ? nullptr : tensor->data(); }
inline std::int64_t stride(const Rows* tensor) { return tensor == nullptr ? 0 : tensor->stride(); }

/// Geometry of a launch of step kernels: units per thread.
inline int vector_of(const cuda::Launch& launch) {
    return cuda::kStepUnits / static_cast<int>(launch.block.x);
}

}  // namespace carousel::simt
