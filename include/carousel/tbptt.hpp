#pragma once

#include <cstdint>
#include <string>

#include "carousel/export.hpp"

namespace carousel {

/// How far gradients flow back through time.
///
/// Fixed: every k1 steps one update from the losses of the newest k1 steps, whose gradients flow
/// back through k2 >= k1 steps. With k2 > k1 the window of k2 steps is run again with today's
/// weights from the state kept at its start, so that the gradient is that of one well-defined
/// function.
///
/// Random: time is cut into chunks of `chunk` steps. After each chunk the graph is cut with
/// probability c = chunk / mean, else kept; a gradient that crosses a boundary which might have
/// been cut is multiplied by 1 / (1-c). Its expectation over the cuts is the gradient of no cut at
/// all: a path through b boundaries is kept with probability (1-c)^b and then weighs 1 / (1-c)^b.
/// An update comes after each segment (the chunks between two cuts), and the losses are divided by
/// `mean`, not by the segment's own length, which would weigh long segments less.
/// Source   Tallec & Ollivier 2017, "Unbiasing truncated backpropagation through time", eq. 9-11;
///          here c_t is zero inside a chunk.
struct TbpttOptions {
    enum class Kind : int { kFixed = 0, kRandom = 1 };
    Kind kind = Kind::kFixed;
    std::int64_t k1 = 0;     ///< fixed; 0 = seq_len
    std::int64_t k2 = 0;     ///< fixed; 0 = k1
    std::int64_t mean = 0;   ///< random: mean segment length in steps
    std::int64_t chunk = 0;  ///< random: 0 = mean / 8, at least 1, at most 16
};

/// Parses "K1,K2" or "random:MEAN". InvalidArgument says which rule is broken (1 <= k1 <= k2).
CAROUSEL_API TbpttOptions tbptt_parse(const std::string& text);
CAROUSEL_API std::string to_string(const TbpttOptions& options);
/// Fills in what was left to choose, for windows of seq_len steps.
CAROUSEL_API TbpttOptions tbptt_resolve(TbpttOptions options, std::int64_t seq_len);

/// Probability of a cut after a chunk.
CAROUSEL_API double tbptt_cut_probability(const TbpttOptions& options) noexcept;
/// Factor on the gradient of a state that crosses a kept boundary: 1 / (1-c).
CAROUSEL_API double tbptt_boundary_scale(const TbpttOptions& options) noexcept;
/// Number of chunks of segment number `segment`: geometric, drawn from Philox keyed by (seed,
/// segment), so it depends on nothing else.
CAROUSEL_API std::int64_t tbptt_segment_chunks(const TbpttOptions& options, std::uint64_t seed,
                                               std::uint64_t segment) noexcept;

/// One fixed window inside a stream: steps [begin, end), losses on [loss_begin, end), and the step
/// whose state the next window starts from.
struct TbpttWindow {
    std::int64_t begin = 0;
    std::int64_t loss_begin = 0;
    std::int64_t end = 0;
    std::int64_t next_begin = 0;
};
/// The window that ends `num_new` steps after `position`, in a stream that began at `stream_begin`.
CAROUSEL_API TbpttWindow tbptt_window(const TbpttOptions& options, std::int64_t stream_begin,
                                      std::int64_t position, std::int64_t num_new) noexcept;

}  // namespace carousel
