#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "carousel/rnn_plan.hpp"
#include "carousel/rnn_spec.hpp"

// The host-side scheduler of the unrolled algorithms on CUDA: the order in which products and cell
// kernels are enqueued, on which queue, and which event orders what. It emits plain values; the
// executor enqueues them, tests print them and prove them race-free (cuda_order.hpp).
//
// A *front* is a set of neighbouring states whose next steps are independent of each other: one state
// (stepwise), the directions of one layer, or the layers on a diagonal of a stack (wavefront). A
// state's *walk* numbers its steps 0 .. T-1 in its own direction: t = walk, or T-1 - walk in the
// reverse direction.

namespace carousel {

struct CudaRnnConfig {
    Algorithm algorithm = Algorithm::kStepwise;
    int num_queues = 1;
    /// Wavefront over layers: steps of one product between two layers.
    std::int64_t chunk_steps = 1;
    std::int64_t lag = 0;  ///< wavefront over layers: steps a layer is behind the one below
    /// Inference: steps of x W_ih^T that are kept, and that one product of the first layer makes.
    std::int64_t ring_steps = 1;
    std::int64_t norm_steps = 1;           ///< backward: steps whose norms are summed at once
    std::size_t gemm_workspace_bytes = 0;  ///< per queue
    bool fronts_of_layers = false;         ///< wavefront, one direction
    bool fronts_of_directions = false;     ///< wavefront, two directions

    /// Part of a scratch array that a state uses.
    std::int64_t slot(const RnnSpec& spec, std::int64_t state) const noexcept {
        return algorithm == Algorithm::kWavefront ? state : state % spec.num_directions();
    }
    std::int64_t num_slots(const RnnSpec& spec) const noexcept {
        return algorithm == Algorithm::kWavefront ? spec.num_states() : spec.num_directions();
    }
};

enum class CudaStepKind : std::uint8_t {
    kSetKey,            ///< dropout key into the reserve
    kPackWeights,       ///< one state's weights beside the others'
    kStateIn,           ///< hx -> h_in
    kInputProduct,      ///< x W_ih^T of `count` steps
    kRecurrentProduct,  ///< h_in W_hh^T
    kCellForward,
    kResetProduct,  ///< (r*h) W_hn^T
    kCellForwardSecond,
    kProjectProduct,  ///< h W_hr^T
    kProjectForward,
    kStateGradIn,  ///< dhy, dcy -> dh_state, dc
    kProjectBackward,
    kProjectGradProduct,  ///< dp W_hr
    kCellBackward,
    kResetGradProduct,  ///< dn W_hn
    kCellBackwardSecond,
    kRecurrentGradProduct,  ///< dh_state += dgates W_hh
    kInputGradProduct,      ///< dgates W_ih of `count` steps: dx, or dy of the layer below
    kStateGradOut,          ///< dh_state, dc -> dhx, dcx
    kWeightGrads,           ///< dw_ih, dw_hh, dw_hr of one state
    kBiasGrads,
    kNorms,   ///< of steps [walk, walk + count) of one state
    kRecord,  ///< event
    kWait,
};
const char* cuda_step_name(CudaStepKind kind) noexcept;

struct CudaStep {
    CudaStepKind kind;
    int queue = 0;
    int event = -1;                ///< kRecord, kWait
    std::int64_t first_state = 0;  ///< of the front
    std::int64_t num_states = 1;
    /// Walk step of the first state; that of state first_state + i is walk - i*lag. With count > 1:
    /// steps [walk - i*lag, ... + count).
    std::int64_t walk = 0;
    std::int64_t count = 1;
    std::int64_t lag = 0;
    friend bool operator==(const CudaStep&, const CudaStep&) = default;
};

/// What a run wants of a backward pass.
struct CudaBackwardWants {
    bool dx = true, state_grads = true, weight_grads = true, norms = false;
};

using CudaStepSink = std::function<void(const CudaStep&)>;

/// Events that a walk uses: ids 0 .. kCudaWalkEvents-1.
inline constexpr int kCudaWalkEvents = 4;

/// Emits the steps of one pass over T = seq_len steps. `packs`: the wavefront copies plain weights.
void walk_forward(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                  bool training, bool packs, const CudaStepSink& sink);
void walk_backward(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                   const CudaBackwardWants& wants, bool packs, const CudaStepSink& sink);

/// Step number of a state's walk -> time, and back (the same function).
inline std::int64_t walk_time(const RnnSpec& spec, std::int64_t seq_len, std::int64_t state,
                              std::int64_t walk) noexcept {
    return state % spec.num_directions() == 1 ? seq_len - 1 - walk : walk;
}

}  // namespace carousel
