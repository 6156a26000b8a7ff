#pragma once

#include <cstdint>

#include "carousel/rnn_params.hpp"
#include "carousel/rnn_plan.hpp"
#include "carousel/tensor.hpp"

// Dims of everything below: T = seq_len, N = batch_size, I = input_size, H = hidden_size,
// O = proj_size or H, L = num_layers, D = num_directions, G = gates; row-major, last index fastest
// and contiguous. Batch-first data [N,T,*] is passed as the transposed view [T,N,*]
// (TensorView::transposed01), never copied. Unbatched data is N = 1.
//
// Element types: every tensor has the spec's dtype, with these exceptions. tf32 tensors are f32. With
// bf16 and f16, f32 holds cell states (cx, cy, cell_states, dcy, dcx), gradients of weights, and
// dh_norms. All memory of a CUDA plan's calls is memory of its device, lengths and reset included.

namespace carousel {

/// Which steps of which sequence exist, and where state is cut.
struct SequenceMask {
    /// [N] i64, 0 <= lengths[n] <= T, unsorted; null = all T. (On a CUDA device the kernels check
    /// them: one out of range is clamped and reported by synchronize().) Beyond a sequence's end y is 0, x and
    /// dy are never read and dx is 0; hy, cy are those of its last valid step; the reverse direction
    /// starts there. Length 0: hy = hx, cy = cx, dhx = dhy, dcx = dcy.
    const std::int64_t* lengths = nullptr;
    /// [T,N] u8; reset[t,n] = 1 is a boundary between t-1 and t in every layer: the forward
    /// direction zeroes h and c before x_t (at t = 0 it ignores hx, cx, whose gradients are 0), the
    /// reverse direction before x_{t-1}. Ignored at t >= length. Null = none.
    const std::uint8_t* reset = nullptr;
};

/// Tensors of a forward pass. Undefined optional tensors mean zero (inputs) or not wanted (outputs).
struct RnnForwardArgs {
    std::int64_t seq_len = 0;     ///< T of this run, 1 <= T <= planned
    std::int64_t batch_size = 0;  ///< N of this run, 1 <= N <= planned
    ConstTensorView x;            ///< [T,N,I]
    ConstTensorView hx;           ///< [L*D,N,O], optional
    ConstTensorView cx;           ///< [L*D,N,H], optional, LSTM only
    TensorView y;                 ///< [T,N,D*O], written fully; must not overlap x
    TensorView hy;                ///< [L*D,N,O], optional; may be the same memory as hx
    TensorView cy;                ///< [L*D,N,H], optional, LSTM only; may be the same memory as cx
    SequenceMask mask;
    /// Exactly one of the two: plain weights, packed inside the run; or weights packed before.
    const RnnParams* params = nullptr;
    const PackedWeights* packed = nullptr;

    TensorView layer_outputs;  ///< [L,T,N,D*O], optional: y of every layer, before dropout
    TensorView cell_states;    ///< [L*D,T,N,H], optional, LSTM only: all c_t
    TensorView gates;          ///< [L*D,T,N,G*H], optional: gates after activation, in weight order

    /// Key of the dropout mask (forward_training only): a mask is a function of seed, step, layer and
    /// the element's index in [T,N,D*O], and of nothing else.
    std::uint64_t dropout_seed = 0;
    std::uint64_t dropout_step = 0;
    /// CUDA: seed and step [2] in device memory, read instead of the two above when the pass runs, so
    /// that a replayed graph sees new values. Null = not used.
    const std::uint64_t* dropout_key = nullptr;

    void* workspace = nullptr;  ///< >= plan.workspace_bytes(), 64-byte aligned
    std::size_t workspace_bytes = 0;
    void* reserve = nullptr;  ///< forward_training: >= plan.reserve_bytes(), 64-byte aligned
    std::size_t reserve_bytes = 0;
    StreamRef stream{};
};

/// Tensors of a backward pass. The forward_training call that filled `reserve` must have had the same
/// seq_len, batch_size, x, hx, cx, y, mask and weights, all unchanged since.
struct RnnBackwardArgs {
    std::int64_t seq_len = 0;
    std::int64_t batch_size = 0;
    ConstTensorView x, hx, cx, y;  ///< as in forward_training
    SequenceMask mask;             ///< as in forward_training
    const RnnParams* params = nullptr;
    const PackedWeights* packed = nullptr;

    ConstTensorView dy;         ///< [T,N,D*O], optional (zero)
    ConstTensorView dhy;        ///< [L*D,N,O], optional (zero); adds to what y contributes
    ConstTensorView dcy;        ///< [L*D,N,H], optional (zero), LSTM only
    TensorView dx;              ///< [T,N,I], optional
    TensorView dhx;             ///< [L*D,N,O], optional
    TensorView dcx;             ///< [L*D,N,H], optional, LSTM only
    RnnGrads* grads = nullptr;  ///< optional; any of its tensors may be undefined
    bool accumulate = false;    ///< true: grads are added to; false: overwritten
    /// [L*D,T], optional: Euclidean norm over [N,O] of the total dL/dh_t of each layer, direction and
    /// step (what reaches h_t from y and from later steps); t counts from the sequence's start.
    TensorView dh_norms;

    void* workspace = nullptr;
    std::size_t workspace_bytes = 0;
    const void* reserve = nullptr;  ///< left unmutated
    std::size_t reserve_bytes = 0;
    StreamRef stream{};
};

/// Runs the stack over a sequence; keeps nothing for backward and applies no dropout.
///
/// Stream   CPU: returns when done. CUDA: enqueued on args.stream, returns before completion.
/// Errors   InvalidArgument: a tensor's shape, dtype, device or aliasing breaks a rule above; the
///          sentence names it. Nothing is written then.
/// Repeat   bitwise equal run to run on one device, build and thread count.
CAROUSEL_API void forward_inference(const RnnPlan& plan, const RnnForwardArgs& args);

/// As forward_inference, with dropout between layers, and saves in `reserve` what backward needs.
CAROUSEL_API void forward_training(const RnnPlan& plan, const RnnForwardArgs& args);

/// Gradients of a scalar loss through forward_training, given dy, dhy, dcy.
///
/// Errors   as forward_inference. A reserve that no pass of this spec and these sizes filled: on the
///          CPU InvalidArgument; on a CUDA device, whose memory only kernels see, it is reported by the
///          next synchronize(), or the next loss that is read, and the gradients mean nothing.
CAROUSEL_API void backward(const RnnPlan& plan, const RnnBackwardArgs& args);

}  // namespace carousel
