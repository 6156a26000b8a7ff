// Second stages of the sums that backward steps leave behind.

#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_step.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

inline constexpr unsigned kSumThreads = 128;
inline constexpr unsigned kWarp = 32;

/// Bias gradients from the partial sums of row blocks.
///
///   out[j] = (accumulate ? out[j] : 0) + sum over r of partials[r*stride + j], in order of r
///
/// Dims     rows, columns; partials row-major with `stride` elements between rows.
/// In       partials [rows,columns] A.
/// Out      out [columns] A; written fully or accumulated into.
/// Repeat   bitwise equal run to run; one thread sums a column.
template <class A>
__global__ void __launch_bounds__(kSumThreads) sum_rows_kernel(SumRowsArgs args) {
    const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
    if (j >= args.columns) return;
    const A* partials = static_cast<const A*>(args.partials) + j;
    A* out = static_cast<A*>(args.out) + j;
    A sum(0);
#pragma unroll 8
    for (std::int64_t r = 0; r < args.rows; ++r) sum += partials[r * args.stride];
    *out = args.accumulate != 0 ? *out + sum : sum;
}

/// Norms of dL/dh_t from the partial sums of blocks, a step per warp.
///
///   norms[r] = sqrt(sum of partials[r*columns, ...)): lanes by stride, then a tree
///
/// Dims     rows = steps, columns = blocks of a step; row-major.
/// In       partials [rows,columns] A.
/// Out      norms [rows] A, written fully.
/// Repeat   bitwise equal run to run; the order depends on `columns` alone.
template <class A>
__global__ void __launch_bounds__(kSumThreads) step_norms_kernel(StepNormsArgs args) {
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= args.rows) return;  // whole warps
    const A* partials = static_cast<const A*>(args.partials) + row * args.columns;
    A sum(0);
    for (std::int64_t i = threadIdx.x; i < args.columns; i += kWarp) sum += partials[i];
    for (int distance = kWarp / 2; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffU, sum, distance);
    if (threadIdx.x == 0) static_cast<A*>(args.norms)[row] = sqrt(sum);
}

namespace {

unsigned blocks_of(std::int64_t count, unsigned per_block) {
    return static_cast<unsigned>((count + per_block - 1) / per_block);
}

}  // namespace

Launch sum_rows(const SumRowsArgs& args) {
    return make_launch(
        "sum_rows", args.dtype == DType::kF64 ? &sum_rows_kernel<double> : &sum_rows_kernel<float>,
        args, Dim3{blocks_of(args.columns, kSumThreads), 1, 1}, Dim3{kSumThreads, 1, 1});
}

Launch step_norms(const StepNormsArgs& args) {
    constexpr unsigned kRows = kSumThreads / kWarp;
    return make_launch(
        "step_norms",
        args.dtype == DType::kF64 ? &step_norms_kernel<double> : &step_norms_kernel<float>, args,
        Dim3{blocks_of(args.rows, kRows), 1, 1}, Dim3{kWarp, kRows, 1});
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
