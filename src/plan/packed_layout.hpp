#pragma once

#include <vector>

#include "carousel/rnn_spec.hpp"
#include "src/plan/slices.hpp"

namespace carousel {

/// Where the packed weights of one (layer, direction) lie; kNoSlice where the spec has none.
struct PackedState {
    // Forward: input and recurrent products, gates side by side.
    std::size_t w_ih = kNoSlice, w_hh = kNoSlice, bias = kNoSlice;
    std::size_t w_hn = kNoSlice;  ///< reset-before GRU: the candidate's recurrent weights
    std::size_t bias_hn =
        kNoSlice;  ///< reset-after GRU: inside the reset gate, so it cannot fold into bias
    std::size_t w_hr = kNoSlice;  ///< projection
    // Backward: the same products transposed.
    std::size_t w_ih_t = kNoSlice;  ///< reset-after GRU: inner index in the order of GruGradSlot
    std::size_t w_hh_t = kNoSlice, w_hn_t = kNoSlice, w_hr_t = kNoSlice;
};

/// Which halves of the weights a layout holds.
struct PackParts {
    bool forward = true;
    bool backward = false;
};

struct PackedWeightsLayout {
    SliceLayout slices;
    std::vector<PackedState> states;
};

/// Adds the packed weights of every state to `slices`, for kernels with `lanes` lanes.
std::vector<PackedState> add_packed_weights(const RnnSpec& spec, int lanes, PackParts parts,
                                            SliceLayout& slices);

/// Gates that share one product with h (and stand side by side in w_hh): all, but for reset-before
/// GRUs the candidate, and vanilla cells have one.
int recurrent_gates(Cell cell) noexcept;

}  // namespace carousel
