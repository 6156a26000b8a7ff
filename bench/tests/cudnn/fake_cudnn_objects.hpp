#pragma once

#include <cudnn.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bench/tests/cudnn/fake_cudnn.hpp"

// What cuDNN's opaque types hold here, and how its functions refuse.

struct cudnnContext {
    cudaStream_t stream = nullptr;
};

struct cudnnTensorStruct {
    bool set = false;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    std::vector<int> dims, strides;
};

struct cudnnDropoutStruct {
    bool set = false;
    float probability = 0.0F;
};

struct cudnnRNNDataStruct {
    bool set = false;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnRNNDataLayout_t layout = CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED;
    int steps = 0, batch = 0, width = 0;
    std::vector<int> lengths;
    bool fills = false;
    double fill = 0.0;

    bool varies() const;
    bool sorted() const;  ///< longest first
    /// Row of a step of a sequence in memory; -1 where the sequence has ended.
    std::int64_t row(std::int64_t t, std::int64_t n) const;
    std::int64_t rows() const;
};

struct cudnnRNNStruct {
    bool set = false;
    cudnnRNNAlgo_t algo = CUDNN_RNN_ALGO_STANDARD;
    cudnnRNNMode_t cell = CUDNN_LSTM;
    cudnnRNNBiasMode_t bias = CUDNN_RNN_DOUBLE_BIAS;
    cudnnDirectionMode_t direction = CUDNN_UNIDIRECTIONAL;
    cudnnRNNInputMode_t input = CUDNN_LINEAR_INPUT;
    cudnnDataType_t type = CUDNN_DATA_FLOAT, math_precision = CUDNN_DATA_FLOAT;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
    std::int32_t input_size = 0, hidden_size = 0, proj_size = 0, num_layers = 0;
    std::uint32_t flags = 0;
    float dropout = 0.0F;
    bool clips = false;
    int built_for = 0;  ///< batch of cudnnBuildRNNDynamic; 0 = not built

    int gates() const { return cell == CUDNN_LSTM ? 4 : cell == CUDNN_GRU ? 3 : 1; }
    int directions() const { return direction == CUDNN_BIDIRECTIONAL ? 2 : 1; }
    int states() const { return num_layers * directions(); }
    bool projects() const { return proj_size < hidden_size; }
    bool skips() const { return input == CUDNN_SKIP_INPUT; }
    bool biased(bool recurrent) const {
        return bias == CUDNN_RNN_DOUBLE_BIAS ||
               bias == (recurrent ? CUDNN_RNN_SINGLE_REC_BIAS : CUDNN_RNN_SINGLE_INP_BIAS);
    }
    int layer_input(int layer) const { return layer == 0 ? input_size : directions() * proj_size; }
};

namespace carousel::test {

FakeCudnn& fake_cudnn();

/// Objects that were made and not given back, each of one type.
template <class T>
std::set<const T*>& alive() {
    static std::set<const T*> objects;
    return objects;
}

/// Ends a call with a status and a text.
struct Refused {
    cudnnStatus_t status;
    std::string text;
};

inline void need(bool condition, cudnnStatus_t status, std::string text) {
    if (!condition) throw Refused{status, std::move(text)};
}

/// One call of the library: counts it, and turns a refusal into a status.
template <class Body>
cudnnStatus_t answer(const char* name, const Body& body) {
    ++fake_cudnn().calls[name];
    try {
        body();
        return CUDNN_STATUS_SUCCESS;
    } catch (const Refused& refused) {
        fake_cudnn().last_error = std::string(name) + ": " + refused.text;
        return refused.status;
    } catch (const std::exception& error) {
        fake_cudnn().last_error = std::string(name) + ": " + error.what();
        return CUDNN_STATUS_INTERNAL_ERROR;
    }
}

inline std::size_t bytes_of(cudnnDataType_t type) {
    switch (type) {
        case CUDNN_DATA_DOUBLE:
            return 8;
        case CUDNN_DATA_FLOAT:
            return 4;
        default:
            return 2;
    }
}
/// Types of an RNN's tensors.
inline bool is_rnn_type(cudnnDataType_t type) {
    return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE || type == CUDNN_DATA_HALF ||
           type == CUDNN_DATA_BFLOAT16;
}

/// A matrix or bias in the weight space; absent if it has no elements.
struct WeightBlock {
    std::int64_t offset = 0;  ///< in elements
    int rows = 0, columns = 0;
    std::int64_t count() const { return std::int64_t{rows} * columns; }
};
struct WeightLayout {
    /// [pseudo layer][linear layer]: input's gates, recurrent ones, and the projection.
    std::vector<std::vector<WeightBlock>> matrices, biases;
    std::int64_t count = 0;
};
WeightLayout weight_layout(const cudnnRNNStruct& rnn);

/// Bytes that a pass of this size needs.
std::size_t workspace_bytes(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x, bool training);
std::size_t reserve_bytes(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x);

/// Everything that a pass was called with; descriptors by value, as work may run after their end.
struct RnnCall {
    cudnnRNNStruct rnn;
    cudnnRNNDataStruct x_shape, y_shape;
    bool training = false;
    const void *x = nullptr, *hx = nullptr, *cx = nullptr, *weights = nullptr;
    const void *dy = nullptr, *dhy = nullptr, *dcy = nullptr;
    void *y = nullptr, *hy = nullptr, *cy = nullptr;
    void *dx = nullptr, *dhx = nullptr, *dcx = nullptr, *dweights = nullptr;
    void *workspace = nullptr, *reserve = nullptr;
};
void run_forward(const RnnCall& call);
void run_backward_data(const RnnCall& call);
void run_backward_weights(const RnnCall& call);

}  // namespace carousel::test
