#pragma once

#include "bench/problem.hpp"

namespace carousel::bench {

/// Carousel on a problem, as a training loop calls it: plain weights at every run, so that packing
/// them is part of the time.
class CarouselSide {
public:
    CarouselSide(const Problem& problem, int num_threads);
    void forward();
    /// Forward and backward with every gradient.
    void train();
    /// Of the last train().
    Outcome outcome() const;

private:
    RnnPlan plan_;
    Buffer workspace_, reserve_, y_, hy_, cy_, dx_, dhx_, dcx_, dweights_;
    RnnParams params_;
    RnnGrads grads_;
    RnnForwardArgs forward_;
    RnnBackwardArgs backward_;
};

}  // namespace carousel::bench
