#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/core/lower_bound.hpp"
#include "bench/gpu/row_bench.hpp"

// Results as JSON lines for programs and as a table for people.

namespace carousel::bench {

/// Microseconds of a pass per layer and step: ms / (T * L). Directions run side by side.
double us_per_layer_step(const GridCase& c, double ms);

/// One line per pass. Of a row with both, "backward_weights" follows as the difference of backward and
/// backward_data, on both sides.
std::vector<nlohmann::ordered_json> json_lines(const RowResult& result, const CardFigures& figures,
                                               const std::string& pytorch_choice);

/// A line for a row that does not run, or did not.
nlohmann::ordered_json json_of_missing(const GridCase& c, const std::string& why);

std::string table_head();
std::string table_line(const nlohmann::ordered_json& line);

}  // namespace carousel::bench
