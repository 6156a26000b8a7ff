#pragma once

#include <functional>
#include <string>
#include <vector>

// The one protocol of every comparison: check, warm up, alternate peer and ours, report the median,
// the 10th and 90th percentile of each and of the ratio, pair by pair. What a turn is (wall clock on
// the CPU, events on a card) is the venue's.

namespace carousel::bench {

struct Quantiles {
    double median = 0.0, p10 = 0.0, p90 = 0.0;
};
/// Linear interpolation between neighbours of the sorted values; zeros of no values.
Quantiles quantiles_of(std::vector<double> values);

/// One way of doing a piece of work.
struct Contender {
    std::string name;
    /// Runs the work on checking data and returns the error of its result, relative. Throws what
    /// keeps it from running.
    std::function<double()> check;
    std::function<void()> warm_up;
    /// One turn: milliseconds of a repetition.
    std::function<double()> turn;
    /// False: timed beside the others, but never the best peer, and it never leaves early.
    bool is_peer = true;
    /// Peers leave early when they are slower than another of the same group.
    std::string group{};
};

struct DriverOptions {
    double allowed_error = 1e-4;
    int min_pairs = 5;
    double budget_ms = 2000.0;
    /// After `pairs_before_dropping` rounds, peers this much slower than the best of their group leave.
    double drop_factor = 1.2;
    int pairs_before_dropping = 2;
    std::function<double()> now_ms;  ///< empty: the steady clock
};

/// What became of one contender.
struct Standing {
    std::string name;
    double error = 0.0;
    std::string refused;  ///< why it was not timed; empty = it was
    bool is_peer = true;
    std::vector<double> turns_ms;
    std::vector<double> ratios;  ///< its time over ours, pair by pair; empty for ours
    Quantiles ms, ratio;         ///< of turns_ms and ratios
};

struct Verdict {
    Standing ours;
    std::vector<Standing> peers;  ///< in the order given
    /// The fastest peer by its ratio, of those that did not leave early; -1 = none.
    int best = -1;
    const Standing* best_peer() const {
        return best < 0 ? nullptr : &peers[static_cast<std::size_t>(best)];
    }
};

/// Compares. A contender that throws or whose result is further off than allowed (or not a number) is
/// refused before anything of it is timed; ours refused means that nothing is timed. A contender that
/// throws while it is timed is refused from then on, with its turns forgotten.
/// Errors: DeviceLost, as a contender threw it; nobody could run after it.
Verdict compare(const Contender& ours, const std::vector<Contender>& peers,
                const DriverOptions& options);

/// Adds what a later comparison of the same contenders found: turns and pairs of both count alike.
/// A contender that was refused in either is refused.
void append(Verdict& verdict, const Verdict& later);

}  // namespace carousel::bench
