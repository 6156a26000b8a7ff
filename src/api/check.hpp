#pragma once

// The door: every argument of the recurrent layer is checked here, once, before anything is written.

#include <initializer_list>
#include <string>

#include "carousel/rnn.hpp"

namespace carousel {

/// An expected dimension and its axis name: {"T", 4} prints as "T = 4".
struct Axis {
    const char* name;
    std::int64_t size;
};

/// Checks dtype, device, shape and that the last dimension is contiguous; `dense` asks the same of all
/// dimensions. InvalidArgument names the tensor, what it is, what was expected, and the remedy.
void check_tensor(const std::string& name, const ConstTensorView& view, DType dtype,
                  const Device& device, std::initializer_list<Axis> axes, bool dense);

void check_params(const RnnSpec& spec, const RnnParams& params, const Device& device);
void check_grads(const RnnSpec& spec, const RnnGrads& grads, const Device& device);
void check_forward(const RnnPlan& plan, const RnnForwardArgs& args, bool training);
void check_backward(const RnnPlan& plan, const RnnBackwardArgs& args);

}  // namespace carousel
