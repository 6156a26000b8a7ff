#pragma once

#include <cstdint>

#include "kernels/nn_args.hpp"

namespace carousel::cpu {

/// The training layer's loops for one element type, compiled for one instruction set. Each works on
/// a share [begin, end) of the dimension named, so that the caller splits the work over its
/// threads.
template <class T>
struct NnKernels {
    void (*scatter_add_rows)(const ScatterAddRowsArgs&, std::int64_t begin,
                             std::int64_t end);                                          // columns
    void (*column_sum)(const ColumnSumArgs&, std::int64_t begin, std::int64_t end);      // columns
    void (*add_bias)(const AddBiasArgs&, std::int64_t begin, std::int64_t end);          // rows
    void (*softmax_xent)(const SoftmaxXentArgs&, std::int64_t begin, std::int64_t end);  // rows
    void (*matvec)(const MatVecArgs&, std::int64_t begin, std::int64_t end);             // rows
    void (*multiply)(const MultiplyArgs&, std::int64_t begin, std::int64_t end);         // elements
    void (*axpy)(T alpha, const T* x, T* y, std::int64_t n);  // y += alpha x
    void (*scale)(T alpha, T* x, std::int64_t n);
    void (*clamp)(T limit, T* x, std::int64_t n);
    double (*sum_squares)(const T* x, std::int64_t n);
    void (*update)(const UpdateArgs&, std::int64_t begin, std::int64_t end);  // elements
};

struct NnKernelTable {
    NnKernels<float> f32;
    NnKernels<double> f64;
};

const NnKernelTable& nn_kernels_baseline();
#if defined(CAROUSEL_X86_64)
const NnKernelTable& nn_kernels_avx2();
const NnKernelTable& nn_kernels_avx512();
#endif

}  // namespace carousel::cpu
