#include "bench/gpu/cudnn_descriptor.hpp"

#include <chrono>
#include <map>
#include <string>

#include "bench/gpu/cudnn_side.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

cudnnRNNMode_t mode_of(Cell cell) {
    switch (cell) {
        case Cell::kRnnTanh:
            return CUDNN_RNN_TANH;
        case Cell::kRnnRelu:
            return CUDNN_RNN_RELU;
        case Cell::kGru:
            return CUDNN_GRU;
        default:
            return CUDNN_LSTM;
    }
}

cudnnRNNBiasMode_t bias_of(BiasMode bias) {
    switch (bias) {
        case BiasMode::kNone:
            return CUDNN_RNN_NO_BIAS;
        case BiasMode::kSingle:
            return CUDNN_RNN_SINGLE_INP_BIAS;
        default:
            return CUDNN_RNN_DOUBLE_BIAS;
    }
}

void set_dropout(cudnnHandle_t handle, CudnnRnn& made, double probability, const Device& device) {
    std::size_t bytes = 0;
    if (probability > 0.0) {
        check_cudnn(cudnn().DropoutGetStatesSize(handle, &bytes), "cudnnDropoutGetStatesSize");
        made.dropout_states = Buffer(bytes, device, "cuDNN's dropout states");
    }
    check_cudnn(
        cudnn().SetDropoutDescriptor(made.dropout.get(), handle, static_cast<float>(probability),
                                     made.dropout_states.data(), bytes, 1),
        "cudnnSetDropoutDescriptor");
}

/// Of PERSIST_DYNAMIC, in this process.
struct Compiling {
    double most_s = 90.0, spent_s = 0.0;
};
Compiling& compiling() {
    static Compiling once;
    return once;
}

void compile(cudnnHandle_t handle, const CudnnRnn& made, std::int64_t batch_size) {
    Compiling& all = compiling();
    if (all.spent_s > all.most_s) {
        throw Error(ErrorCode::kUnsupported, "compiling it took " +
                                                 std::to_string(static_cast<int>(all.spent_s)) +
                                                 " s in earlier rows; --compile-s allows more");
    }
    const auto begin = std::chrono::steady_clock::now();
    const cudnnStatus_t status =
        cudnn().BuildRNNDynamic(handle, made.rnn.get(), cudnn_int(batch_size, "N"));
    all.spent_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    check_cudnn(status, "cudnnBuildRNNDynamic");
}

std::shared_ptr<const CudnnRnn> make_rnn(cudnnHandle_t handle, const RnnSpec& s,
                                         std::int64_t batch_size, const CudnnOptions& options,
                                         const Device& device) {
    auto made = std::make_shared<CudnnRnn>();
    set_dropout(handle, *made, s.dropout, device);
    const cudnnDataType_t type = cudnn_data_type(s.dtype);
    const std::int64_t projected = s.proj_size > 0 ? s.proj_size : s.hidden_size;
    check_cudnn(cudnn().SetRNNDescriptor_v8(
                    made->rnn.get(), static_cast<cudnnRNNAlgo_t>(options.algo), mode_of(s.cell),
                    bias_of(s.bias), s.bidirectional ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL,
                    options.skip_input ? CUDNN_SKIP_INPUT : CUDNN_LINEAR_INPUT, type,
                    type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT,
                    static_cast<cudnnMathType_t>(options.math), cudnn_int(s.input_size, "I"),
                    cudnn_int(s.hidden_size, "H"), cudnn_int(projected, "P"),
                    cudnn_int(s.num_layers, "L"), made->dropout.get(),
                    options.layout == CudnnLayout::kPacked ? CUDNN_RNN_PADDED_IO_DISABLED
                                                           : CUDNN_RNN_PADDED_IO_ENABLED),
                "cudnnSetRNNDescriptor_v8");
    if (options.clip > 0.0) {
        check_cudnn(cudnn().RNNSetClip_v9(made->rnn.get(), CUDNN_RNN_CLIP_MINMAX, -options.clip,
                                          options.clip),
                    "cudnnRNNSetClip_v9");
    }
    if (options.algo == CudnnAlgo::kPersistDynamic) compile(handle, *made, batch_size);
    return made;
}

/// What tells networks apart that are compiled, without batch and options.
std::string key_of(const RnnSpec& s) {
    std::string key;
    for (const std::int64_t fact :
         {static_cast<std::int64_t>(s.cell), static_cast<std::int64_t>(s.dtype),
          static_cast<std::int64_t>(s.bias), std::int64_t{s.bidirectional}, s.input_size,
          s.hidden_size, s.proj_size, s.num_layers}) {
        key += std::to_string(fact) + " ";
    }
    return key + std::to_string(s.dropout);
}

struct Compiled {
    std::string network;
    std::map<std::string, std::shared_ptr<const CudnnRnn>> by_batch_and_options;
};

}  // namespace

std::shared_ptr<const CudnnRnn> cudnn_rnn(cudnnHandle_t handle, const RnnSpec& spec,
                                          std::int64_t batch_size, const CudnnOptions& options,
                                          const Device& device) {
    if (options.algo != CudnnAlgo::kPersistDynamic) {
        return make_rnn(handle, spec, batch_size, options, device);
    }
    // Never given back as a whole: at exit the context may be gone.
    static Compiled& compiled = *new Compiled;
    if (const std::string network = key_of(spec); compiled.network != network) {
        compiled.by_batch_and_options.clear();
        compiled.network = network;
    }
    auto& found = compiled.by_batch_and_options[std::to_string(batch_size) + " " + options.name()];
    if (found == nullptr) found = make_rnn(handle, spec, batch_size, options, device);
    return found;
}

void limit_cudnn_compiling(double seconds) { compiling().most_s = seconds; }

cudnnDataType_t cudnn_data_type(DType dtype) {
    switch (dtype) {
        case DType::kF64:
            return CUDNN_DATA_DOUBLE;
        case DType::kBf16:
            return CUDNN_DATA_BFLOAT16;
        case DType::kF16:
            return CUDNN_DATA_HALF;
        default:
            return CUDNN_DATA_FLOAT;
    }
}

int cudnn_int(std::int64_t value, const char* what) {
    if (value > INT32_MAX) {
        throw Error(ErrorCode::kUnsupported, std::string("cuDNN takes 32-bit sizes; ") + what +
                                                 " is " + std::to_string(value));
    }
    return static_cast<int>(value);
}

}  // namespace carousel::bench
