#pragma once

#include <functional>
#include <string>
#include <vector>

namespace carousel::bench {

struct Quantiles {
    double median = 0.0, p10 = 0.0, p90 = 0.0;
};
/// Linear interpolation between neighbours of the sorted values; zeros of no values.
Quantiles quantiles_of(std::vector<double> values);

/// One competitor in a comparison.
struct Contestant {
    std::string name;
    std::function<void()> run;     ///< one repetition
    std::vector<double> times_ms;  ///< out: every timed repetition
    std::vector<double> turns_ms;  ///< out: the median of each turn; turn i of all is one pair
};

/// Times contestants in turn, round after round, until `budget_ms` is used and at least `min_rounds`
/// rounds are done. The first is the one to be judged; the others are formats of one library, of which
/// the best counts: one that after two rounds is 1.2 × slower than the best of the others is dropped.
///
/// Fairness. Every turn begins with a pause or a lead-in, never timed, in which the other side's
/// threads go to sleep and this side's wake up: OpenMP's threads spin for milliseconds after their
/// last region, on the very cores that the next side needs. Repetitions of 20 ms and more follow a
/// pause, one to a turn; shorter ones are run for as long as the pause would have lasted, and then
/// timed one by one for as long again, with threads and caches as warm as a training loop has them.
void time_side_by_side(std::vector<Contestant>& contestants, double budget_ms, int min_rounds);

}  // namespace carousel::bench
