#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "carousel/device.hpp"
#include "carousel/tensor.hpp"
#include "kernels/nn_args.hpp"

namespace carousel {

/// C[m,n] = alpha * op(A) op(B) + beta * C; row-major, op transposes. A and B hold the Ops' dtype, and
/// so does C, unless it is a gradient of parameters: those hold the state dtype.
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
    bool c_is_gradient = false;
};

/// A run of elements of the state dtype whose squares the norm sums.
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
    UpdateArgs update;  ///< flat buffers: value, grad, slots in the state dtype
    std::int64_t numel = 0;
    void* working = nullptr;     ///< values rounded to the Ops' dtype, where that is narrower
    const double* lr = nullptr;  ///< device memory; null: update.lr
    const LossScale* loss_scale = nullptr;  ///< that the gradients were measured with; null = none
    /// Rows of [row_begin, row_begin + table rows * row_size) to visit instead of that whole range;
    /// row_set.rows null = dense.
    std::int64_t row_begin = 0, row_numel = 0;
    RowSet row_set;
    StepControl* control = nullptr;
};

/// Norm of the gradients and what follows from it.
struct GradNormArgs {
    const NormSpan* spans = nullptr;  ///< host memory
    std::size_t num_spans = 0;
    const void* table = nullptr;  ///< of which only `rows` are visited
    RowSet rows;                  ///< empty unless visits_rows()
    double max_norm = 0.0;        ///< 0 = no clipping
    double* partials = nullptr;   ///< norm_partials() f64 per span, and one per row
    StepControl* control = nullptr;
    LossScale* loss_scale = nullptr;  ///< that the gradients carry; moved for the next step
};

/// Draws tokens from rows of logits, see train::TokenDraw.
struct SampleTokensArgs {
    const void* logits = nullptr;  ///< [rows, vocab_size]
    std::int64_t rows = 0, vocab_size = 0;
    double temperature = 1.0;
    std::int64_t top_k = 0;
    double top_p = 1.0;
    const std::uint64_t* key = nullptr;  ///< [2] seed, draw, in device memory; null: by value
    std::uint64_t seed = 0, draw = 0;
    std::int32_t* tokens = nullptr;  ///< [rows]
};

/// Operations of the training layer on one device and dtype. Everything above this line of the
/// house is written against it; a second device is a second implementation. Pointers are device
/// memory unless said. All calls are deterministic, and are enqueued in order on the device's queue
/// (the CPU returns when done); they allocate nothing once the largest sizes have been seen. Calls
/// that only enqueue can be captured in a graph, except upload() and read_back().
class Ops {
public:
    virtual ~Ops() = default;
    /// Errors: Unsupported, with the reason, for a dtype or device that has no implementation.
    static std::shared_ptr<Ops> make(DType dtype, Device device, std::shared_ptr<ThreadPool> pool);

    virtual DType dtype() const noexcept = 0;
    virtual Device device() const noexcept = 0;
    /// Of gradients of parameters, optimiser states and master weights: f64 for f64, else f32.
    DType state_dtype() const noexcept {
        return dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
    }
    /// True if values live twice: masters in state_dtype() and working copies in dtype().
    bool has_working_copy() const noexcept {
        return dtype_bytes(dtype()) < dtype_bytes(state_dtype());
    }
    /// True if norms and updates can be limited to the rows of a table that were touched.
    virtual bool visits_rows() const noexcept = 0;

    /// Host to device; `from` can be reused on return. Waits only for a full ring of copies.
    virtual void upload(void* to, const void* from, std::size_t bytes) = 0;
    /// Device to host: what `from` holds after the calls so far, at most kReadBackBytes. Only
    /// enqueues; errors: InvalidArgument if kReadBacks results are waiting to be collected.
    using Ticket = std::uint64_t;
    static constexpr std::size_t kReadBackBytes = 1024;
    static constexpr int kReadBacks = 16;
    virtual Ticket read_back(const void* from, std::size_t bytes) = 0;
    /// Waits for a read_back and gives its slot back.
    virtual void collect(Ticket ticket, void* to) = 0;
    virtual void drop(Ticket ticket) = 0;
    /// Device to host; waits for everything enqueued.
    virtual void download(void* to, const void* from, std::size_t bytes) = 0;
    /// Forgets the bad data that kernels met.
    virtual void clear_status() = 0;

    virtual void zero(void* data, std::size_t bytes) = 0;
    /// y += alpha * x
    virtual void axpy(double alpha, const void* x, void* y, std::int64_t numel) = 0;
    /// x *= alpha
    virtual void scale(double alpha, void* x, std::int64_t numel) = 0;
    /// x *= *factor, a number in device memory; x (gradients) in the state dtype.
    virtual void scale_by(const double* factor, void* x, std::int64_t numel) = 0;
    /// x (gradients) in the state dtype.
    virtual void clamp(double limit, void* x, std::int64_t numel) = 0;
    /// to = from, rounded to nearest even.
    virtual void cast(DType from_dtype, const void* from, DType to_dtype, void* to,
                      std::int64_t numel) = 0;
    virtual void copy(const void* from, void* to, std::size_t bytes) = 0;

    virtual void gather_rows(const GatherRowsArgs& args) = 0;
    /// The table (a gradient) is in the state dtype.
    virtual void scatter_add_rows(const ScatterAddRowsArgs& args) = 0;
    /// table[row] = 0 for each row of the set.
    virtual void zero_rows(void* table, const RowSet& set) = 0;
    /// x[r, ids[r]] = value: writes (1) and clears (0) a one-hot matrix [n, classes].
    virtual void set_one_hot(void* x, std::int64_t classes, const std::int32_t* ids, std::int64_t n,
                             double value) = 0;

    virtual void matmul(const MatMulArgs& args) = 0;
    virtual void matvec(const MatVecArgs& args) = 0;
    virtual void add_bias(const AddBiasArgs& args) = 0;
    /// The sums (a gradient) are in the state dtype.
    virtual void column_sum(const ColumnSumArgs& args) = 0;
    /// Fills row_losses, and dlogits if asked.
    virtual void softmax_xent(const SoftmaxXentArgs& args) = 0;
    virtual void sum_losses(const LossSumArgs& args) = 0;
    virtual void dropout(const void* x, void* y, std::int64_t numel, double p, std::uint64_t seed,
                         std::uint64_t step, std::uint32_t layer) = 0;
    /// As dropout; key [2] = seed, step in device memory.
    virtual void dropout_keyed(const void* x, void* y, std::int64_t numel, double p,
                               const std::uint64_t* key, std::uint32_t layer) = 0;
    /// Errors: Unsupported on the CPU, where train::TokenDraw does this.
    virtual void sample_tokens(const SampleTokensArgs& args) = 0;

    /// control->grad_norm = norm over the dense spans and the rows; scale and skip follow from it.
    virtual void grad_norm(const GradNormArgs& args) = 0;
    /// The measured coefficients have been applied: control->scale = 1, loss_scale->unscale = 1.
    virtual void reset_scale(StepControl* control, LossScale* loss_scale) = 0;
    static std::int64_t norm_partials(std::int64_t numel) noexcept {
        return (numel + kNormChunk - 1) / kNormChunk;
    }
    virtual void optimizer_step(const OptimizerStepArgs& args) = 0;
};

}  // namespace carousel
