#pragma once

#include <memory>
#include <string>

#include "carousel/rnn.hpp"
#include "src/plan/cuda_schedule.hpp"
#include "src/plan/packed_layout.hpp"
#include "src/plan/rnn_schedule.hpp"

namespace carousel {

/// Runs the steps of one plan on one device: the interface that a backend implements. Arguments are
/// validated before they arrive here.
class RnnExecutor {
public:
    virtual ~RnnExecutor() = default;
    virtual void forward(const RnnForwardArgs& args, bool training) = 0;
    virtual void backward(const RnnBackwardArgs& args) = 0;
    /// Scratch of any one call; what forward_training saves.
    virtual std::size_t workspace_bytes() const noexcept = 0;
    virtual std::size_t reserve_bytes() const noexcept = 0;
    /// The plan as text, see RnnPlan::describe.
    virtual std::string describe() const = 0;
    /// Throws InvalidArgument if `reserve` was not filled by a forward_training call that fits; a
    /// device whose memory the host cannot read leaves that to the caller.
    virtual void check_reserve(const RnnBackwardArgs& args) const = 0;
};

struct RnnPlan::Impl {
    std::uint64_t id = 0;  ///< of this plan among all of the process; no two have the same
    RnnSpec spec;
    RnnPlanOptions options;             ///< as resolved
    RnnConfig config;                   ///< CPU
    std::vector<Rejection> rejections;  ///< CPU
    RnnSchedule schedule;               ///< CPU
    std::unique_ptr<RnnExecutor> executor;
};

struct PackedWeights::Impl {
    RnnSpec spec;
    Device device;
    bool for_backward = false;
    SliceLayout slices;
    std::vector<PackedState> states;  ///< CPU
    CudaWeightLayout cuda;            ///< CUDA
    Buffer memory;
};

}  // namespace carousel
