#pragma once

// Arguments of the recurrent-layer kernels on CUDA, one plain struct per operation.
//
// Two element types: S, in which tensors are stored (f64, f32, bf16, f16; tf32 is stored as f32), and
// A, in which sums, cell states and gradients of states are kept (f64 for f64, else f32).
// A launch works on one step of up to kMaxParts states ((layer, direction) pairs) at once; `t` may
// differ from part to part. Rows are sequences n in [0, N), columns units j; every matrix has unit
// column stride, and `stride` is the distance between rows in elements.
//
// Time rules, the same in forward and backward. len(n) = lengths ? clamp(lengths[n], 0, T) : T; a row
// is valid at t if t < len(n). A cut lies before step t of the walk if
//   forward direction   t < len && reset[t,n]
//   reverse direction   t + 1 < len && reset[t+1,n]
// and the state that a step reads is zero across a cut. Rows that are not valid hand their state on
// unchanged and write y = 0.

#include <cstdint>

#include "carousel/rnn_spec.hpp"
#include "kernels/cuda/launch.hpp"

namespace carousel::cuda {

inline constexpr int kMaxParts = 8;

/// Bits of the device's status word, set by kernels that met bad data in device memory; such data
/// never indexes memory.
enum StatusBit : std::uint32_t {
    kStatusLength = 1U << 0,  ///< a length outside [0, T]; it was clamped
    kStatusToken = 1U << 1,   ///< a token id outside [0, V); it read or added nothing
    kStatusTarget = 1U << 2,  ///< a target outside [0, V) that is not -1; it was ignored
    /// A backward pass met a reserve that no forward pass of its spec and sizes filled; it went on.
    kStatusReserve = 1U << 3,
};

/// Sizes and masks that all parts of a launch share.
struct StepCommon {
    Cell cell = Cell::kLstm;
    DType dtype = DType::kF32;
    std::int64_t seq_len = 0, batch_size = 0, hidden_size = 0;
    std::int64_t output_size = 0;           ///< O: columns of h and y of one direction
    const std::int64_t* lengths = nullptr;  ///< [N] or null
    const std::uint8_t* reset = nullptr;    ///< [T,N] or null
    std::uint32_t* status = nullptr;        ///< the device's status word
    /// Dropout on y: probability, and key on the device so that a replayed graph sees new values.
    double dropout = 0.0;
    const std::uint64_t* dropout_key = nullptr;  ///< [2]: seed, step; null without dropout
    std::int64_t y_columns = 0;                  ///< D*O, for the element index of the mask
    int num_parts = 0;
};

/// Where a step's new hidden state goes.
struct StateOut {
    /// S [N,O], dense: what the next step reads: h, zero across the cut before that step, the old
    /// state where this step is not valid. Null at the last step of the walk.
    void* h_next = nullptr;
    void* y = nullptr;  ///< S [N,O]: h after dropout; 0 where not valid; null = not wanted
    std::int64_t y_stride = 0;
    void* y_out = nullptr;  ///< as y, before dropout; null = not wanted
    std::int64_t y_out_stride = 0;
    void* hy = nullptr;  ///< S [N,O], dense: the state after the walk; null before its end
    std::int64_t mask_column = 0;  ///< first column of this direction in [T,N,D*O]
    std::uint32_t mask_layer = 0;  ///< layer number in the dropout key
    std::int32_t drops = 0;        ///< not zero: y goes through dropout
};

/// One step of one state, forward. GRU reset-before takes two launches with a product between them.
///
///   preact = x_preact + b_ih + h_preact + b_hh, then kernels/cell; W_hn h + b_hn apart in GRUs
struct CellForwardPart {
    std::int64_t t = 0;
    std::int32_t reverse = 0;
    /// S [N,G*H]: x_t W_ih^T (with b_ih if that is null here); may be the memory of `gates`.
    const void* x_preact = nullptr;
    std::int64_t x_preact_stride = 0;
    /// A: h_in W_hh^T. [N,G*H] dense; reset-before: [N,2H] for r,z at the first launch.
    const void* h_preact = nullptr;
    const void* h_preact_n = nullptr;  ///< A [N,H], reset-before, second launch: (r*h_in) W_hn^T
    const void* b_ih = nullptr;        ///< S [G*H] or null
    const void* b_hh = nullptr;        ///< S [G*H] or null
    const void* h_in = nullptr;        ///< S [N,O] dense: the state this step reads, cut applied
    const void* c_prev = nullptr;      ///< A [N,H] dense or null = zero; cut not applied; LSTM
    void* c = nullptr;                 ///< A [N,H] dense, LSTM; may be c_prev
    void* cy = nullptr;                ///< A [N,H]: the same again at the end of the walk, or null
    void* c_out = nullptr;             ///< A [N,H]: the same on request, 0 where not valid; or null
    /// S [N,slots*H] or null: gates after activation in weight order; GRU: then W_hn h + b_hn. Left
    /// alone where not valid.
    void* gates = nullptr;
    std::int64_t gates_stride = 0;
    void* gates_out = nullptr;  ///< S [N,G*H] dense or null, on request; 0 where not valid
    /// S [N,H] dense, 0 where not valid. LSTM with projection: h before it, and `out` is not used
    /// here. Reset-before: r*h_in, written by the first launch.
    void* aux = nullptr;
    StateOut out;
};

struct CellForwardArgs {
    StepCommon common;
    CellForwardPart parts[kMaxParts];
};

/// Hidden state from a projection, one step: h = projected [N,P] (A), then StateOut.
struct ProjectForwardPart {
    std::int64_t t = 0;
    std::int32_t reverse = 0;
    const void* projected = nullptr;  ///< A [N,O] dense
    const void* h_in = nullptr;       ///< S [N,O] dense: handed on where the step is not valid
    StateOut out;
};
struct ProjectForwardArgs {
    StepCommon common;
    ProjectForwardPart parts[kMaxParts];
};

/// Before the first step: h_in = hx (0 if null), zero across the cut before that step. All states of
/// the launch.
struct StateInPart {
    std::int64_t t = 0;  ///< of the first step: 0, or T-1 in the reverse direction
    std::int32_t reverse = 0;
    const void* hx = nullptr;  ///< S [N,O] dense or null
    void* h_in = nullptr;      ///< S [N,O] dense
    /// Gets the stamp of the pass that fills this reserve; one part of a pass, the others null.
    std::uint64_t* stamp = nullptr;
    std::uint64_t stamp_value = 0;
};
struct StateInArgs {
    StepCommon common;
    StateInPart parts[kMaxParts];
};

/// Gradient of h_t as it arrives at a step: dh = dy*dropout + (cut after the step ? 0 : dh_state).
/// "After" in the order of the forward walk: the cut before the step that the forward walk did next.
struct GradIn {
    const void* dy = nullptr;  ///< S [N,O] or null = 0; never read where the step is not valid
    std::int64_t dy_stride = 0;
    /// A [N,O] dense, in: gradient of the state handed to the next step (dhy at the last). Out: the
    /// part of the gradient of h_in that bypasses the weights: 0, GRU: z*dh; not valid: unchanged.
    /// The product with W_hh is then added to it.
    void* dh_state = nullptr;
    std::int64_t mask_column = 0;
    std::uint32_t mask_layer = 0;
    std::int32_t drops = 0;
    /// A [norm_blocks] or null: sums of dh^2 by block of the launch, for the norm of this step.
    void* norm_partials = nullptr;
};

/// One step of one state, backward. Reset-before takes two launches with a product between them.
struct CellBackwardPart {
    std::int64_t t = 0;
    std::int32_t reverse = 0;
    std::int32_t last =
        0;      ///< not zero at the last step of the forward walk: there is no cut after
    GradIn in;  ///< without projection
    /// With projection: A [N,H] dense, dL/d(h before projection); `in` is then not used.
    const void* dh = nullptr;
    const void* gates = nullptr;  ///< S [N,slots*H]
    std::int64_t gates_stride = 0;
    const void* c_prev = nullptr;  ///< A [N,H] dense or null = zero; cut not applied
    const void* c = nullptr;       ///< A [N,H] dense
    const void* h_in = nullptr;    ///< S [N,O] dense, GRU
    /// A [N,H] dense, LSTM. In: gradient of the c handed to the next step. Out: of the c this step
    /// read, before the cut between them.
    void* dc = nullptr;
    const void* drh = nullptr;  ///< A [N,H], reset-before, second launch: dn W_hn
    /// S [N,grad slots*H]: LSTM and vanilla in weight order; GRU reset-after n | r z hn
    /// (kernels/cell/gates.hpp); reset-before r z n. 0 where not valid.
    void* dgates = nullptr;
    std::int64_t dgates_stride = 0;
    /// A [row blocks, grad slots*H] or null: running sums of dgates over steps; each thread adds to
    /// its own element, so the order of additions is that of the steps.
    void* db_partials = nullptr;
};

struct CellBackwardArgs {
    StepCommon common;
    CellBackwardPart parts[kMaxParts];
};

/// Backward of ProjectForward: dp = dh as GradIn says, [N,P] (S), 0 where not valid.
struct ProjectBackwardPart {
    std::int64_t t = 0;
    std::int32_t reverse = 0;
    std::int32_t last = 0;
    GradIn in;
    void* dp = nullptr;  ///< S [N,O] dense
};
struct ProjectBackwardArgs {
    StepCommon common;
    ProjectBackwardPart parts[kMaxParts];
};

/// Start of a backward walk: dh_state = dhy (S [N,O]) or 0, dc = dcy (A [N,H]) or 0.
/// End: dhx = dh_state, dcx = dc, both 0 across the cut before the first step (t, reverse as in
/// StateInPart). Null pointers are not read or written.
struct StateGradPart {
    std::int64_t t = 0;
    std::int32_t reverse = 0;
    const void* dhy = nullptr;  ///< start
    const void* dcy = nullptr;
    void* dh_state = nullptr;
    void* dc = nullptr;
    void* dhx = nullptr;  ///< end
    void* dcx = nullptr;
    /// Start: what the reserve must hold, else kStatusReserve; one part of a pass, the others null.
    const std::uint64_t* stamp = nullptr;
    std::uint64_t stamp_value = 0;
};
struct StateGradArgs {
    StepCommon common;
    StateGradPart parts[kMaxParts];
};

/// to = from ? {from[0], from[1]} : {seed, step}: a dropout key into device memory.
struct SetKeyArgs {
    std::uint64_t* to = nullptr;          ///< [2]
    const std::uint64_t* from = nullptr;  ///< [2], device memory, or null
    std::uint64_t seed = 0, step = 0;
};

/// out[j] (+)= sum over r of partials[r*stride + j], in order of r: bias gradients.
struct SumRowsArgs {
    DType dtype = DType::kF32;  ///< of A and of `out`: f64 or f32
    const void* partials = nullptr;
    std::int64_t rows = 0, columns = 0, stride = 0;
    void* out = nullptr;
    std::int32_t accumulate = 0;
};

/// norms[r] = sqrt(sum of partials[r*columns .. +columns)), in a fixed order.
struct StepNormsArgs {
    DType dtype = DType::kF32;  ///< of A and of `norms`
    const void* partials = nullptr;
    std::int64_t rows = 0, columns = 0;
    void* norms = nullptr;
};

/// out[t,n,:] = valid(t,n) ? x[t,n,:] : 0, S, dense [T,N,columns]: operands of weight gradients.
struct MaskedRowsArgs {
    DType dtype = DType::kF32;
    std::int64_t t_begin = 0, steps = 0, seq_len = 0, batch_size = 0, columns = 0;
    const void* x = nullptr;  ///< element (t, n, j) at x[t*stride_t + n*stride_n + j]
    std::int64_t stride_t = 0, stride_n = 0;
    const std::int64_t* lengths = nullptr;
    void* out = nullptr;  ///< [steps,N,columns], the first row is step t_begin
};

/// Geometry of the cell and projection kernels, in one place: a block covers `units` columns of
/// `rows_per_block` rows.
struct StepGeometry {
    int vector = 1;  ///< units per thread, from sizes, strides and addresses
    unsigned block_x = 1, block_y = 1;
    std::int64_t row_blocks = 1;     ///< rows of db_partials
    std::int64_t column_blocks = 1;  ///< norm_blocks = row_blocks * column_blocks
};
/// Bound on row_blocks that workspace is planned with; holds for any batch size.
inline constexpr std::int64_t kMaxRowBlocks = 32;
/// Columns of a block.
inline constexpr int kStepUnits = 32;
/// Bound on norm_blocks of a step.
constexpr std::int64_t max_norm_blocks(std::int64_t columns) noexcept {
    return kMaxRowBlocks * ((columns + kStepUnits - 1) / kStepUnits);
}

/// Launchers of one build of the kernels. Pure functions: they choose instantiation and geometry.
struct RnnLaunchers {
    Launch (*set_key)(const SetKeyArgs&);
    Launch (*state_in)(const StateInArgs&);
    Launch (*cell_forward)(const CellForwardArgs&);  ///< reset-before: first half
    Launch (*cell_forward_second)(const CellForwardArgs&);
    Launch (*project_forward)(const ProjectForwardArgs&);
    Launch (*state_grad_begin)(const StateGradArgs&);
    Launch (*project_backward)(const ProjectBackwardArgs&);
    Launch (*cell_backward)(const CellBackwardArgs&);  ///< reset-before: first half
    Launch (*cell_backward_second)(const CellBackwardArgs&);
    Launch (*state_grad_end)(const StateGradArgs&);
    Launch (*sum_rows)(const SumRowsArgs&);
    Launch (*step_norms)(const StepNormsArgs&);
    Launch (*masked_rows)(const MaskedRowsArgs&);
    /// Geometry that cell_backward (columns = H) or project_backward (columns = O) will use for these
    /// sizes whatever the alignment: row_blocks and column_blocks do not depend on `vector`.
    StepGeometry (*geometry)(DType dtype, std::int64_t rows, std::int64_t columns);
};

}  // namespace carousel::cuda
