#pragma once

// Arguments and launchers of the training layer's kernels on CUDA, twins of kernels/cpu/nn_*.hpp.
//
// Two element types: S, in which tensors are stored (f64, f32, bf16, f16; tf32 is stored as f32), and
// A, in which sums, gradients of parameters, optimiser states and master weights are kept (f64 for f64,
// else f32). `dtype` names S; arrays hold S where nothing else is said. Matrices are
// row-major, sizes and strides in elements. Ids and targets are device memory; one outside its range
// never indexes memory: it sets a StatusBit and reads or adds nothing.
//
// Scalars that change from step to step (learning rate, random key, scale of the loss) can be given by
// value, or by an address in device memory that a replayed graph reads again.

#include <cstddef>
#include <cstdint>

#include "carousel/tensor.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/nn_args.hpp"

namespace carousel::cuda {

/// y += alpha x.
struct AxpyArgs {
    DType dtype = DType::kF32;
    double alpha = 1.0;
    const void* x = nullptr;
    void* y = nullptr;
    std::int64_t numel = 0;
};

/// x *= factor ? *factor : alpha.
struct ScaleArgs {
    DType dtype = DType::kF32;
    double alpha = 1.0;
    const double* factor = nullptr;
    void* x = nullptr;
    std::int64_t numel = 0;
};

/// x = min(limit, max(-limit, x)); NaN stays NaN.
struct ClampArgs {
    DType dtype = DType::kF32;
    double limit = 0.0;
    void* x = nullptr;
    std::int64_t numel = 0;
};

/// to = from, rounded to nearest even.
struct CastArgs {
    DType from_dtype = DType::kF32, to_dtype = DType::kF32;
    const void* from = nullptr;
    void* to = nullptr;
    std::int64_t numel = 0;
};

/// y = x * mask/(1-p), the mask of src/backend/dropout_mask.hpp; y may be x.
struct DropoutArgs {
    DType dtype = DType::kF32;
    const void* x = nullptr;
    void* y = nullptr;
    std::int64_t numel = 0;
    double p = 0.0;
    const std::uint64_t* key = nullptr;  ///< [2] seed, step; null: the two below
    std::uint64_t seed = 0, step = 0;
    std::uint32_t layer = 0;
};

/// y[r] = table[ids[r]]; zeros for an id outside [0, num_rows).
struct GatherArgs {
    DType dtype = DType::kF32;
    const void* table = nullptr;
    std::int64_t num_rows = 0, row_size = 0;
    const std::int32_t* ids = nullptr;
    std::int64_t n = 0;
    void* y = nullptr;
    std::uint32_t* status = nullptr;
};

/// table[ids[r]] += x[r], the rows of one id in the order of r; table (a gradient) holds A, x S.
struct ScatterArgs {
    DType dtype = DType::kF32;
    void* table = nullptr;
    std::int64_t num_rows = 0, row_size = 0;
    const std::int32_t* ids = nullptr;
    std::int64_t n = 0;
    const void* x = nullptr;
    std::uint32_t* status = nullptr;
    void* workspace = nullptr;  ///< scatter_workspace_bytes(n)
};

/// x[r, ids[r]] = value.
struct OneHotArgs {
    DType dtype = DType::kF32;
    void* x = nullptr;
    std::int64_t classes = 0;
    const std::int32_t* ids = nullptr;
    std::int64_t n = 0;
    double value = 1.0;
    std::uint32_t* status = nullptr;
};

/// table[rows[i]] = 0.
struct ZeroRowsArgs {
    DType dtype = DType::kF32;
    void* table = nullptr;
    std::int64_t num_rows = 0, row_size = 0;
    const std::int64_t* rows = nullptr;
    std::int64_t n = 0;
    std::uint32_t* status = nullptr;
};

/// x[r] += bias.
struct RowBiasArgs {
    DType dtype = DType::kF32;
    void* x = nullptr;
    std::int64_t rows = 0, cols = 0, ld = 0;
    const void* bias = nullptr;
};

/// y[j] = (accumulate ? y[j] : 0) + sum over rows of x[r,j], in a fixed order; y holds A, x S.
struct ColumnSumsArgs {
    DType dtype = DType::kF32;
    const void* x = nullptr;
    std::int64_t rows = 0, cols = 0, ld = 0;
    void* y = nullptr;
    std::int32_t accumulate = 0;
    void* workspace = nullptr;  ///< column_sums_workspace_bytes(dtype, rows, cols)
};

/// Softmax cross-entropy of each row, see include/carousel/loss.hpp.
struct CrossEntropyArgs {
    DType dtype = DType::kF32;
    const void* logits = nullptr;
    const void* bias = nullptr;  ///< null = zero
    const std::int32_t* targets = nullptr;
    std::int64_t rows = 0, classes = 0;
    double scale = 1.0;
    const LossScale* loss_scale = nullptr;  ///< multiplies `scale`; null = 1
    void* dlogits = nullptr;                ///< null = not wanted; may be `logits`
    double* row_losses = nullptr;           ///< [rows]; 0 where masked or out of range
    std::uint32_t* status = nullptr;
};

/// record = (accumulate ? record : 0) + {sum of row_losses, rows whose target counts}; its status is
/// that of the device.
struct SumLossesArgs {
    const double* row_losses = nullptr;
    const std::int32_t* targets = nullptr;
    std::int64_t rows = 0, classes = 0;
    LossRecord* record = nullptr;
    std::int32_t accumulate = 0;
    const std::uint32_t* status = nullptr;
};

/// partials[c] = sum of squares of chunk c of kNormChunk elements.
struct SquaresArgs {
    DType dtype = DType::kF32;
    const void* x = nullptr;
    std::int64_t numel = 0;
    double* partials = nullptr;
};

/// Norm, clip coefficient and skip flag from the partial sums; moves the scale of the loss.
struct DecideArgs {
    const double* partials = nullptr;
    std::int64_t count = 0;
    double max_norm = 0.0;
    StepControl* control = nullptr;
    LossScale* loss_scale = nullptr;  ///< null = gradients are not scaled
};

/// Scalars of one update, worked out once on the device.
struct UpdateScalars {
    double lr = 0.0;
    double grad_scale = 1.0;
    double step_size = 0.0;       ///< Adam: lr / (1 - beta1^t)
    double inv_sqrt_bias2 = 1.0;  ///< Adam: 1 / sqrt(1 - beta2^t)
    double weight_decay = 0.0;    ///< AdamW: lr * weight_decay
    std::int32_t skip = 0;
    std::int32_t pad = 0;
};

/// scalars from control, learning rate and scale of the loss; counts the update as applied or skipped.
struct ResolveArgs {
    UpdateArgs update;
    const double* lr = nullptr;  ///< device memory; null: update.lr
    StepControl* control = nullptr;
    const LossScale* loss_scale = nullptr;
    UpdateScalars* scalars = nullptr;
};

/// One optimiser update of a flat buffer, see include/carousel/optimizer.hpp. Values, gradients and
/// slots hold A; where S is narrower than A, `working` gets the new values in S.
struct ParamUpdateArgs {
    DType dtype = DType::kF32;
    UpdateArgs update;
    void* working = nullptr;
    std::int64_t numel = 0;
    const UpdateScalars* scalars = nullptr;
};

/// Draws one token per row of logits, as train::TokenDraw does for the same number in [0, 1).
struct SampleArgs {
    DType dtype = DType::kF32;
    const void* logits = nullptr;  ///< [rows, vocab_size]
    std::int64_t rows = 0, vocab_size = 0, ld = 0;
    double temperature = 1.0;  ///< 0: the first of the largest
    std::int64_t top_k = 0;    ///< 0 = all
    double top_p = 1.0;
    const double* uniforms = nullptr;  ///< [rows] or null: from the key
    /// seed, draw: row r uses random_uniform(seed, kSample, draw, r) of src/train/random.hpp.
    const std::uint64_t* key = nullptr;  ///< [2]; null: the two below
    std::uint64_t seed = 0, draw = 0;
    std::int32_t* tokens = nullptr;  ///< [rows]
};

/// The measured coefficients have been applied: control->scale = 1, loss_scale->unscale = 1.
struct ResetScaleArgs {
    StepControl* control = nullptr;
    LossScale* loss_scale = nullptr;  ///< or null
};

/// Launchers of one build of the kernels. Pure functions: they choose instantiation and geometry.
/// Those with a `step` are sequences: launch steps 0 .. n-1 in order on one queue.
struct NnLaunchers {
    Launch (*axpy)(const AxpyArgs&);
    Launch (*scale)(const ScaleArgs&);
    Launch (*reset_scale)(const ResetScaleArgs&);
    Launch (*clamp)(const ClampArgs&);
    Launch (*cast)(const CastArgs&);
    Launch (*dropout)(const DropoutArgs&);
    Launch (*gather_rows)(const GatherArgs&);
    int (*scatter_steps)(const ScatterArgs&);
    Launch (*scatter_add_rows)(const ScatterArgs&, int step);
    std::size_t (*scatter_workspace_bytes)(std::int64_t n);
    Launch (*set_one_hot)(const OneHotArgs&);
    Launch (*zero_rows)(const ZeroRowsArgs&);
    Launch (*add_bias)(const RowBiasArgs&);
    Launch (*column_sum)(const ColumnSumsArgs&, int step);  ///< 2 steps
    std::size_t (*column_sum_workspace_bytes)(DType dtype, std::int64_t rows, std::int64_t cols);
    Launch (*softmax_xent)(const CrossEntropyArgs&);
    Launch (*sum_losses)(const SumLossesArgs&);
    Launch (*sum_squares)(const SquaresArgs&);
    Launch (*decide)(const DecideArgs&);
    Launch (*resolve)(const ResolveArgs&);
    Launch (*update)(const ParamUpdateArgs&);
    Launch (*sample)(const SampleArgs&);
};

}  // namespace carousel::cuda
