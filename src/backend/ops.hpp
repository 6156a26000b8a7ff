#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "carousel/device.hpp"
#include "carousel/tensor.hpp"
#include "kernels/nn_args.hpp"

namespace carousel {

/// C[m,n] = alpha * op(A) op(B) + beta * C on elements of the Ops' dtype; row-major, op transposes.
struct MatMulArgs {
    bool trans_a = false, trans_b = false;
    std::int64_t m = 0, n = 0, k = 0;
    double alpha = 1.0;
    const void* a = nullptr;
    std::int64_t lda = 0;
    const void* b = nullptr;
    std::int64_t ldb = 0;
    double beta = 0.0;
    void* c = nullptr;
    std::int64_t ldc = 0;
};

/// A run of elements whose squares the norm sums.
struct NormSpan {
    const void* data = nullptr;
    std::int64_t numel = 0;
};

/// Rows of a table that the norm or an update visits.
struct RowSet {
    std::int64_t row_size = 0;
    const std::int64_t* rows = nullptr;
    std::int64_t num_rows = 0;
};

/// What of an update does not depend on the tensor. The kernel works out Adam's bias corrections
/// from StepControl::applied_steps, so that a skipped step is not counted.
struct OptimizerStepArgs {
    UpdateArgs update;  ///< value, grad, slots: the flat buffers
    std::int64_t numel = 0;
    /// Rows of [row_begin, row_begin + table rows * row_size) to visit instead of that whole range;
    /// row_set.rows null = dense.
    std::int64_t row_begin = 0, row_numel = 0;
    RowSet row_set;
    StepControl* control = nullptr;
};

/// Operations of the training layer on one device and dtype. Everything above this line of the
/// house is written against it; a second device is a second implementation. Pointers are device
/// memory unless said. All calls are deterministic, allocate nothing, and are enqueued in order on
/// the device's queue (the CPU returns when done).
class Ops {
public:
    virtual ~Ops() = default;
    /// Errors: Unsupported, with the reason, for a dtype or device that has no implementation.
    static std::shared_ptr<Ops> make(DType dtype, Device device, std::shared_ptr<ThreadPool> pool);

    virtual DType dtype() const noexcept = 0;
    virtual Device device() const noexcept = 0;

    virtual void zero(void* data, std::int64_t numel) = 0;
    /// y += alpha * x
    virtual void axpy(double alpha, const void* x, void* y, std::int64_t numel) = 0;
    /// x *= alpha
    virtual void scale(double alpha, void* x, std::int64_t numel) = 0;
    virtual void clamp(double limit, void* x, std::int64_t numel) = 0;
    virtual void copy(const void* from, void* to, std::size_t bytes) = 0;

    virtual void gather_rows(const GatherRowsArgs& args) = 0;
    virtual void scatter_add_rows(const ScatterAddRowsArgs& args) = 0;
    /// table[row] = 0 for each row of the set.
    virtual void zero_rows(void* table, const RowSet& set) = 0;
    /// x[r, ids[r]] = value: writes (1) and clears (0) a one-hot matrix [n, classes].
    virtual void set_one_hot(void* x, std::int64_t classes, const std::int32_t* ids, std::int64_t n,
                             double value) = 0;

    virtual void matmul(const MatMulArgs& args) = 0;
    virtual void matvec(const MatVecArgs& args) = 0;
    virtual void add_bias(const AddBiasArgs& args) = 0;
    virtual void column_sum(const ColumnSumArgs& args) = 0;
    /// Fills row_losses, and dlogits if asked; the caller adds up row_losses in order.
    virtual void softmax_xent(const SoftmaxXentArgs& args) = 0;
    virtual void dropout(const void* x, void* y, std::int64_t numel, double p, std::uint64_t seed,
                         std::uint64_t step, std::uint32_t layer) = 0;

    /// control->grad_norm = norm over the dense spans and the rows; scale and skip follow from it.
    /// `partials` has room for norm_partials() f64.
    virtual void grad_norm(const NormSpan* spans, std::size_t num_spans, const void* table,
                           const RowSet& set, double max_norm, double* partials,
                           StepControl* control) = 0;
    static std::int64_t norm_partials(std::int64_t numel) noexcept {
        return (numel + kNormChunk - 1) / kNormChunk;
    }
    virtual void optimizer_step(const OptimizerStepArgs& args) = 0;
};

}  // namespace carousel
