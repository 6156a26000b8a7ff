#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/core/grid.hpp"
#include "carousel/rnn.hpp"

// The numbers of one case in memory of a device, and what they should give: common ground of all sides.

namespace carousel::bench {

/// Inputs of forward and backward, random but always the same. Long tensors repeat a block, so that
/// gigabytes need no minutes of random numbers. States of c have values that the case's dtype can
/// hold, since cuDNN keeps them in it and Carousel in f32.
struct Problem {
    Problem(const GridCase& c, const Device& device);

    GridCase grid_case;
    Device device;
    DType value = DType::kF32;  ///< of stored elements: the case's dtype, f32 for tf32
    DType state = DType::kF32;  ///< of c and its gradient on Carousel's side
    Buffer weights;             ///< flat, by param_layout
    Buffer x, hx, cx, dy, dhy, dcy;
    Buffer cx_value, dcy_value;  ///< cx and dcy in the dtype of all else
    Buffer lengths, resets;      ///< i64 [N], u8 [T,N]; empty = none
    std::vector<std::int64_t> host_lengths;

    std::int64_t tokens() const { return grid_case.seq_len * grid_case.batch_size; }
    std::int64_t output_width() const {
        return grid_case.spec.num_directions() * grid_case.spec.output_size();
    }
    std::int64_t h_count() const {
        return grid_case.spec.num_states() * grid_case.batch_size * grid_case.spec.output_size();
    }
    std::int64_t c_count() const {
        return grid_case.spec.num_states() * grid_case.batch_size * grid_case.spec.hidden_size;
    }
};

/// What a side computed. Empty: the cell has no such tensor, or nobody asked.
struct Outcome {
    std::vector<double> y, hy, cy, dx, dhx, dcx, dweights;
};

/// `count` random numbers in [-1, 1), a function of `seed`, as a block that long tensors repeat.
Buffer random_tensor(DType dtype, std::uint64_t seed, std::int64_t count, const Device& device,
                     const char* what);

/// `count` elements of `dtype` in memory of `device`, as doubles.
std::vector<double> values_of(const void* data, DType dtype, std::int64_t count,
                              const Device& device);

/// The case's results in double precision from the same inputs, by the CPU backend (which is held
/// against the oracle). `with_resets` false: the form of a peer that has none. `threads` 0 = all.
Outcome reference_outcome(const GridCase& c, bool with_resets, int threads = 0);

/// The case that results are checked on: T at most 16, and N halved until the double-precision
/// reference takes about a second. Everything else is the case's own.
GridCase checking_case(const GridCase& c);

/// What is not rounding, for results of this dtype: errors above it are refused.
double allowed_error(DType dtype);

/// The worst of ‖a - reference‖ / ‖reference‖ over all tensors that both have, each weight by itself.
/// Elements beyond a sequence's length are not looked at. NaN counts as infinitely different. Gradients
/// through ReLU count a sixteenth: they jump where rounding decides which side of the kink it is.
double relative_error(const Problem& problem, const Outcome& a, const Outcome& reference);

}  // namespace carousel::bench
