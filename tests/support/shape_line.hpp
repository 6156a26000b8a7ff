#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "carousel/rnn_spec.hpp"

namespace carousel::test {

/// One case as one line of text, shared by tests/shapes/*.txt, messages and the environment:
///
///   lstm L2 T100 N64 I512 H512 D2 P20 bias=single lengths reset dropout=0.3 seed7 f32
///
/// The cell comes first; the rest in any order. T, N, I and H are required. Defaults: L1 D1 P0
/// bias=double seed1 f64 threads=1, initial states given. Words: `lengths` (random, zero included),
/// `reset` (random mask), `no_states` (hx, cx, dhy, dcy absent), `batch_first`, `packed` (weights
/// packed once), `accumulate` (gradients added), `planned=T200,N80` (plan larger than the run).
/// Text after # is a remark.
struct ShapeLine {
    RnnSpec spec;
    std::int64_t seq_len = 0;
    std::int64_t batch_size = 0;
    std::int64_t planned_seq_len = 0;
    std::int64_t planned_batch_size = 0;
    bool lengths = false;
    bool reset = false;
    bool states = true;
    bool batch_first = false;
    bool packed = false;
    bool accumulate = false;
    int threads = 1;
    std::uint64_t seed = 1;
    std::string text;  ///< the line as it was read
};

/// Throws std::runtime_error naming the word it does not understand.
ShapeLine parse_shape_line(const std::string& line);

/// All lines of tests/shapes/<name>; throws if the file is missing or holds no line.
std::vector<ShapeLine> load_shape_file(const std::string& name);

/// The command that runs this line alone.
std::string rerun_command(const ShapeLine& line);

}  // namespace carousel::test
