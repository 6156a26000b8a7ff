#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace carousel::cli {

/// How long and how often a case is repeated: until both bounds are met, after a warm-up.
struct TimingOptions {
    std::int64_t min_repetitions = 5;
    double min_time_ms = 500.0;
};
void add_timing_flags(CLI::App& app, TimingOptions& options);

/// Times of single repetitions. Quantiles rather than a mean: other work on the machine only ever
/// adds time.
struct Timing {
    double median_ms = 0.0;
    double p10_ms = 0.0;
    double p90_ms = 0.0;
    std::int64_t repetitions = 0;
};

/// Runs `body` for a tenth of the minimal time (at least twice) untimed, then times it. Stops
/// early, with what it has, when Ctrl-C was caught.
Timing measure(const TimingOptions& options, const std::function<void()>& body);

/// Prints results as they come: a table with a heading, or JSON lines.
class BenchReport {
public:
    explicit BenchReport(bool json) : json_(json) {}
    /// `values` are the flags' values; `flops` of one repetition, 0 = no gflops.
    void add(nlohmann::ordered_json values, const Timing& timing, double flops);

private:
    bool json_;
    std::vector<std::size_t> widths_;  ///< of the table's columns, set by the heading
};

}  // namespace carousel::cli
