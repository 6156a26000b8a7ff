#pragma once

#include <memory>

#include "bench/core/side.hpp"

namespace carousel::bench {

/// In which format oneDNN's primitives take the weights.
///   kAny    the one that the primitive asks for
///   kPlain  forward "ldigo", backward "ldgoi" (what its plain backward reads); gradients "ldigo"
enum class WeightFormat { kAny, kPlain };
const char* weight_format_name(WeightFormat format) noexcept;

/// oneDNN's RNN primitives on a problem, in f32. The weights live in plain "ldigo", oneDNN's
/// counterpart of row-major weights, brought there from Carousel's layout once and untimed.
///
/// Forward and backward passes alone find the weights in the primitives' formats; backward includes
/// setting the gradients to zero (it adds to them) and bringing them out into the plain format. train()
/// adds what a training loop, whose optimizer changes plain weights, pays at each step: weights into
/// the formats of both primitives. There is no backward for data alone.
class OnednnSide final : public Side {
public:
    /// Errors: Unsupported: another dtype, both directions, projections, lengths; an input that is not
    /// as wide as the state, in a stack (the primitive has one weight tensor for all layers); a cell
    /// that it lacks; a format that it rejects.
    OnednnSide(const Problem& problem, WeightFormat format, int num_threads);
    ~OnednnSide() override;
    std::string name() const override;
    std::size_t workspace_bytes() const override { return 0; }  // the library's own, not told
    std::size_t reserve_bytes() const override;
    std::string cannot(Pass pass) const override;
    void forward(StreamRef stream, bool training) override;
    void backward(StreamRef stream, bool weights) override;
    void train(StreamRef stream) override;
    Outcome outcome(bool states_and_weights) override;

    static const char* version();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace carousel::bench
