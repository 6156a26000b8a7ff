#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bench/core/grid.hpp"
#include "bench/core/lower_bound.hpp"

// The flags that every comparison has: which rows, which passes, how long, how printed.

namespace carousel::bench {

struct GridFlags {
    std::string grid;
    std::string shapes;
    std::string row = ".*";  ///< regular expression over the line
    std::string line;        ///< one row made of --cell, --hidden, …; empty = rows of the grid
    std::vector<std::string> dtypes;  ///< empty: the row's first
    bool every_dtype = false, every_cell = false;
    std::vector<Pass> passes{std::begin(kPasses), std::end(kPasses)};
    int min_pairs = 5;
    double turn_ms = 20.0, pass_ms = 300.0, budget_s = 0.0;
    bool json = false, list = false, help = false;
    std::string command_line;
};

/// Takes the value of a flag. Errors: InvalidArgument.
using TakeValue = std::function<void(const std::string& flag, const std::string& value)>;

/// Flags of one program beside the common ones.
struct ProgramFlags {
    std::map<std::string, std::function<void()>> switches;
    std::map<std::string, TakeValue> values;
};

/// Errors: InvalidArgument names the flag.
void parse_flags(const std::vector<std::string>& arguments, const ProgramFlags& program,
                 GridFlags& flags);
/// The common flags' part of a help text.
std::string grid_flags_help();

/// A number of at least `least`. Errors: InvalidArgument.
double flag_number(const std::string& flag, const std::string& text, double least);
/// Errors: InvalidArgument lists what is allowed.
std::string flag_one_of(const std::string& flag, const std::string& text,
                        const std::vector<std::string>& allowed);
/// Parts between commas.
std::vector<std::string> flag_list(const std::string& text);

/// The cases that the flags ask for, as they stand in the file. Errors: InvalidArgument: there is none.
std::vector<GridCase> cases_of(const GridFlags& flags);

/// Prints the cases, and why others would not run.
void list_cases(const std::vector<GridCase>& cases);

}  // namespace carousel::bench
