#include <cstring>
#include <sstream>

#include "carousel/error.hpp"
#include "src/api/check.hpp"
#include "src/spec/params.hpp"
#include "src/util/dtypes.hpp"

namespace carousel {

namespace {

std::string shape_text(const ConstTensorView& view) {
    std::ostringstream text;
    text << "[";
    for (int d = 0; d < view.ndim; ++d)
        text << (d == 0 ? "" : ", ") << view.shape[static_cast<std::size_t>(d)];
    text << "]";
    return text.str();
}

std::string axes_text(std::initializer_list<Axis> axes) {
    std::ostringstream text;
    text << "[";
    bool first = true;
    for (const Axis& axis : axes) {
        text << (first ? "" : ", ") << axis.name << " = " << axis.size;
        first = false;
    }
    text << "]";
    return text.str();
}

bool same_shape(const ConstTensorView& view, std::initializer_list<Axis> axes) {
    if (view.ndim != static_cast<int>(axes.size())) return false;
    std::size_t d = 0;
    for (const Axis& axis : axes) {
        if (view.shape[d++] != axis.size) return false;
    }
    return true;
}

bool is_dense(const ConstTensorView& view) {
    std::int64_t stride = 1;
    for (int d = view.ndim - 1; d >= 0; --d) {
        const auto i = static_cast<std::size_t>(d);
        if (view.shape[i] != 1 && view.strides[i] != stride) return false;
        stride *= view.shape[i];
    }
    return true;
}

bool is_as_expected(const ConstTensorView& view, DType dtype, const Device& device,
                    std::initializer_list<Axis> axes, bool dense) {
    if (!view.defined() || view.dtype != dtype || view.device != device ||
        !same_shape(view, axes)) {
        return false;
    }
    const auto last = static_cast<std::size_t>(view.ndim - 1);
    return (view.shape[last] == 1 || view.strides[last] == 1) && (!dense || is_dense(view));
}

[[noreturn]] void fail(const std::string& sentence) {
    throw Error(ErrorCode::kInvalidArgument, sentence);
}

/// "weight_ih_l1_reverse": the state-dict name of a layer's tensor.
std::string layer_tensor_name(const RnnSpec& spec, const ParamShape& shape, std::size_t state) {
    const auto D = static_cast<std::size_t>(spec.num_directions());
    return std::string(shape.torch_name) + "_l" + std::to_string(state / D) +
           (state % D == 1 ? "_reverse" : "");
}

/// Names are made for a sentence only: a run without mistakes allocates nothing.
void check_layer_tensor(const RnnSpec& spec, const ParamShape& shape, std::size_t state,
                        const char* prefix, const ConstTensorView& view, DType dtype,
                        const Device& device) {
    const auto check = [&](std::initializer_list<Axis> axes) {
        if (is_as_expected(view, dtype, device, axes, true)) return;
        check_tensor(prefix + layer_tensor_name(spec, shape, state), view, dtype, device, axes,
                     true);
    };
    if (shape.ndim == 1) {
        check({{"G*H", shape.shape[0]}});
        return;
    }
    const bool projection = shape.param == &RnnLayerParams::w_hr;
    const bool input = shape.param == &RnnLayerParams::w_ih;
    check({{projection ? "P" : "G*H", shape.shape[0]},
           {projection ? "H"
            : input    ? "I"
                       : "O",
            shape.shape[1]}});
}

/// The members of a layer that a spec may lack, with their names.
template <class Layer, class View>
struct OptionalTensor {
    const char* torch_name;
    View Layer::*member;
};

template <class Layer, class View>
void check_absent(const RnnSpec& spec, const ParamShapes& shapes, const Layer& layer,
                  std::size_t state, std::initializer_list<OptionalTensor<Layer, View>> optional) {
    for (const auto& tensor : optional) {
        bool expected = false;
        for (const ParamShape& shape : shapes)
            expected = expected || std::strcmp(shape.torch_name, tensor.torch_name) == 0;
        if (expected || !(layer.*tensor.member).defined()) continue;
        ParamShape name_only{};
        name_only.torch_name = tensor.torch_name;
        fail(layer_tensor_name(spec, name_only, state) + " is given, but " + to_string(spec) +
             " has no such tensor; leave it undefined");
    }
}

void check_layer_count(const char* what, std::size_t count, const RnnSpec& spec) {
    if (count == static_cast<std::size_t>(spec.num_states())) return;
    fail(std::string(what) + ".layers has " + std::to_string(count) + " entries; expected L*D = " +
         std::to_string(spec.num_states()) + ", one per layer and direction");
}

}  // namespace

void check_tensor(const std::string& name, const ConstTensorView& view, DType dtype,
                  const Device& device, std::initializer_list<Axis> axes, bool dense) {
    if (!view.defined())
        fail(name + " is missing; expected a tensor of dtype " + dtype_name(dtype) + " " +
             axes_text(axes));
    if (view.dtype != dtype) {
        fail(name + " has dtype " + dtype_name(view.dtype) + "; expected " + dtype_name(dtype) +
             ", the dtype of the spec: convert the tensor");
    }
    if (view.device != device) {
        fail(name + " is on " + view.device.name() + "; the plan runs on " + device.name() +
             ": copy the tensor there");
    }
    if (!same_shape(view, axes)) {
        fail(name + " has shape " + shape_text(view) + "; expected " + axes_text(axes));
    }
    const auto last = static_cast<std::size_t>(view.ndim - 1);
    if (view.shape[last] != 1 && view.strides[last] != 1) {
        fail(name + " has stride " + std::to_string(view.strides[last]) +
             " in its last dimension; expected 1 " + axes_text(axes) + ": make it contiguous");
    }
    if (dense && !is_dense(view)) {
        fail(name + " of shape " + shape_text(view) + " is not contiguous; expected row-major " +
             axes_text(axes) + " without gaps");
    }
}

void check_params(const RnnSpec& spec, const RnnParams& params, const Device& device) {
    check_layer_count("params", params.layers.size(), spec);
    for (std::size_t state = 0; state < params.layers.size(); ++state) {
        const RnnLayerParams& layer = params.layers[state];
        const ParamShapes shapes =
            layer_param_shapes(spec, static_cast<std::int64_t>(state) / spec.num_directions());
        for (const ParamShape& shape : shapes) {
            check_layer_tensor(spec, shape, state, "", layer.*shape.param,
                               storage_dtype(spec.dtype), device);
        }
        check_absent<RnnLayerParams, ConstTensorView>(spec, shapes, layer, state,
                                                      {{"bias_ih", &RnnLayerParams::b_ih},
                                                       {"bias_hh", &RnnLayerParams::b_hh},
                                                       {"weight_hr", &RnnLayerParams::w_hr}});
    }
}

void check_grads(const RnnSpec& spec, const RnnGrads& grads, const Device& device) {
    check_layer_count("grads", grads.layers.size(), spec);
    for (std::size_t state = 0; state < grads.layers.size(); ++state) {
        const RnnLayerGrads& layer = grads.layers[state];
        const ParamShapes shapes =
            layer_param_shapes(spec, static_cast<std::int64_t>(state) / spec.num_directions());
        for (const ParamShape& shape : shapes) {
            const TensorView& view = layer.*shape.grad;
            if (view.defined()) {
                check_layer_tensor(spec, shape, state, "gradient of ", view, grad_dtype(spec.dtype),
                                   device);
            }
        }
        check_absent<RnnLayerGrads, TensorView>(spec, shapes, layer, state,
                                                {{"bias_ih", &RnnLayerGrads::db_ih},
                                                 {"bias_hh", &RnnLayerGrads::db_hh},
                                                 {"weight_hr", &RnnLayerGrads::dw_hr}});
    }
}

}  // namespace carousel
