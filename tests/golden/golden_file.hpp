#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/support/rnn_data.hpp"
#include "tests/support/rnn_run.hpp"

namespace carousel::test {

/// One case of a golden file. The format, line by line:
///
///   case <name>                  starts a case
///   line <shape line>            see shape_line.hpp
///   lengths <n> <n> ...          optional
///   tensor <name> <d0,d1,...>    the next line holds its values, row-major, time-major
///   end
///
/// Tensors are named as in NamedTensors; weights by PyTorch's names, gradients of them d_<name>.
struct GoldenCase {
    std::string name;
    ShapeLine line;
    std::vector<std::int64_t> lengths;
    NamedTensors tensors;

    /// Inputs of the case as the library and the reference take them; beyond a sequence's end x
    /// and dy are NaN, whatever the other program read there.
    RnnData data() const;
    /// The tensors that a run produces (not its inputs).
    NamedTensors expected() const;
};

/// Reads tests/golden/<name>; throws std::runtime_error naming file and line number.
std::vector<GoldenCase> load_golden_file(const std::string& name);

}  // namespace carousel::test
