#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/rnn_reference.hpp"
#include "tests/support/shape_line.hpp"

namespace carousel::test {

/// Random inputs of one case as doubles, already rounded to the case's dtype: both the library and
/// the reference start from the same numbers. Steps beyond a sequence's end hold NaN in x and dy.
struct RnnData {
    reference::Problem problem;  ///< dropout is left empty
    std::vector<double> dy, dhy, dcy;
    std::uint64_t dropout_seed = 0;
    std::uint64_t dropout_step = 0;
};

RnnData make_rnn_data(const ShapeLine& line);

/// The reference's view of a spec.
reference::Problem make_problem(const RnnSpec& spec, std::int64_t seq_len, std::int64_t batch_size);

/// Mask multipliers of every layer but the last, [L-1] of [T*N*D*O], observed from outside: probe
/// networks of ReLU units whose output is exactly what dropout left of a constant one.
std::vector<std::vector<double>> observe_dropout(const RnnSpec& spec, std::int64_t seq_len,
                                                 std::int64_t batch_size, std::uint64_t seed,
                                                 std::uint64_t step, int threads = 1);

/// `count` numbers in [-scale, scale), a function of `seed` alone.
std::vector<double> random_values(std::uint64_t seed, std::int64_t count, double scale);

}  // namespace carousel::test
