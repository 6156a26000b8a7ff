#pragma once

#include <string>
#include <vector>

namespace carousel::cli {

/// Runs the tool on the words after its name; returns an exit code of common.hpp. Data goes to stdout,
/// everything for people to stderr. Errors: those of the command; main() makes sentences of them.
int run_tool(const std::vector<std::string>& words);

}  // namespace carousel::cli
