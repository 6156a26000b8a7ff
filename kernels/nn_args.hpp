#pragma once

#include <cstdint>

// Arguments of the training layer's operations, one plain struct per operation, shared by the CPU
// and the CUDA loops. `void*` points to elements of the dtype that the table of kernels was made
// for (f32 or f64). Matrices are row-major; `ld` is the distance between rows in elements.

namespace carousel {

/// Scale of the loss for narrow types, in device memory: gradients are multiplied by it so that they
/// do not underflow. A step with a non-finite gradient halves it and is skipped; enough finite steps
/// in a row double it. Powers of two, so that scaling rounds nothing.
struct LossScale {
    double scale = 65536.0;
    double unscale = 1.0;  ///< 1 / the scale that the last measured gradients carry
    double growth = 2.0, backoff = 0.5;
    double min_scale = 1.0, max_scale = 16777216.0;
    std::int64_t growth_interval = 2000;  ///< finite steps in a row before it grows
    std::int64_t good_steps = 0;          ///< finite steps since it last changed
};

/// Sum of losses of one or more batches, in device memory.
struct LossRecord {
    double loss_sum = 0.0;
    std::int64_t count = 0;
    std::uint32_t status = 0;  ///< the device's status word (StatusBit of kernels/cuda)
    std::uint32_t pad = 0;
};

/// y[r] = table[ids[r]], rows of `row_size`.
struct GatherRowsArgs {
    const void* table = nullptr;
    std::int64_t row_size = 0;
    const std::int32_t* ids = nullptr;  ///< on the CPU checked by the caller
    std::int64_t n = 0;
    void* y = nullptr;
    std::int64_t num_rows = 0;  ///< of the table, for the check that a CUDA kernel makes
};

/// table[ids[r]] += x[r] in the order of r. Split over columns, so that no two threads meet.
struct ScatterAddRowsArgs {
    void* table = nullptr;
    std::int64_t row_size = 0;
    const std::int32_t* ids = nullptr;
    std::int64_t n = 0;
    const void* x = nullptr;
    std::int64_t num_rows = 0;  ///< as in GatherRowsArgs
};

/// y[j] = (accumulate ? y[j] : 0) + sum over rows r, in order, of x[r,j].
struct ColumnSumArgs {
    const void* x = nullptr;
    std::int64_t rows = 0, cols = 0, ld = 0;
    void* y = nullptr;
    bool accumulate = false;
};

/// x[r] += bias, for each row.
struct AddBiasArgs {
    void* x = nullptr;
    std::int64_t rows = 0, cols = 0, ld = 0;
    const void* bias = nullptr;
};

/// Softmax cross-entropy of each row, see include/carousel/loss.hpp.
struct SoftmaxXentArgs {
    const void* logits = nullptr;
    const void* bias = nullptr;  ///< null = zero
    const std::int32_t* targets = nullptr;
    std::int64_t rows = 0, classes = 0;
    double scale = 1.0;
    void* dlogits = nullptr;                ///< null = not wanted; may be `logits`
    double* row_losses = nullptr;           ///< [rows]; 0 where masked
    const LossScale* loss_scale = nullptr;  ///< multiplies `scale`; null = 1
};

/// Sum of the losses that SoftmaxXentArgs filled in.
struct LossSumArgs {
    const double* row_losses = nullptr;
    const std::int32_t* targets = nullptr;
    std::int64_t rows = 0, classes = 0;
    LossRecord* record = nullptr;
    bool accumulate = false;  ///< add to what the record holds
};

/// y[r] = weight[r] . x + bias[r]: a matrix times one vector.
struct MatVecArgs {
    const void* weight = nullptr;
    std::int64_t rows = 0, cols = 0;
    const void* x = nullptr;
    const void* bias = nullptr;  ///< null = zero
    void* y = nullptr;
};

/// y = x * mask, elementwise (mask holds 0 or 1/(1-p)).
struct MultiplyArgs {
    const void* x = nullptr;
    const void* mask = nullptr;
    void* y = nullptr;
};

/// Elements of one chunk of the norm: long enough that one f64 per chunk is little, short enough
/// that f32 lanes lose nothing (4096 / 16 lanes / 4 chains = 64 additions each).
inline constexpr std::int64_t kNormChunk = 4096;

/// Scalars of one optimiser step, in device memory. GradClip writes it, the optimiser reads it.
struct StepControl {
    double grad_norm = 0.0;
    double scale = 1.0;
    std::int64_t applied_steps = 0;  ///< updates applied so far
    std::int64_t skipped_steps = 0;
    std::int32_t skip = 0;  ///< not zero: the next update changes nothing
    std::int32_t pad = 0;
};

enum class UpdateRule : int { kSgd = 0, kSgdMomentum, kRmsprop, kRmspropMomentum, kAdam, kAdamW };

/// One optimiser update of a run of elements, see include/carousel/optimizer.hpp. The factors that
/// depend on t were worked out by the caller.
struct UpdateArgs {
    UpdateRule rule = UpdateRule::kSgd;
    void* value = nullptr;
    const void* grad = nullptr;
    void* slot0 = nullptr;  ///< momentum buffer | mean square | first moment
    void* slot1 = nullptr;  ///< RMSProp's momentum buffer | second moment
    double lr = 0.0;
    double scale = 1.0;         ///< of the gradient
    double clip_value = 0.0;    ///< 0 = none
    double weight_decay = 0.0;  ///< L2; AdamW: lr * weight_decay
    double momentum = 0.0;
    double alpha = 0.0;
    double beta1 = 0.0, beta2 = 0.0;
    double eps = 0.0;
    double step_size = 0.0;       ///< Adam: lr / (1 - beta1^t)
    double inv_sqrt_bias2 = 1.0;  ///< Adam: 1 / sqrt(1 - beta2^t)
};

}  // namespace carousel
