#pragma once

// Geometry of the kernels that work on [rows, columns] of a step, in one place and in plain C++, so
// that plans can ask for it without a CUDA compiler.

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/rnn_args.hpp"

namespace carousel::cuda {

/// Thread rows of a block: a multiple of the first, at most the second. A block reduces kStepUnits
/// columns of that many partial sums.
inline constexpr int kMinBlockRows = 4, kMaxBlockRows = 16;
/// Row blocks of kernels that leave no partial sums behind: enough to fill any card several times,
/// and far below the limit of a grid's second dimension.
inline constexpr std::int64_t kMaxGridRows = 4096;

/// Threads of the largest block at `kUnits` units per thread.
template <int kUnits>
inline constexpr int kMaxStepThreads = kStepUnits / kUnits* kMaxBlockRows;
/// Such blocks that a multiprocessor has registers for, by the kernels' promise. No more than one of
/// 128 or 512 threads: ptxas otherwise aims at an occupancy that a step has no use for, and spills.
/// Two of f64's 256: it would take more than half the registers for one.
template <int kUnits>
inline constexpr int kMinStepBlocks = kUnits == 2 ? 2 : 1;

/// A grid of `units` columns by thread rows; rows beyond the grid's are reached by strides, so the
/// blocks' share of rows, and with it the order of every sum, depends on sizes alone.
///
/// Few thread rows where there are few rows: one step of a small batch is a matter of latency, and
/// H 512, N 64 then has 128 blocks of 64 threads, one for each multiprocessor of a large card.
inline StepGeometry step_geometry(std::int64_t rows, std::int64_t columns, int vector,
                                  std::int64_t max_row_blocks) noexcept {
    StepGeometry geometry;
    geometry.vector = vector;
    geometry.block_x = static_cast<unsigned>(kStepUnits / vector);
    geometry.block_y = rows <= 32    ? static_cast<unsigned>(kMinBlockRows)
                       : rows <= 256 ? 8U
                                     : static_cast<unsigned>(kMaxBlockRows);
    const auto ceil_div = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    geometry.row_blocks = std::clamp<std::int64_t>(
        ceil_div(rows, static_cast<std::int64_t>(geometry.block_y)), 1, max_row_blocks);
    geometry.column_blocks = std::max<std::int64_t>(1, ceil_div(columns, kStepUnits));
    return geometry;
}

}  // namespace carousel::cuda
