#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "carousel/rnn_spec.hpp"

// The rows of bench/shapes/grid.txt as plain values, and the cases that a run makes of them.

namespace carousel::bench {

/// What a row wants of its input.
enum class InputMode { kLinear, kSkip, kPrecomputed, kBlock };
const char* input_mode_name(InputMode mode) noexcept;

/// One line of grid.txt, whose head says what its words mean. Cells and dtypes stay text: a row may
/// name what the library does not have.
struct GridRow {
    std::string id;
    std::string text;  ///< the line without remark and surplus spaces
    std::string published;
    std::vector<std::string> cells, dtypes, passes;
    std::int64_t hidden_size = 0, input_size = 0, batch_size = 0, seq_len = 0;
    std::int64_t num_layers = 1, heads = 1;
    bool bidirectional = false, alternating = false, headline = false;
    InputMode input = InputMode::kLinear;
    double reset = 0.0;         ///< probability of a boundary before a step
    double lengths_from = 1.0;  ///< lengths are uniform in [lengths_from * T, T]
};

/// Errors: InvalidArgument with `place` and the word.
GridRow parse_grid_row(const std::string& place, const std::string& line);
/// All rows. Errors: InvalidArgument: no such file, a bad line, an id that occurs twice.
std::vector<GridRow> read_grid(const std::string& path);

/// True if the row is of `--grid name`: headline, deepbench, flashrnn, all, or cpu (a file of its own).
/// Errors: InvalidArgument: another name.
bool in_grid(const GridRow& row, const std::string& name);

/// A row as both sides run it, in one cell and dtype.
struct GridCase {
    GridRow row;
    RnnSpec spec;
    std::int64_t seq_len = 0, batch_size = 0;
    bool inference_only = false;
    /// How the form that runs differs from the row's own; empty = not at all.
    std::vector<std::string> forms;
    /// Why nothing runs ("not yet: heads"); empty = it runs.
    std::string not_yet;

    /// "FRH6 lstm bf16": what results are told apart by.
    std::string name() const;
};

/// The row in `cell` and `dtype`, each empty for the row's first. What neither side can express runs in
/// the nearest common form, which `forms` names; what has none is said in `not_yet`.
GridCase make_case(const GridRow& row, const std::string& cell = "", const std::string& dtype = "");

/// Multiply-adds of the matrix products count as two operations; element-wise work is left out.
double forward_flops(const GridCase& c);

/// Lengths [N] and resets [T*N] of a case, the same on every machine; empty = none.
std::vector<std::int64_t> case_lengths(const GridCase& c);
std::vector<std::uint8_t> case_resets(const GridCase& c);

}  // namespace carousel::bench
