#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

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

/// The tensors of one (layer, direction) in state-dict order. Allocates nothing: every run asks for it.
class ParamShapes {
public:
    void push_back(const ParamShape& shape) noexcept { shapes_[count_++] = shape; }
    const ParamShape* begin() const noexcept { return shapes_.data(); }
    const ParamShape* end() const noexcept { return shapes_.data() + count_; }

private:
    std::array<ParamShape, 5> shapes_{};
    std::size_t count_ = 0;
};
ParamShapes layer_param_shapes(const RnnSpec& spec, std::int64_t layer) noexcept;

}  // namespace carousel
