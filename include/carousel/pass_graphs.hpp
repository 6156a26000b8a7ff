#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "carousel/rnn.hpp"

namespace carousel {

/// Passes of recurrent layers recorded once and replayed: on a CUDA device a pass of thousands of
/// small launches becomes one CUDA graph. On the CPU the calls run as they are.
///
/// A graph belongs to a plan, to the shape of a call and to every address in its arguments: a call
/// whose buffers have moved is a different one and never replays the old addresses. What lies behind
/// the addresses is read anew in every replay: tensors, weights, lengths, reset marks, and the dropout
/// key if it is given by address (RnnForwardArgs::dropout_key; a seed given by value is part of the
/// recording, and a call with another one enqueues plainly).
///
///   graphs.forward_training(plan, args);          // first call: enqueues plainly, loads kernels
///   graphs.prepare_forward_training(plan, args);  // records; runs nothing
///   graphs.forward_training(plan, args);          // replays, from now on
///
/// Stream   as the calls without graphs; recording needs args.stream null (the library's own stream),
///          and a recorded pass is replayed on it.
/// Memory   bounded: graphs used least recently make room.
/// Threads  one at a time.
/// Errors   as the calls without graphs; prepare: InvalidArgument if the call was not run before.
class CAROUSEL_API PassGraphs {
public:
    static constexpr std::size_t kDefaultBytes = std::size_t{1} << 30;
    explicit PassGraphs(Device device, std::size_t max_bytes = kDefaultBytes);
    ~PassGraphs();
    PassGraphs(PassGraphs&&) noexcept;
    PassGraphs& operator=(PassGraphs&&) noexcept;

    void forward_inference(const RnnPlan& plan, const RnnForwardArgs& args);
    void forward_training(const RnnPlan& plan, const RnnForwardArgs& args);
    void backward(const RnnPlan& plan, const RnnBackwardArgs& args);

    /// False if the pass cannot be one graph (too many nodes or bytes; describe() says which); the
    /// calls above then go on enqueuing plainly.
    bool prepare_forward_inference(const RnnPlan& plan, const RnnForwardArgs& args);
    bool prepare_forward_training(const RnnPlan& plan, const RnnForwardArgs& args);
    bool prepare_backward(const RnnPlan& plan, const RnnBackwardArgs& args);

    std::size_t num_graphs() const noexcept;
    std::size_t bytes() const noexcept;  ///< device memory that the graphs hold, as far as known
    std::string describe() const;        ///< the graphs, one line each

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace carousel
