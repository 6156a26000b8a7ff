#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bench/core/venue.hpp"

// One row: every side is checked on small data, compared with the others on the row's own, and timed
// pass by pass.

namespace carousel::bench {

/// A side that a row may have, by name; made anew for the checking data and for the row's own.
/// Errors of `make`: whatever keeps the side from running the case.
struct SideMaker {
    std::string name;
    bool resets = true;  ///< false: it runs the row's form without resets
    bool is_peer = true;
    bool checked = true;  ///< false: it computes no RNN
    /// What it computes in, if that is not the row's dtype: its results may be so much further off.
    std::optional<DType> precision{};
    /// Of a peer: it is left out, and leaves early, for being slower than others of its group alone.
    std::string group{};
    bool screened = true;  ///< false: compared however slow it is
    std::function<std::unique_ptr<Side>(const Problem&, Arena&)> make{};
};

struct RowOptions {
    std::vector<Pass> passes{std::begin(kPasses), std::end(kPasses)};
    int min_pairs = 5;
    double pass_ms = 300.0;  ///< of a pass, at least; min_pairs go before it
    /// Peers this much slower than the best of their group in one trial are not compared.
    double screen_factor = 1.3;
    int reference_threads = 0;
    /// Told the name of the maker whose side runs next, "" for none: whoever watches the process then
    /// knows whose work ended it. May be empty.
    std::function<void(const std::string&)> running{};
    /// Asked before each pass but the first: false leaves out the rest of the row. May be empty.
    std::function<bool()> goes_on{};
};

/// What one visit saw: the machine, and every side's ratio at that time.
struct VisitNote {
    std::map<std::string, std::vector<double>> looks;  ///< before and after, by measure
    std::map<std::string, Quantiles> ratios;           ///< by the standing's name
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
    std::vector<VisitNote> visits;

    /// The values of a measure in all visits.
    std::vector<double> looks(const std::string& measure) const;
};

struct RowResult {
    std::vector<PassResult> passes;
    /// Sides that were not timed, with the reason: absent, refused, wrong, screened out; and passes for
    /// which there was no time.
    std::vector<std::pair<std::string, std::string>> left_out;
    std::map<std::string, double> errors;  ///< by side, on the checking data
    std::string failed;                    ///< why nothing was timed; empty = something was
};

/// `ours` against `others` on one row. Results are checked at the first visit; every visit makes the
/// sides anew, so that several of them, with other work between, also vary what a process cannot
/// choose: where its memory lies, and what the machine does at that time.
class RowBench {
public:
    /// `venue` outlives it.
    RowBench(GridCase c, Venue& venue, SideMaker ours, std::vector<SideMaker> others,
             RowOptions options);
    /// Compares and times; the turns of all visits count alike. A row that failed is not visited again.
    /// Errors: DeviceLost; all else is in the result.
    void visit();
    const RowResult& result() const { return result_; }

private:
    void check();
    void leave_out(const std::string& name, const std::string& why);

    GridCase case_;
    Venue& venue_;
    SideMaker ours_;
    std::vector<SideMaker> others_;
    RowOptions options_;
    bool checked_ = false;
    std::vector<const SideMaker*> sound_;  ///< of others_, those with right results
    RowResult result_;
};

/// One visit.
RowResult run_row(const GridCase& c, Venue& venue, const SideMaker& ours,
                  const std::vector<SideMaker>& others, const RowOptions& options);

/// Rows in order of value: the headline first, in it and after it what costs least.
std::vector<GridCase> in_order_of_value(std::vector<GridCase> cases);

}  // namespace carousel::bench
