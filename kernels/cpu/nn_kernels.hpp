#pragma once

// All loops of the training layer, for the translation units that compile them per instruction set.

#include "kernels/cpu/nn_rows.hpp"
#include "kernels/cpu/nn_softmax.hpp"
#include "kernels/cpu/nn_table.hpp"
#include "kernels/cpu/nn_update.hpp"

namespace carousel::cpu {
namespace {

template <class T>
constexpr NnKernels<T> make_nn_kernels() {
    return {&scatter_add_rows<T>,
            &column_sum<T>,
            &add_bias<T>,
            &softmax_xent<T>,
            &matvec<T>,
            &multiply<T>,
            &axpy<T>,
            &scale<T>,
            &clamp<T>,
            &sum_squares<T>,
            &update<T>};
}

constexpr NnKernelTable kNnKernelTable = {make_nn_kernels<float>(), make_nn_kernels<double>()};

}  // namespace
}  // namespace carousel::cpu
