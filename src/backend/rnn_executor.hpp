#pragma once

#include <memory>
#include <string>

#include "carousel/rnn.hpp"
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
    virtual const char* instruction_set() const noexcept = 0;
};

struct RnnPlan::Impl {
    RnnSpec spec;
    RnnPlanOptions options;  ///< as resolved
    RnnConfig config;
    std::vector<Rejection> rejections;
    RnnSchedule schedule;
    std::unique_ptr<RnnExecutor> executor;
};

struct PackedWeights::Impl {
    RnnSpec spec;
    Device device;
    bool for_backward = false;
    SliceLayout slices;
    std::vector<PackedState> states;
    Buffer memory;
};

}  // namespace carousel
