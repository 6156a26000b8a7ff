#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "bench/core/lower_bound.hpp"
#include "bench/gpu/gpu_problem.hpp"
#include "src/backend/cuda/device_api.hpp"

namespace carousel::bench {

/// Memory that all sides of one problem share, since they run in turn: outputs, scratch, and what
/// forward saves. Sized once, after every side has said what it needs, and before anything is
/// recorded, since recorded work keeps its addresses.
class GpuArena {
public:
    explicit GpuArena(const GpuProblem& problem);
    /// Room for a side; call for each before allocate().
    void need(std::size_t workspace_bytes, std::size_t reserve_bytes);
    void allocate();

    Buffer y, hy, cy, dx, dhx, dcx, dweights;
    Buffer workspace, reserve;
    Buffer saved_reserve;  ///< empty if there was no room for it
private:
    std::size_t workspace_bytes_ = 0, reserve_bytes_ = 0;
    Device device_;
};

/// A library's computation of one problem. Enqueues on a queue; nothing waits.
class GpuSide {
public:
    virtual ~GpuSide() = default;
    virtual std::string name() const = 0;
    virtual std::size_t workspace_bytes() const = 0;
    virtual std::size_t reserve_bytes() const = 0;
    virtual void forward(cuda::Queue queue, bool training) = 0;
    /// After forward(training) or restored reserve. `weights` false: gradients of data alone.
    virtual void backward(cuda::Queue queue, bool weights) = 0;
    /// True if backward changes what forward saved.
    virtual bool backward_changes_reserve() const = 0;
    /// Results of the last forward and backward. `states_and_weights`: hy, dhx and weights alone.
    virtual GpuOutcome outcome(bool states_and_weights) = 0;
};

void run_pass(GpuSide& side, Pass pass, cuda::Queue queue);

}  // namespace carousel::bench
