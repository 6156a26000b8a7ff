#pragma once

// Launchers of the training layer's kernels, by the source that defines them; nn_launchers.cu puts
// them into the table.

#include "kernels/cuda/kernel_table.hpp"

namespace carousel::CAROUSEL_KERNELS {

// The arguments are the same in both builds.
using namespace carousel::cuda;  // NOLINT(google-build-using-namespace)

// nn_elementwise.cu
Launch axpy(const AxpyArgs& args);
Launch scale(const ScaleArgs& args);
Launch reset_scale(const ResetScaleArgs& args);
Launch clamp(const ClampArgs& args);
Launch cast(const CastArgs& args);
Launch dropout(const DropoutArgs& args);

// nn_rows.cu
Launch gather_rows(const GatherArgs& args);
Launch set_one_hot(const OneHotArgs& args);
Launch zero_rows(const ZeroRowsArgs& args);
Launch add_bias(const RowBiasArgs& args);
Launch column_sum(const ColumnSumsArgs& args, int step);
std::size_t column_sum_workspace_bytes(DType dtype, std::int64_t rows, std::int64_t cols);

// nn_scatter.cu
int scatter_steps(const ScatterArgs& args);
Launch scatter_add_rows(const ScatterArgs& args, int step);
std::size_t scatter_workspace_bytes(std::int64_t n);

// nn_softmax.cu
Launch softmax_xent(const CrossEntropyArgs& args);
Launch sum_losses(const SumLossesArgs& args);

// nn_update.cu
Launch sum_squares(const SquaresArgs& args);
Launch decide(const DecideArgs& args);
Launch resolve(const ResolveArgs& args);
Launch update(const ParamUpdateArgs& args);

// nn_sample.cu
Launch sample(const SampleArgs& args);

}  // namespace carousel::CAROUSEL_KERNELS
