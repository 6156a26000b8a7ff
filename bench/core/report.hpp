#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/core/lower_bound.hpp"
#include "bench/core/row_bench.hpp"

// Results as JSON lines for programs and as a table for people.

namespace carousel::bench {

/// What a program knows about its lines that a result does not.
struct ReportOptions {
    std::string bench;           ///< "gpu" or "cpu"
    std::string pytorch_choice;  ///< name of the side that PyTorch would pick; empty = none
    std::function<LowerBound(const PassResult&)> bound;
    /// Further values of a line; may be empty.
    std::function<nlohmann::ordered_json(const PassResult&)> extras;
};

/// Microseconds of a pass per layer and step: ms / (T * L). Directions run side by side.
double us_per_layer_step(const GridCase& c, double ms);

/// Rounded to four digits, which is more than any time here is good for.
double rounded(double value);
nlohmann::ordered_json to_json(const Quantiles& q);

/// One line per pass. Of a row with both, "backward_weights" follows as the difference of backward and
/// backward_data, on both sides.
std::vector<nlohmann::ordered_json> json_lines(const RowResult& result,
                                               const ReportOptions& options);

/// A line for a row that does not run, or did not.
nlohmann::ordered_json json_of_missing(const GridCase& c, const std::string& why,
                                       const std::string& bench);

std::string table_head();
std::string table_line(const nlohmann::ordered_json& line);
/// Prints a line to stdout: JSON, or the table's with a line below for each side that was left out.
void print_line(const nlohmann::ordered_json& line, bool json);

}  // namespace carousel::bench
