#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/gpu/cudnn_library.hpp"
#include "carousel/rnn.hpp"

namespace carousel::bench {

/// A block of weights in cuDNN's weight space and in the flat layout of param_layout: offsets and
/// size in elements.
struct WeightPiece {
    std::int64_t in_space = 0, in_flat = 0, count = 0;
};

/// Where cuDNN keeps each gate's matrix and bias, by asking it. Matrices that it does not have (the
/// first layer's with skip input) are left out. `value`: dtype of stored elements. Errors:
/// Internal: a block has another size there; those of cuDNN.
std::vector<WeightPiece> weight_pieces(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                                       const RnnSpec& spec, DType value, void* space,
                                       std::size_t space_bytes);

}  // namespace carousel::bench
