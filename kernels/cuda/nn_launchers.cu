// The table of the training layer's launchers of this build.

#include "kernels/cuda/nn_functions.hpp"

namespace carousel::CAROUSEL_KERNELS {

const cuda::NnLaunchers& nn_launchers() {
    static const cuda::NnLaunchers launchers = [] {
        cuda::NnLaunchers table;
        table.axpy = &axpy;
        table.scale = &scale;
        table.reset_scale = &reset_scale;
        table.clamp = &clamp;
        table.cast = &cast;
        table.dropout = &dropout;
        table.gather_rows = &gather_rows;
        table.scatter_steps = &scatter_steps;
        table.scatter_add_rows = &scatter_add_rows;
        table.scatter_workspace_bytes = &scatter_workspace_bytes;
        table.set_one_hot = &set_one_hot;
        table.zero_rows = &zero_rows;
        table.add_bias = &add_bias;
        table.column_sum = &column_sum;
        table.column_sum_workspace_bytes = &column_sum_workspace_bytes;
        table.softmax_xent = &softmax_xent;
        table.sum_losses = &sum_losses;
        table.sum_squares = &sum_squares;
        table.decide = &decide;
        table.resolve = &resolve;
        table.update = &update;
        table.sample = &sample;
        return table;
    }();
    return launchers;
}

}  // namespace carousel::CAROUSEL_KERNELS
