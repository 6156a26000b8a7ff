#include <algorithm>
#include <cstring>

#include "bench/tests/cudnn/fake_cudnn_objects.hpp"

// Sizes, the weight space, and the three passes: what a call may look like. What it computes is in
// fake_cudnn_compute.cpp, and happens on the handle's stream.

namespace carousel::test {

namespace {

void check_set(const cudnnRNNDescriptor_t rnn) {
    need(alive<cudnnRNNStruct>().count(rnn) == 1 && rnn->set, CUDNN_STATUS_BAD_PARAM,
         "the RNN is not set");
}
void check_set(const cudnnRNNDataDescriptor_t data) {
    need(alive<cudnnRNNDataStruct>().count(data) == 1 && data->set, CUDNN_STATUS_BAD_PARAM,
         "an RNN data descriptor is not set");
}
void check_handle(const cudnnHandle_t handle) {
    need(alive<cudnnContext>().count(handle) == 1, CUDNN_STATUS_BAD_PARAM, "no such handle");
}

/// Memory of the device, as aligned as the vector loads of kernels want it.
void check_memory(const void* data, std::size_t bytes, const char* what) {
    need(data != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, what);
    need(reinterpret_cast<std::uintptr_t>(data) % 16 == 0,
         CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, what);
    need(fake_cudnn().on_device(data, bytes), CUDNN_STATUS_BAD_PARAM,
         std::string(what) + ": not as many bytes of device memory");
}
void check_space(const void* data, std::size_t given, std::size_t needed, const char* what) {
    need(given >= needed, CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT,
         std::string(what) + ": " + std::to_string(given) + " bytes, " + std::to_string(needed) +
             " are needed");
    if (needed > 0) check_memory(data, given, what);
}

void check_sequences(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x,
                     const cudnnRNNDataStruct& y) {
    need(x.type == rnn.type && y.type == rnn.type, CUDNN_STATUS_BAD_PARAM, "another dataType");
    need(x.width == rnn.input_size, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "vectorSize of x");
    need(y.width == rnn.directions() * rnn.proj_size, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
         "vectorSize of y");
    need(x.layout == y.layout && x.steps == y.steps && x.batch == y.batch && x.lengths == y.lengths,
         CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "x and y differ in layout or sequences");
    need(x.layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED ||
             (rnn.flags & CUDNN_RNN_PADDED_IO_ENABLED) != 0,
         CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "unpacked layouts need CUDNN_RNN_PADDED_IO_ENABLED");
}

void check_algorithm(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x, bool backward) {
    const bool persists = rnn.algo != CUDNN_RNN_ALGO_STANDARD;
    need(!persists || !x.varies(), CUDNN_STATUS_NOT_SUPPORTED,
         "persistent algorithms take no sequences of varied length");
    const bool wide = rnn.type == CUDNN_DATA_DOUBLE;
    need(!wide || rnn.algo == CUDNN_RNN_ALGO_STANDARD || rnn.algo == CUDNN_RNN_ALGO_PERSIST_DYNAMIC,
         CUDNN_STATUS_NOT_SUPPORTED, "static persistent algorithms take no CUDNN_DATA_DOUBLE");
    if (rnn.algo == CUDNN_RNN_ALGO_PERSIST_DYNAMIC) {
        need(rnn.built_for == x.batch, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
             "PERSIST_DYNAMIC was not built for this batch");
    }
    if (rnn.algo == CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H) {
        const bool plain = rnn.cell == CUDNN_RNN_RELU || rnn.cell == CUDNN_RNN_TANH;
        const int most = backward ? (plain ? 256 : 128) : (plain ? 384 : 192);
        need(rnn.hidden_size <= most, CUDNN_STATUS_NOT_SUPPORTED,
             "hiddenSize is above " + std::to_string(most));
    }
    need(rnn.dropout == 0.0F && !rnn.clips, CUDNN_STATUS_NOT_SUPPORTED,
         "dropout and clipping are not computed here");
}

/// [states, batch, width] without gaps.
void check_states(const cudnnTensorDescriptor_t tensor, const cudnnRNNStruct& rnn,
                  const cudnnRNNDataStruct& x, int width, const char* what) {
    need(alive<cudnnTensorStruct>().count(tensor) == 1 && tensor->set, CUDNN_STATUS_BAD_PARAM,
         std::string(what) + " is not set");
    need(tensor->type == rnn.type, CUDNN_STATUS_BAD_PARAM, std::string(what) + ": dataType");
    const std::vector<int> dims{rnn.states(), x.batch, width};
    const std::vector<int> strides{x.batch * width, width, 1};
    need(tensor->dims == dims, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, what);
    need(tensor->strides == strides, CUDNN_STATUS_BAD_PARAM, std::string(what) + " is not packed");
}

/// Arguments that all passes share. `h` and `c`: whether any pointer goes with the descriptor.
void check_shared(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const std::int32_t* lengths,
                  cudnnRNNDataDescriptor_t x, cudnnRNNDataDescriptor_t y,
                  cudnnTensorDescriptor_t h_shape, bool h, cudnnTensorDescriptor_t c_shape, bool c,
                  bool backward) {
    check_handle(handle);
    check_set(rnn);
    check_set(x);
    check_set(y);
    check_sequences(*rnn, *x, *y);
    check_algorithm(*rnn, *x, backward);
    if (lengths != nullptr) {  // not looked at since 8.9.1
        check_memory(lengths, x->lengths.size() * sizeof(*lengths), "devSeqLengths");
    }
    if (h) check_states(h_shape, *rnn, *x, rnn->proj_size, "hDesc");
    need(!c || rnn->cell == CUDNN_LSTM, CUDNN_STATUS_BAD_PARAM, "c is for LSTM");
    if (c) check_states(c_shape, *rnn, *x, rnn->hidden_size, "cDesc");
    need(handle->stream != nullptr, CUDNN_STATUS_EXECUTION_FAILED,
         "no stream was set, and the legacy one cannot be recorded");
}

/// A tensor that may be absent.
void check_optional(const void* data, std::size_t bytes, const char* what) {
    if (data != nullptr) check_memory(data, bytes, what);
}

struct Sizes {
    std::size_t x, y, h, c, weights;
};
Sizes sizes_of(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x) {
    const std::size_t e = bytes_of(rnn.type);
    const auto states = static_cast<std::size_t>(rnn.states()) * static_cast<std::size_t>(x.batch);
    const auto rows = static_cast<std::size_t>(x.rows());
    return {rows * static_cast<std::size_t>(rnn.input_size) * e,
            rows * static_cast<std::size_t>(rnn.directions() * rnn.proj_size) * e,
            states * static_cast<std::size_t>(rnn.proj_size) * e,
            states * static_cast<std::size_t>(rnn.hidden_size) * e,
            static_cast<std::size_t>(weight_layout(rnn).count) * e};
}

void enqueue(cudnnHandle_t handle, void (*pass)(const RnnCall&), const RnnCall& call) {
    fake_cudnn().enqueue(handle->stream, [pass, call] { pass(call); });
}

/// A matrix [1, rows, columns], or nothing.
void describe_block(const WeightBlock& block, cudnnDataType_t type, const void* weights,
                    cudnnTensorDescriptor_t tensor, void** at) {
    need(alive<cudnnTensorStruct>().count(tensor) == 1, CUDNN_STATUS_BAD_PARAM, "mDesc or bDesc");
    *tensor = {};
    tensor->set = true;
    tensor->type = type;
    *at = nullptr;
    if (block.count() == 0) return;
    tensor->dims = {1, block.rows, block.columns};
    tensor->strides = {static_cast<int>(block.count()), block.columns, 1};
    const auto* bytes = static_cast<const std::byte*>(weights) +
                        static_cast<std::size_t>(block.offset) * bytes_of(type);
    *at = const_cast<std::byte*>(bytes);
}

}  // namespace

WeightLayout weight_layout(const cudnnRNNStruct& rnn) {
    WeightLayout layout;
    const int gates = rnn.gates(), hidden = rnn.hidden_size, out = rnn.proj_size;
    const auto place = [&](std::vector<WeightBlock>& blocks, int rows, int columns) {
        blocks.push_back({layout.count, rows, columns});
        layout.count += blocks.back().count();
    };
    const auto align = [&] { layout.count = (layout.count + 31) / 32 * 32; };
    layout.matrices.resize(static_cast<std::size_t>(rnn.states()));
    layout.biases.resize(layout.matrices.size());
    // All matrices come first, then all biases.
    for (int state = 0; state < rnn.states(); ++state) {
        auto& blocks = layout.matrices[static_cast<std::size_t>(state)];
        const int layer = state / rnn.directions();
        const bool skipped = rnn.skips() && layer == 0;
        for (int gate = 0; gate < gates; ++gate) {
            place(blocks, skipped ? 0 : hidden, rnn.layer_input(layer));
        }
        for (int gate = 0; gate < gates; ++gate) place(blocks, hidden, out);
        place(blocks, rnn.projects() ? out : 0, hidden);
        align();
    }
    for (auto& blocks : layout.biases) {
        for (int id = 0; id < 2 * gates; ++id)
            place(blocks, rnn.biased(id >= gates) ? hidden : 0, 1);
        place(blocks, 0, 1);
        align();
    }
    return layout;
}

std::size_t workspace_bytes(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x, bool training) {
    const auto steps = static_cast<std::size_t>(training ? x.steps : 1);
    return 4096 + steps * static_cast<std::size_t>(x.batch) *
                      static_cast<std::size_t>(rnn.gates() * rnn.hidden_size) * bytes_of(rnn.type);
}

}  // namespace carousel::test

using namespace carousel::test;

extern "C" {

cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                                        cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t x,
                                        std::size_t* workspace, std::size_t* reserve) {
    return answer("cudnnGetRNNTempSpaceSizes", [&] {
        check_handle(handle);
        check_set(rnn);
        check_set(x);
        need(x->type == rnn->type && x->width == rnn->input_size, CUDNN_STATUS_BAD_PARAM,
             "xDesc does not go with the RNN");
        const bool training = mode == CUDNN_FWD_MODE_TRAINING;
        need(training || mode == CUDNN_FWD_MODE_INFERENCE, CUDNN_STATUS_BAD_PARAM, "fwdMode");
        need(workspace != nullptr && (reserve != nullptr || !training),
             CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a size");
        *workspace = workspace_bytes(*rnn, *x, training);
        if (reserve != nullptr) *reserve = training ? reserve_bytes(*rnn, *x) : 0;
    });
}

cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                                         std::size_t* bytes) {
    return answer("cudnnGetRNNWeightSpaceSize", [&] {
        check_handle(handle);
        check_set(rnn);
        *bytes = static_cast<std::size_t>(weight_layout(*rnn).count) * bytes_of(rnn->type);
    });
}

cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                                      std::int32_t pseudo_layer, std::size_t bytes,
                                      const void* weights, std::int32_t linear,
                                      cudnnTensorDescriptor_t matrix, void** matrix_at,
                                      cudnnTensorDescriptor_t bias, void** bias_at) {
    return answer("cudnnGetRNNWeightParams", [&] {
        check_handle(handle);
        check_set(rnn);
        const WeightLayout layout = weight_layout(*rnn);
        need(pseudo_layer >= 0 && pseudo_layer < rnn->states(), CUDNN_STATUS_BAD_PARAM,
             "pseudoLayer");
        need(linear >= 0 && linear < 2 * rnn->gates() + (rnn->cell == CUDNN_LSTM ? 1 : 0),
             CUDNN_STATUS_BAD_PARAM, "linLayerID");
        need(matrix_at != nullptr && bias_at != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
             "mAddr or bAddr");
        check_space(weights, bytes, static_cast<std::size_t>(layout.count) * bytes_of(rnn->type),
                    "weightSpace");
        const auto state = static_cast<std::size_t>(pseudo_layer);
        const auto id = static_cast<std::size_t>(linear);
        describe_block(layout.matrices[state][id], rnn->type, weights, matrix, matrix_at);
        describe_block(layout.biases[state][id], rnn->type, weights, bias, bias_at);
    });
}

cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                              cudnnForwardMode_t mode, const std::int32_t lengths[],
                              cudnnRNNDataDescriptor_t x_shape, const void* x,
                              cudnnRNNDataDescriptor_t y_shape, void* y,
                              cudnnTensorDescriptor_t h_shape, const void* hx, void* hy,
                              cudnnTensorDescriptor_t c_shape, const void* cx, void* cy,
                              std::size_t weight_bytes, const void* weights,
                              std::size_t workspace_given, void* workspace,
                              std::size_t reserve_given, void* reserve) {
    return answer("cudnnRNNForward", [&] {
        check_shared(handle, rnn, lengths, x_shape, y_shape, h_shape,
                     hx != nullptr || hy != nullptr, c_shape, cx != nullptr || cy != nullptr,
                     false);
        const bool training = mode == CUDNN_FWD_MODE_TRAINING;
        need(training || mode == CUDNN_FWD_MODE_INFERENCE, CUDNN_STATUS_BAD_PARAM, "fwdMode");
        const Sizes sizes = sizes_of(*rnn, *x_shape);
        check_memory(x, sizes.x, "x");
        check_memory(y, sizes.y, "y");
        check_optional(hx, sizes.h, "hx");
        check_optional(hy, sizes.h, "hy");
        check_optional(cx, sizes.c, "cx");
        check_optional(cy, sizes.c, "cy");
        check_space(weights, weight_bytes, sizes.weights, "weightSpace");
        check_space(workspace, workspace_given, workspace_bytes(*rnn, *x_shape, training),
                    "workSpace");
        if (training) {
            check_space(reserve, reserve_given, reserve_bytes(*rnn, *x_shape), "reserveSpace");
        } else {
            need(reserve == nullptr && reserve_given == 0, CUDNN_STATUS_BAD_PARAM,
                 "inference has no reserveSpace");
        }
        RnnCall call{*rnn, *x_shape, *y_shape, training};
        call.x = x;
        call.y = y;
        call.hx = hx;
        call.hy = hy;
        call.cx = cx;
        call.cy = cy;
        call.weights = weights;
        call.workspace = workspace;
        call.reserve = reserve;
        enqueue(handle, &run_forward, call);
    });
}

cudnnStatus_t cudnnRNNBackwardData_v8(
    cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const std::int32_t lengths[],
    cudnnRNNDataDescriptor_t y_shape, const void* y, const void* dy,
    cudnnRNNDataDescriptor_t x_shape, void* dx, cudnnTensorDescriptor_t h_shape, const void* hx,
    const void* dhy, void* dhx, cudnnTensorDescriptor_t c_shape, const void* cx, const void* dcy,
    void* dcx, std::size_t weight_bytes, const void* weights, std::size_t workspace_given,
    void* workspace, std::size_t reserve_given, void* reserve) {
    return answer("cudnnRNNBackwardData_v8", [&] {
        check_shared(handle, rnn, lengths, x_shape, y_shape, h_shape,
                     hx != nullptr || dhy != nullptr || dhx != nullptr, c_shape,
                     cx != nullptr || dcy != nullptr || dcx != nullptr, true);
        const Sizes sizes = sizes_of(*rnn, *x_shape);
        check_memory(y, sizes.y, "y");
        check_memory(dy, sizes.y, "dy");
        check_memory(dx, sizes.x, "dx");
        check_optional(hx, sizes.h, "hx");
        check_optional(dhy, sizes.h, "dhy");
        check_optional(dhx, sizes.h, "dhx");
        check_optional(cx, sizes.c, "cx");
        check_optional(dcy, sizes.c, "dcy");
        check_optional(dcx, sizes.c, "dcx");
        check_space(weights, weight_bytes, sizes.weights, "weightSpace");
        check_space(workspace, workspace_given, workspace_bytes(*rnn, *x_shape, true), "workSpace");
        check_space(reserve, reserve_given, reserve_bytes(*rnn, *x_shape), "reserveSpace");
        RnnCall call{*rnn, *x_shape, *y_shape, true};
        call.y = const_cast<void*>(y);
        call.dy = dy;
        call.dx = dx;
        call.hx = hx;
        call.dhy = dhy;
        call.dhx = dhx;
        call.cx = cx;
        call.dcy = dcy;
        call.dcx = dcx;
        call.weights = weights;
        call.workspace = workspace;
        call.reserve = reserve;
        enqueue(handle, &run_backward_data, call);
    });
}

cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                                         cudnnWgradMode_t mode, const std::int32_t lengths[],
                                         cudnnRNNDataDescriptor_t x_shape, const void* x,
                                         cudnnTensorDescriptor_t h_shape, const void* hx,
                                         cudnnRNNDataDescriptor_t y_shape, const void* y,
                                         std::size_t weight_bytes, void* dweights,
                                         std::size_t workspace_given, void* workspace,
                                         std::size_t reserve_given, void* reserve) {
    return answer("cudnnRNNBackwardWeights_v8", [&] {
        check_shared(handle, rnn, lengths, x_shape, y_shape, h_shape, hx != nullptr, nullptr, false,
                     true);
        need(mode == CUDNN_WGRAD_MODE_ADD, CUDNN_STATUS_NOT_SUPPORTED,
             "only CUDNN_WGRAD_MODE_ADD is supported");
        const Sizes sizes = sizes_of(*rnn, *x_shape);
        check_memory(x, sizes.x, "x");
        check_memory(y, sizes.y, "y");
        check_optional(hx, sizes.h, "hx");
        check_space(dweights, weight_bytes, sizes.weights, "dweightSpace");
        check_space(workspace, workspace_given, workspace_bytes(*rnn, *x_shape, true), "workSpace");
        check_space(reserve, reserve_given, reserve_bytes(*rnn, *x_shape), "reserveSpace");
        RnnCall call{*rnn, *x_shape, *y_shape, true};
        call.x = x;
        call.hx = hx;
        call.y = const_cast<void*>(y);
        call.dweights = dweights;
        call.workspace = workspace;
        call.reserve = reserve;
        enqueue(handle, &run_backward_weights, call);
    });
}

}  // extern "C"
