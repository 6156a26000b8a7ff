#pragma once

#include <memory>

#include "bench/core/side.hpp"

namespace carousel::bench {

/// Carousel through its public API, as a training loop calls it: plain weights in training, weights
/// packed beforehand in inference.
class CarouselSide final : public Side {
public:
    /// `problem` and `arena` outlive it. `num_threads` as in RnnPlanOptions.
    CarouselSide(const Problem& problem, Arena& arena, Algorithm algorithm = Algorithm::kAuto,
                 int num_threads = 0);
    std::string name() const override;
    std::size_t workspace_bytes() const override;
    std::size_t reserve_bytes() const override;
    void forward(StreamRef stream, bool training) override;
    void backward(StreamRef stream, bool weights) override;
    Outcome outcome(bool states_and_weights) override;

private:
    void bind();

    const Problem& problem_;
    Arena& arena_;
    RnnPlan inference_, training_;
    std::unique_ptr<PackedWeights> packed_;
    RnnParams params_;
    RnnGrads grads_;
    RnnForwardArgs forward_;
    RnnBackwardArgs backward_;
    bool bound_ = false;
};

}  // namespace carousel::bench
