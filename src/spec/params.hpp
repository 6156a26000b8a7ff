#pragma once

#include <cstdint>
#include <vector>

#include "carousel/rnn_params.hpp"

namespace carousel {

/// One weight tensor that a spec has: its names, its members and its shape.
struct ParamShape {
    const char* torch_name;  ///< "weight_ih"
    ConstTensorView RnnLayerParams::*param;
    TensorView RnnLayerGrads::*grad;
    const char* name;  ///< "w_ih"
    int ndim;
    std::int64_t shape[2];
};

/// The tensors of one (layer, direction) in state-dict order.
std::vector<ParamShape> layer_param_shapes(const RnnSpec& spec, std::int64_t layer);

}  // namespace carousel
