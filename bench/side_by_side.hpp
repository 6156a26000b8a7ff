#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/core/driver.hpp"

namespace carousel::bench {

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
/// Fairness. OpenMP's threads spin for milliseconds after their last region, on the very cores that
/// the next side needs, and ours do so for a shorter while. Every turn therefore begins with a rest in
/// which all of them go to sleep, and shorter repetitions than 20 ms with an untimed lead-in, so that
/// threads and caches are as warm as a training loop has them.
void time_side_by_side(std::vector<Contestant>& contestants, double budget_ms, int min_rounds);

}  // namespace carousel::bench
