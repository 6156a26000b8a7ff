#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/tests/cudnn/fake_cudnn_objects.hpp"

// Handles and descriptors: made, set, read and given back.

namespace carousel::test {

FakeCudnn& fake_cudnn() {
    static FakeCudnn state;
    return state;
}

namespace {

template <class T>
cudnnStatus_t make(const char* name, T** to) {
    return answer(name, [&] {
        need(to != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no place for the object");
        *to = new T;
        alive<T>().insert(*to);
        ++fake_cudnn().live_objects;
    });
}

template <class T>
cudnnStatus_t take_down(const char* name, T* object) {
    return answer(name, [&] {
        need(alive<T>().erase(object) == 1, CUDNN_STATUS_BAD_PARAM, "no such object");
        --fake_cudnn().live_objects;
        delete object;
    });
}

/// Setting a descriptor, which keeps its values if that is refused.
template <class T, class Body>
cudnnStatus_t set(const char* name, T* object, const Body& body) {
    return answer(name, [&] {
        need(alive<T>().count(object) == 1, CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
             "no such object");
        T next;
        body(next);
        next.set = true;
        *object = next;
    });
}

void check_alive(cudnnHandle_t handle) {
    need(alive<cudnnContext>().count(handle) == 1, CUDNN_STATUS_BAD_PARAM, "no such handle");
}

/// Which arithmetic goes with which type of data.
void check_math(const cudnnRNNStruct& r) {
    const bool narrow = r.type == CUDNN_DATA_HALF || r.type == CUDNN_DATA_BFLOAT16;
    const bool precision =
        r.math_precision == (r.type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT) ||
        (narrow && r.math_precision == r.type);
    need(precision, CUDNN_STATUS_NOT_SUPPORTED, "mathPrec does not go with dataType");
    const bool known = r.math == CUDNN_DEFAULT_MATH || r.math == CUDNN_TENSOR_OP_MATH ||
                       r.math == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION || r.math == CUDNN_FMA_MATH;
    need(known, CUDNN_STATUS_BAD_PARAM, "unknown mathType");
    if (r.type == CUDNN_DATA_DOUBLE) {
        need(r.math == CUDNN_DEFAULT_MATH, CUDNN_STATUS_NOT_SUPPORTED,
             "mathType of CUDNN_DATA_DOUBLE is CUDNN_DEFAULT_MATH");
    } else if (r.type == CUDNN_DATA_FLOAT) {
        need(r.math != CUDNN_TENSOR_OP_MATH, CUDNN_STATUS_NOT_SUPPORTED,
             "CUDNN_TENSOR_OP_MATH is for 16-bit data; CUDNN_DATA_FLOAT takes "
             "CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION");
    }
}

void check_rnn(const cudnnRNNStruct& r) {
    need(r.algo >= CUDNN_RNN_ALGO_STANDARD && r.algo < CUDNN_RNN_ALGO_COUNT &&
             r.cell >= CUDNN_RNN_RELU && r.cell <= CUDNN_GRU && r.bias >= CUDNN_RNN_NO_BIAS &&
             r.bias <= CUDNN_RNN_SINGLE_REC_BIAS && r.direction <= CUDNN_BIDIRECTIONAL &&
             r.input <= CUDNN_SKIP_INPUT && r.flags <= CUDNN_RNN_PADDED_IO_ENABLED,
         CUDNN_STATUS_BAD_PARAM, "an enumerator or flag is unknown");
    need(is_rnn_type(r.type), CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "dataType");
    need(r.input_size > 0 && r.hidden_size > 0 && r.num_layers > 0, CUDNN_STATUS_BAD_PARAM,
         "sizes are positive");
    need(r.proj_size > 0 && r.proj_size <= r.hidden_size, CUDNN_STATUS_BAD_PARAM,
         "projSize lies between 1 and hiddenSize");
    need(!r.skips() || r.input_size == r.hidden_size, CUDNN_STATUS_BAD_PARAM,
         "CUDNN_SKIP_INPUT needs inputSize equal to hiddenSize");
    check_math(r);
    if (r.projects()) {
        need(r.cell == CUDNN_LSTM && r.algo == CUDNN_RNN_ALGO_STANDARD, CUDNN_STATUS_NOT_SUPPORTED,
             "a projection is for LSTM with CUDNN_RNN_ALGO_STANDARD");
    }
}

double value_of(const void* symbol, cudnnDataType_t type) {
    double wide = 0.0;
    float single = 0.0F;
    if (type == CUDNN_DATA_DOUBLE) std::memcpy(&wide, symbol, sizeof(wide));
    if (type == CUDNN_DATA_FLOAT) {
        std::memcpy(&single, symbol, sizeof(single));
        wide = single;
    }
    std::uint16_t narrow = 0;
    if (bytes_of(type) == 2) {
        std::memcpy(&narrow, symbol, sizeof(narrow));
        need(narrow == 0, CUDNN_STATUS_NOT_SUPPORTED, "only zero is kept as a 16-bit paddingFill");
    }
    return wide;
}

}  // namespace
}  // namespace carousel::test

bool cudnnRNNDataStruct::varies() const {
    return std::any_of(lengths.begin(), lengths.end(), [&](int length) { return length != steps; });
}

bool cudnnRNNDataStruct::sorted() const { return std::is_sorted(lengths.rbegin(), lengths.rend()); }

std::int64_t cudnnRNNDataStruct::row(std::int64_t t, std::int64_t n) const {
    if (t >= lengths[static_cast<std::size_t>(n)]) return -1;
    if (layout == CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED) return n * steps + t;
    if (layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED) return t * batch + n;
    std::int64_t before = 0;  // of all sequences, the steps before t
    for (const int length : lengths) before += std::min<std::int64_t>(length, t);
    return before + n;
}

std::int64_t cudnnRNNDataStruct::rows() const {
    if (layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED) return std::int64_t{steps} * batch;
    std::int64_t sum = 0;
    for (const int length : lengths) sum += length;
    return sum;
}

using namespace carousel::test;

extern "C" {

FakeCudnn* fake_cudnn_state() { return &fake_cudnn(); }

std::size_t cudnnGetVersion() { return CUDNN_VERSION; }

const char* cudnnGetErrorString(cudnnStatus_t status) {
    switch (CUDNN_STATUS_CATEGORY(static_cast<int>(status))) {
        case CUDNN_STATUS_SUCCESS:
            return "CUDNN_STATUS_SUCCESS";
        case CUDNN_STATUS_BAD_PARAM:
            return "CUDNN_STATUS_BAD_PARAM";
        case CUDNN_STATUS_NOT_SUPPORTED:
            return "CUDNN_STATUS_NOT_SUPPORTED";
        case CUDNN_STATUS_EXECUTION_FAILED:
            return "CUDNN_STATUS_EXECUTION_FAILED";
        default:
            return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}

void cudnnGetLastErrorString(char* message, std::size_t max_size) {
    if (message == nullptr || max_size == 0) return;
    const std::string& text = fake_cudnn().last_error;
    const std::size_t count = std::min(text.size(), max_size - 1);
    std::memcpy(message, text.data(), count);
    message[count] = '\0';
    fake_cudnn().last_error.clear();
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return make("cudnnCreate", handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return take_down("cudnnDestroy", handle); }

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    return answer("cudnnSetStream", [&] {
        check_alive(handle);
        handle->stream = stream;
    });
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensor) {
    return make("cudnnCreateTensorDescriptor", tensor);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) {
    return take_down("cudnnDestroyTensorDescriptor", tensor);
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type,
                                         int num_dims, const int dims[], const int strides[]) {
    return set("cudnnSetTensorNdDescriptor", tensor, [&](cudnnTensorStruct& next) {
        need(num_dims >= 3 && num_dims <= CUDNN_DIM_MAX, CUDNN_STATUS_NOT_SUPPORTED,
             "3 to 8 dimensions");
        need(dims != nullptr && strides != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "arrays");
        double count = 1.0;
        for (int d = 0; d < num_dims; ++d) {
            need(dims[d] > 0 && strides[d] > 0, CUDNN_STATUS_BAD_PARAM,
                 "dimensions and strides are positive");
            count *= dims[d];
        }
        need(count < 0x1p31, CUDNN_STATUS_NOT_SUPPORTED, "2^31 elements or more");
        next.type = type;
        next.dims.assign(dims, dims + num_dims);
        next.strides.assign(strides, strides + num_dims);
    });
}

cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t tensor, int wanted,
                                         cudnnDataType_t* type, int* num_dims, int dims[],
                                         int strides[]) {
    return answer("cudnnGetTensorNdDescriptor", [&] {
        need(alive<cudnnTensorStruct>().count(tensor) == 1 && tensor->set, CUDNN_STATUS_BAD_PARAM,
             "no such tensor, or not set");
        need(wanted > 0 && wanted <= CUDNN_DIM_MAX, CUDNN_STATUS_NOT_SUPPORTED,
             "1 to 8 dimensions are given out");
        *type = tensor->type;
        *num_dims = static_cast<int>(tensor->dims.size());
        const int count = std::min(wanted, *num_dims);
        std::copy_n(tensor->dims.begin(), count, dims);
        std::copy_n(tensor->strides.begin(), count, strides);
    });
}

cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t* dropout) {
    return make("cudnnCreateDropoutDescriptor", dropout);
}
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t dropout) {
    return take_down("cudnnDestroyDropoutDescriptor", dropout);
}
cudnnStatus_t cudnnDropoutGetStatesSize(cudnnHandle_t handle, std::size_t* bytes) {
    return answer("cudnnDropoutGetStatesSize", [&] {
        check_alive(handle);
        *bytes = 4096;
    });
}

cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t dropout, cudnnHandle_t handle,
                                        float probability, void* states, std::size_t bytes,
                                        unsigned long long) {
    return set("cudnnSetDropoutDescriptor", dropout, [&](cudnnDropoutStruct& next) {
        check_alive(handle);
        need(probability >= 0.0F && probability < 1.0F, CUDNN_STATUS_BAD_PARAM, "a probability");
        if (states != nullptr) {
            need(bytes >= 4096, CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, "states");
            need(fake_cudnn().on_device(states, bytes), CUDNN_STATUS_BAD_PARAM, "host memory");
        } else {
            need(probability == 0.0F, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "states");
        }
        next.probability = probability;
    });
}

cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t* data) {
    return make("cudnnCreateRNNDataDescriptor", data);
}
cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t data) {
    return take_down("cudnnDestroyRNNDataDescriptor", data);
}

cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t data, cudnnDataType_t type,
                                        cudnnRNNDataLayout_t layout, int steps, int batch,
                                        int width, const int lengths[], void* fill) {
    return set("cudnnSetRNNDataDescriptor", data, [&](cudnnRNNDataStruct& next) {
        need(is_rnn_type(type), CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "dataType");
        need(layout >= CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED &&
                 layout <= CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED,
             CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "unknown layout");
        need(steps > 0 && batch > 0 && width > 0, CUDNN_STATUS_BAD_PARAM, "sizes are positive");
        need(lengths != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "seqLengthArray");
        next.type = type;
        next.layout = layout;
        next.steps = steps;
        next.batch = batch;
        next.width = width;
        next.lengths.assign(lengths, lengths + batch);
        for (const int length : next.lengths) {
            need(length >= 0 && length <= steps, CUDNN_STATUS_BAD_PARAM,
                 "a length lies between 0 and maxSeqLength");
        }
        const bool packed = layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED;
        need(!packed || next.sorted(), CUDNN_STATUS_BAD_PARAM,
             "packed sequences are sorted, the longest first");
        // Not in its documentation: version 9.19 answers so.
        need(!packed || next.lengths.front() == steps, CUDNN_STATUS_BAD_PARAM,
             "the longest of packed sequences has maxSeqLength steps");
        next.fills = fill != nullptr;
        if (next.fills) next.fill = value_of(fill, type);
    });
}

cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t* rnn) {
    return make("cudnnCreateRNNDescriptor", rnn);
}
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t rnn) {
    return take_down("cudnnDestroyRNNDescriptor", rnn);
}

cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t rnn, cudnnRNNAlgo_t algo,
                                       cudnnRNNMode_t cell, cudnnRNNBiasMode_t bias,
                                       cudnnDirectionMode_t direction, cudnnRNNInputMode_t input,
                                       cudnnDataType_t type, cudnnDataType_t math_precision,
                                       cudnnMathType_t math, std::int32_t input_size,
                                       std::int32_t hidden_size, std::int32_t proj_size,
                                       std::int32_t num_layers, cudnnDropoutDescriptor_t dropout,
                                       std::uint32_t flags) {
    return set("cudnnSetRNNDescriptor_v8", rnn, [&](cudnnRNNStruct& next) {
        if (dropout != nullptr) {
            need(alive<cudnnDropoutStruct>().count(dropout) == 1 && dropout->set,
                 CUDNN_STATUS_BAD_PARAM, "the dropout descriptor is not set");
            next.dropout = dropout->probability;
        }
        next.algo = algo;
        next.cell = cell;
        next.bias = bias;
        next.direction = direction;
        next.input = input;
        next.type = type;
        next.math_precision = math_precision;
        next.math = math;
        next.input_size = input_size;
        next.hidden_size = hidden_size;
        next.proj_size = proj_size;
        next.num_layers = num_layers;
        next.flags = flags;
        check_rnn(next);
    });
}

cudnnStatus_t cudnnRNNSetClip_v9(cudnnRNNDescriptor_t rnn, cudnnRNNClipMode_t mode, double low,
                                 double high) {
    return answer("cudnnRNNSetClip_v9", [&] {
        need(alive<cudnnRNNStruct>().count(rnn) == 1 && rnn->set, CUDNN_STATUS_BAD_PARAM,
             "the RNN is not set");
        need(rnn->cell == CUDNN_LSTM, CUDNN_STATUS_BAD_PARAM, "clipping is for LSTM");
        need(mode == CUDNN_RNN_CLIP_NONE || low < high, CUDNN_STATUS_BAD_PARAM,
             "lclip is below rclip, and neither is NaN");
        rnn->clips = mode == CUDNN_RNN_CLIP_MINMAX;
    });
}

cudnnStatus_t cudnnBuildRNNDynamic(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int batch) {
    return answer("cudnnBuildRNNDynamic", [&] {
        check_alive(handle);
        need(alive<cudnnRNNStruct>().count(rnn) == 1 && rnn->set, CUDNN_STATUS_BAD_PARAM,
             "the RNN is not set");
        need(rnn->algo == CUDNN_RNN_ALGO_PERSIST_DYNAMIC, CUDNN_STATUS_BAD_PARAM,
             "only CUDNN_RNN_ALGO_PERSIST_DYNAMIC is built");
        need(batch > 0, CUDNN_STATUS_BAD_PARAM, "miniBatch is positive");
        need(fake_cudnn().has_compiler, CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING,
             "libnvrtc was not found");
        rnn->built_for = batch;
    });
}

}  // extern "C"
