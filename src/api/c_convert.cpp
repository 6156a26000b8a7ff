#include "src/api/c_convert.hpp"

#include <array>
#include <cstdio>

namespace carousel::c_api {

namespace {
// A fixed buffer: reporting that memory is out must not need memory.
thread_local std::array<char, 2048> last_error{};
}  // namespace

void remember(const char* sentence) noexcept {
    std::snprintf(last_error.data(), last_error.size(), "%s", sentence);
}

const char* remembered() noexcept { return last_error.data(); }

void invalid(const std::string& sentence) { throw Error(ErrorCode::kInvalidArgument, sentence); }

void need(const void* pointer, const char* name) {
    if (pointer == nullptr) invalid(std::string(name) + " is NULL, and must not be.");
}

Device device_of(const carousel_device& device) {
    Device result;
    result.type = checked_enum(device.type, DeviceType::kCuda, "device.type");
    result.index = device.index;
    return result;
}

TensorView view_of(const carousel_tensor& t, const char* name) {
    TensorView view;
    if (t.data == nullptr) return view;
    if (t.ndim < 0 || t.ndim > kMaxDims) {
        invalid(std::string(name) + ".ndim is " + std::to_string(t.ndim) + ", expected 0 to 4.");
    }
    view.data = t.data;
    view.dtype = checked_enum(t.dtype, DType::kU8, "a tensor's dtype");
    view.device = device_of(t.device);
    view.ndim = t.ndim;
    const bool contiguous =
        std::all_of(t.strides, t.strides + t.ndim, [](std::int64_t s) { return s == 0; });
    std::int64_t stride = 1;
    for (int d = t.ndim - 1; d >= 0; --d) {
        const auto i = static_cast<std::size_t>(d);
        view.shape[i] = t.shape[d];
        view.strides[i] = contiguous ? stride : t.strides[d];
        if (contiguous && __builtin_mul_overflow(stride, t.shape[d], &stride)) {
            invalid(std::string(name) + ": the product of its shape exceeds 2^63 - 1.");
        }
    }
    return view;
}

carousel_tensor c_tensor(const TensorView& view) {
    carousel_tensor t = carousel_tensor_none();
    t.data = view.data;
    t.dtype = static_cast<std::int32_t>(view.dtype);
    t.ndim = view.ndim;
    t.device = {static_cast<std::int32_t>(view.device.type), view.device.index};
    std::copy(view.shape.begin(), view.shape.end(), t.shape);
    std::copy(view.strides.begin(), view.strides.end(), t.strides);
    return t;
}

RnnSpec spec_of(const carousel_rnn_spec* given) {
    const auto s = versioned(given, sizeof(carousel_rnn_spec), "spec");
    RnnSpec spec;
    spec.cell = checked_enum(s.cell, Cell::kGruResetBefore, "spec->cell");
    spec.dtype = checked_enum(s.dtype, DType::kU8, "spec->dtype");
    spec.input_size = s.input_size;
    spec.hidden_size = s.hidden_size;
    spec.proj_size = s.proj_size;
    spec.num_layers = s.num_layers;
    spec.bidirectional = checked_enum(s.bidirectional, 1, "spec->bidirectional") != 0;
    spec.bias = checked_enum(s.bias, BiasMode::kDouble, "spec->bias");
    spec.dropout = s.dropout;
    return spec;
}

void check_entries(const carousel_rnn_layer* layers, std::int64_t count, std::int64_t expected,
                   const char* name) {
    need(layers, name);
    if (count != expected) {
        invalid(std::string(name) + " has " + std::to_string(count) +
                " entries, expected num_layers x num_directions = " + std::to_string(expected) +
                ".");
    }
}

void fill_params(RnnParams& params, const carousel_rnn_layer* layers, std::int64_t count,
                 const RnnSpec& spec) {
    check_entries(layers, count, spec.num_states(), "layers");
    params.layers.clear();
    for (std::int64_t i = 0; i < count; ++i) {
        const carousel_rnn_layer& l = layers[i];
        params.layers.push_back({view_of(l.w_ih, "w_ih"), view_of(l.w_hh, "w_hh"),
                                 view_of(l.b_ih, "b_ih"), view_of(l.b_hh, "b_hh"),
                                 view_of(l.w_hr, "w_hr")});
    }
}

void fill_grads(RnnGrads& grads, const carousel_rnn_layer* layers, std::int64_t count,
                const RnnSpec& spec) {
    check_entries(layers, count, spec.num_states(), "grads");
    grads.layers.clear();
    for (std::int64_t i = 0; i < count; ++i) {
        const carousel_rnn_layer& l = layers[i];
        grads.layers.push_back({view_of(l.w_ih, "dw_ih"), view_of(l.w_hh, "dw_hh"),
                                view_of(l.b_ih, "db_ih"), view_of(l.b_hh, "db_hh"),
                                view_of(l.w_hr, "dw_hr")});
    }
}

}  // namespace carousel::c_api
