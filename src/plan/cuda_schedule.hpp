#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "carousel/rnn_plan.hpp"
#include "src/plan/cuda_walk.hpp"
#include "src/plan/device_caps.hpp"
#include "src/plan/rnn_schedule.hpp"
#include "src/plan/slices.hpp"

namespace carousel {

/// One array with a part of equal size per state (or per direction, where layers take turns).
struct StateArray {
    std::size_t slice = kNoSlice;
    std::int64_t stride = 0;  ///< elements between parts
    bool defined() const noexcept { return slice != kNoSlice; }
};

/// Plain weights of all states side by side, so that one batched product reaches several of them.
struct CudaWeightLayout {
    StateArray w_ih, w_hh, w_hr, b_ih, b_hh;  ///< one part per state
};
/// For PackedWeights and, in a wavefront, inside the workspace.
void add_cuda_weights(const RnnSpec& spec, SliceLayout& slices, CudaWeightLayout& layout);

/// Memory of a CUDA plan. Arrays of a step's scratch have one part per slot (see CudaRnnConfig::slot).
struct CudaRnnSchedule {
    SliceLayout reserve;
    std::size_t key = kNoSlice;  ///< u64 [3]: dropout seed and step; at kStamp the pass_stamp()
    static constexpr std::int64_t kStamp = 2;
    std::uint64_t stamp_seed = 0;  ///< of the spec and the sizes that the reserve was laid out for
    StateArray gates;              ///< S [T,N,slots*H] per state
    StateArray c;                  ///< A [T,N,H] per state, LSTM
    StateArray h_in;               ///< S [T,N,O] per state: the state each step read
    StateArray aux;                ///< S [T,N,H] per state: r*h_in, or h before projection
    StateArray y;                  ///< S [T,N,D*O] per layer but the last, after dropout

    /// One layout per kind of call; a plan asks for the largest.
    struct Workspace {
        SliceLayout slices;
        std::vector<std::size_t> gemm;     ///< bytes for products, per queue
        CudaWeightLayout weights;          ///< wavefront
        StateArray x_preact;               ///< inference: S [ring_steps,N,G*H]
        StateArray h_preact;               ///< A [N,G*H]
        StateArray h_preact_n;             ///< A [N,H], reset-before
        StateArray projected;              ///< A [N,P]
        StateArray c, h_in, aux;           ///< inference: A [N,H]; S [2,N,O]; S [N,H]
        StateArray y;                      ///< inference: S [T,N,D*O]
        StateArray dgates;                 ///< S [T,N,grad slots*H]
        StateArray dy;                     ///< S [T,N,D*O]
        StateArray dh_state, dc, dh, drh;  ///< A [N,O], [N,H], [N,H], [N,H]
        StateArray dp;                     ///< S [T,N,P]
        StateArray db_partials;            ///< A [kMaxRowBlocks, grad slots*H]
        StateArray norm_partials;          ///< A [norm_steps, norm blocks]
        StateArray x_rows;                 ///< S [x_rows_steps,N,I] per queue
        std::int64_t x_rows_steps = 0;
    };
    Workspace inference, training, grads;

    /// Tells a reserve that a pass of these sizes filled from any other memory; never 0.
    std::uint64_t pass_stamp(std::int64_t seq_len, std::int64_t batch_size) const noexcept;
};

/// Chooses the algorithm and its grain for a device given by its capabilities. Pure.
///
/// Errors   Unsupported: an algorithm that was asked for by name and cannot take the spec, with the
///          reason. `rejections` gets one line per algorithm that was not taken.
CudaRnnConfig choose_cuda_config(const RnnSpec& spec, const RnnPlanOptions& options,
                                 const cuda::DeviceCaps& caps, std::size_t gemm_workspace_bytes,
                                 std::vector<Rejection>& rejections);

CudaRnnSchedule build_cuda_schedule(const RnnSpec& spec, const RnnPlanOptions& options,
                                    const CudaRnnConfig& config);

std::string describe_cuda(const RnnSpec& spec, const RnnPlanOptions& options,
                          const CudaRnnConfig& config, const std::vector<Rejection>& rejections,
                          const CudaRnnSchedule& schedule, const cuda::DeviceCaps& caps);

}  // namespace carousel
