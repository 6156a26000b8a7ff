#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/gpu/gpu_contender.hpp"

// One row on a card: every side is checked on small data, compared with the others on the row's own,
// and timed pass by pass.

namespace carousel::bench {

/// A side that a row may have, by name; made anew for the checking data and for the row's own.
/// Errors of `make`: whatever keeps the side from running the case.
struct SideMaker {
    std::string name;
    bool resets = true;  ///< false: it runs the row's form without resets
    bool is_peer = true;
    bool checked = true;  ///< false: it computes no RNN
    std::function<std::unique_ptr<GpuSide>(const GpuProblem&, GpuArena&)> make;
};

struct RowOptions {
    std::vector<Pass> passes{std::begin(kPasses), std::end(kPasses)};
    int min_pairs = 5;
    double pass_ms = 300.0;  ///< of a pass, at least; min_pairs go before it
    /// Peers this much slower than the best peer in one untimed-length trial are not compared.
    double screen_factor = 1.3;
    int reference_threads = 0;
};

/// One line of results.
struct PassResult {
    GridCase grid_case;
    Pass pass = Pass::kInfer;
    Verdict verdict;
    bool l2_flushed = false;
    double error = 0.0;  ///< ours, against the double-precision reference
    std::size_t reserve_bytes = 0, workspace_bytes = 0;
    std::map<std::string, std::size_t> peer_reserve_bytes;  ///< by the standing's name
};

struct RowResult {
    std::vector<PassResult> passes;
    /// Sides that were not timed, with the reason: absent, refused, wrong, screened out.
    std::vector<std::pair<std::string, std::string>> left_out;
    std::map<std::string, double> errors;  ///< by side, on the checking data
    std::string failed;                    ///< why nothing was timed; empty = something was
};

/// `ours` against `others`. Errors: DeviceLost; all else is in the result.
RowResult run_row(const GridCase& c, const GpuBench& bench, const SideMaker& ours,
                  const std::vector<SideMaker>& others, const RowOptions& options);

/// Rows in order of value: the headline first, then what costs least.
std::vector<GridCase> in_order_of_value(std::vector<GridCase> cases);

}  // namespace carousel::bench
