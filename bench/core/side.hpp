#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "bench/core/lower_bound.hpp"
#include "bench/core/problem.hpp"
#include "carousel/tensor.hpp"

namespace carousel::bench {

/// Memory that all sides of one problem share, since they run in turn: outputs, scratch, and what
/// forward saves. Sized once, after every side has said what it needs, and before anything is
/// recorded, since recorded work keeps its addresses.
class Arena {
public:
    explicit Arena(const Problem& problem);
    /// Room for a side; call for each before allocate().
    void need(std::size_t workspace_bytes, std::size_t reserve_bytes);
    void allocate();
    /// Sets all outputs to 0: what another side left there must not pass for a result.
    void clear_outputs();

    Buffer y, hy, cy, dx, dhx, dcx, dweights;
    Buffer workspace, reserve;
    Buffer saved_reserve;  ///< empty if there was no room for it
private:
    std::size_t workspace_bytes_ = 0, reserve_bytes_ = 0;
    Device device_;
};

/// How long the parts of a turn take, in milliseconds.
struct TurnLengths {
    double lead_in_ms = 0.0;  ///< untimed repetitions before, until threads and caches are warm
    double timed_ms = 0.0;    ///< at least one repetition
};

/// A library's computation of one problem. On a device it enqueues, and nothing waits.
class Side {
public:
    virtual ~Side() = default;
    virtual std::string name() const = 0;
    virtual std::size_t workspace_bytes() const = 0;
    virtual std::size_t reserve_bytes() const = 0;
    /// Why it has no such pass; empty = it has.
    virtual std::string cannot(Pass) const { return {}; }
    virtual void forward(StreamRef stream, bool training) = 0;
    /// After forward(training) or restored reserve. `weights` false: gradients of data alone.
    virtual void backward(StreamRef stream, bool weights) = 0;
    /// Forward and backward with all gradients, with what a training loop pays around them.
    virtual void train(StreamRef stream) {
        forward(stream, true);
        backward(stream, true);
    }
    /// True if backward changes what forward saved.
    virtual bool backward_changes_reserve() const { return false; }
    /// Results of the last forward and backward. `states_and_weights`: hy, dhx and weights alone.
    virtual Outcome outcome(bool states_and_weights) = 0;
    /// For a side in a process of its own, which times itself: milliseconds of a repetition, the median
    /// of a turn. Nothing: the caller times run_pass.
    virtual std::optional<double> own_turn_ms(Pass, const TurnLengths&) { return std::nullopt; }
};

void run_pass(Side& side, Pass pass, StreamRef stream);

}  // namespace carousel::bench
