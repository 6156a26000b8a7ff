#pragma once

#include <memory>

#include "bench/gpu/gpu_side.hpp"

namespace carousel::bench {

/// Carousel through its public API, as a training loop calls it: plain weights in training, weights
/// packed beforehand in inference.
class CarouselGpuSide final : public GpuSide {
public:
    /// `problem` and `arena` outlive it.
    CarouselGpuSide(const GpuProblem& problem, GpuArena& arena,
                    Algorithm algorithm = Algorithm::kAuto);
    std::string name() const override;
    std::size_t workspace_bytes() const override;
    std::size_t reserve_bytes() const override;
    void forward(cuda::Queue queue, bool training) override;
    void backward(cuda::Queue queue, bool weights) override;
    bool backward_changes_reserve() const override { return false; }
    GpuOutcome outcome(bool states_and_weights) override;

private:
    void bind();

    const GpuProblem& problem_;
    GpuArena& arena_;
    RnnPlan inference_, training_;
    std::unique_ptr<PackedWeights> packed_;
    RnnParams params_;
    RnnGrads grads_;
    RnnForwardArgs forward_;
    RnnBackwardArgs backward_;
    bool bound_ = false;
};

}  // namespace carousel::bench
