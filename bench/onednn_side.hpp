#pragma once

#include <memory>

#include "bench/problem.hpp"

namespace carousel::bench {

/// In which format oneDNN's primitives take the weights.
///   kAny    the one that the primitive asks for
///   kPlain  forward "ldigo", backward "ldgoi" (what its plain backward reads); gradients "ldigo"
enum class WeightFormat { kAny, kPlain };

/// oneDNN's RNN primitives on a problem. The weights live in plain "ldigo", oneDNN's counterpart of
/// row-major weights, brought there from Carousel's layout once and untimed.
class OnednnSide {
public:
    /// Errors: Unsupported (an input that is not as wide as the state, in a stack: the primitive has
    /// one weight tensor for all layers; a cell that it lacks; a format that it rejects).
    OnednnSide(const Problem& problem, WeightFormat format, int num_threads);
    ~OnednnSide();
    /// Forward for training on weights that are in the primitive's format already.
    void forward();
    /// Forward and backward with every gradient, and what a training loop, whose optimizer changes
    /// plain weights, pays around them at each step: weights into the formats of both primitives,
    /// gradients set to zero (backward adds to them) and out into the plain format.
    void train();
    /// Of the last train(), in Carousel's layout.
    Outcome outcome() const;

    static const char* version();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace carousel::bench
