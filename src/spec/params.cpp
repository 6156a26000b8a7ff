#include "carousel/rnn_params.hpp"

#include <string>

#include "src/spec/params.hpp"
#include "src/util/dtypes.hpp"

namespace carousel {

ParamShapes layer_param_shapes(const RnnSpec& spec, std::int64_t layer) noexcept {
    const std::int64_t gate_rows = spec.num_gates() * spec.hidden_size;
    ParamShapes shapes;
    shapes.push_back({"weight_ih",
                      &RnnLayerParams::w_ih,
                      &RnnLayerGrads::dw_ih,
                      "w_ih",
                      2,
                      {gate_rows, spec.layer_input_size(layer)}});
    shapes.push_back({"weight_hh",
                      &RnnLayerParams::w_hh,
                      &RnnLayerGrads::dw_hh,
                      "w_hh",
                      2,
                      {gate_rows, spec.output_size()}});
    if (spec.bias != BiasMode::kNone) {
        shapes.push_back(
            {"bias_ih", &RnnLayerParams::b_ih, &RnnLayerGrads::db_ih, "b_ih", 1, {gate_rows, 0}});
    }
    if (spec.bias == BiasMode::kDouble) {
        shapes.push_back(
            {"bias_hh", &RnnLayerParams::b_hh, &RnnLayerGrads::db_hh, "b_hh", 1, {gate_rows, 0}});
    }
    if (spec.proj_size > 0) {
        shapes.push_back({"weight_hr",
                          &RnnLayerParams::w_hr,
                          &RnnLayerGrads::dw_hr,
                          "w_hr",
                          2,
                          {spec.proj_size, spec.hidden_size}});
    }
    return shapes;
}

std::vector<RnnParamInfo> param_layout(const RnnSpec& spec) {
    validate(spec);
    std::vector<RnnParamInfo> layout;
    std::int64_t offset = 0;
    for (std::int64_t layer = 0; layer < spec.num_layers; ++layer) {
        for (std::int64_t dir = 0; dir < spec.num_directions(); ++dir) {
            for (const ParamShape& shape : layer_param_shapes(spec, layer)) {
                RnnParamInfo info;
                info.name = std::string(shape.torch_name) + "_l" + std::to_string(layer) +
                            (dir == 1 ? "_reverse" : "");
                info.ndim = shape.ndim;
                info.shape[0] = shape.shape[0];
                info.shape[1] = shape.shape[1];
                info.offset = offset;
                info.numel = shape.shape[0] * (shape.ndim == 2 ? shape.shape[1] : 1);
                offset += info.numel;
                layout.push_back(std::move(info));
            }
        }
    }
    return layout;
}

std::int64_t param_count(const RnnSpec& spec) {
    const std::vector<RnnParamInfo> layout = param_layout(spec);
    return layout.back().offset + layout.back().numel;
}

namespace {

/// Walks the flat layout and hands each tensor's view to visit(state, shape, view).
template <class View, class Pointer, class Visit>
void walk_flat(const RnnSpec& spec, Pointer* flat, DType dtype, Device device, Visit&& visit) {
    validate(spec);
    auto* bytes =
        static_cast<std::conditional_t<std::is_const_v<Pointer>, const char*, char*>>(flat);
    for (std::int64_t state = 0; state < spec.num_states(); ++state) {
        for (const ParamShape& shape : layer_param_shapes(spec, state / spec.num_directions())) {
            const View view = shape.ndim == 2
                                  ? View(bytes, dtype, {shape.shape[0], shape.shape[1]}, device)
                                  : View(bytes, dtype, {shape.shape[0]}, device);
            visit(state, shape, view);
            bytes += static_cast<std::size_t>(view.numel()) * dtype_bytes(dtype);
        }
    }
}

}  // namespace

RnnParams params_from_flat(const RnnSpec& spec, const void* flat, Device device) {
    RnnParams params;
    params.layers.resize(static_cast<std::size_t>(spec.num_states()));
    walk_flat<ConstTensorView>(spec, flat, storage_dtype(spec.dtype), device,
                               [&](std::int64_t state, const ParamShape& shape, const auto& view) {
                                   params.layers[static_cast<std::size_t>(state)].*shape.param =
                                       view;
                               });
    return params;
}

RnnGrads grads_from_flat(const RnnSpec& spec, void* flat, Device device) {
    RnnGrads grads;
    grads.layers.resize(static_cast<std::size_t>(spec.num_states()));
    walk_flat<TensorView>(spec, flat, grad_dtype(spec.dtype), device,
                          [&](std::int64_t state, const ParamShape& shape, const auto& view) {
                              grads.layers[static_cast<std::size_t>(state)].*shape.grad = view;
                          });
    return grads;
}

}  // namespace carousel
