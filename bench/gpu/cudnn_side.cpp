#include "bench/gpu/cudnn_side.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "bench/gpu/cudnn_library.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

cudnnDataType_t data_type(DType dtype) {
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

int to_int(std::int64_t value, const char* what) {
    if (value > INT32_MAX) {
        throw Error(ErrorCode::kUnsupported, std::string("cuDNN takes 32-bit sizes; ") + what +
                                                 " is " + std::to_string(value));
    }
    return static_cast<int>(value);
}

/// cuDNN's handle, one for all sides of a process, and the stream it is set to.
struct SharedHandle {
    CudnnHandle handle;
    void* stream = nullptr;
    bool set = false;
};
std::shared_ptr<SharedHandle> shared_handle() {
    static std::weak_ptr<SharedHandle> last;
    std::shared_ptr<SharedHandle> handle = last.lock();
    if (handle == nullptr) last = handle = std::make_shared<SharedHandle>();
    return handle;
}

/// A block of weights in both layouts: offsets and size in elements.
struct Piece {
    std::int64_t in_space = 0, in_flat = 0, count = 0;
};

class CudnnSide final : public Side {
public:
    CudnnSide(const Problem& problem, Arena& arena, std::shared_ptr<cuda::DeviceApi> api,
              const CudnnOptions& options)
        : problem_(problem), arena_(arena), api_(std::move(api)), options_(options) {
        const std::string cannot = cudnn_cannot(problem.grid_case);
        if (!cannot.empty()) throw Error(ErrorCode::kUnsupported, cannot);
        set_stream(api_->default_queue());
        describe_rnn();
        describe_tensors();
        measure();
        arena.need(workspace_bytes_, reserve_bytes_);
        bring_weights_in();
    }

    std::string name() const override { return "cudnn " + options_.name(); }
    std::size_t workspace_bytes() const override { return workspace_bytes_; }
    std::size_t reserve_bytes() const override { return reserve_bytes_; }
    bool backward_changes_reserve() const override { return true; }
    void forward(StreamRef stream, bool training) override;
    void backward(StreamRef stream, bool weights) override;
    Outcome outcome(bool states_and_weights) override;

private:
    const RnnSpec& spec() const { return problem_.grid_case.spec; }
    cudnnHandle_t handle() const { return shared_->handle.get(); }
    bool has_c() const { return cell_has_c(spec().cell); }
    void set_stream(cuda::Queue queue);
    void describe_rnn();
    void describe_tensors();
    void measure();
    void find_pieces();
    void add_piece(int layer, int id, const RnnParamInfo* matrix, const RnnParamInfo* bias,
                   int gate);
    void bring_weights_in();

    const Problem& problem_;
    Arena& arena_;
    std::shared_ptr<cuda::DeviceApi> api_;
    CudnnOptions options_;
    std::shared_ptr<SharedHandle> shared_ = shared_handle();
    RnnDescriptor rnn_;
    RnnDataDescriptor x_, y_;
    TensorDescriptor h_, c_;
    DropoutDescriptor dropout_;
    Buffer dropout_states_;
    std::size_t weight_bytes_ = 0, workspace_bytes_ = 0, reserve_bytes_ = 0;
    Buffer weight_space_, dweight_space_;
    std::vector<Piece> pieces_;
};

/// Not while recording, where it stays the same.
void CudnnSide::set_stream(cuda::Queue queue) {
    if (shared_->set && shared_->stream == queue.native) return;
    check_cudnn(cudnn().SetStream(handle(), static_cast<cudaStream_t>(queue.native)),
                "cudnnSetStream");
    shared_->stream = queue.native;
    shared_->set = true;
}

void CudnnSide::describe_rnn() {
    const RnnSpec& s = spec();
    std::size_t state_bytes = 0;
    if (s.dropout > 0.0) {
        check_cudnn(cudnn().DropoutGetStatesSize(handle(), &state_bytes),
                    "cudnnDropoutGetStatesSize");
        dropout_states_ = Buffer(state_bytes, problem_.device, "cuDNN's dropout states");
    }
    check_cudnn(
        cudnn().SetDropoutDescriptor(dropout_.get(), handle(), static_cast<float>(s.dropout),
                                     dropout_states_.data(), state_bytes, 1),
        "cudnnSetDropoutDescriptor");
    const cudnnDataType_t type = data_type(s.dtype);
    const std::int64_t projected = s.proj_size > 0 ? s.proj_size : s.hidden_size;
    check_cudnn(cudnn().SetRNNDescriptor_v8(
                    rnn_.get(), static_cast<cudnnRNNAlgo_t>(options_.algo), mode_of(s.cell),
                    bias_of(s.bias), s.bidirectional ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL,
                    options_.skip_input ? CUDNN_SKIP_INPUT : CUDNN_LINEAR_INPUT, type,
                    type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT,
                    static_cast<cudnnMathType_t>(options_.math), to_int(s.input_size, "I"),
                    to_int(s.hidden_size, "H"), to_int(projected, "P"), to_int(s.num_layers, "L"),
                    dropout_.get(),
                    options_.layout == CudnnLayout::kPacked ? CUDNN_RNN_PADDED_IO_DISABLED
                                                            : CUDNN_RNN_PADDED_IO_ENABLED),
                "cudnnSetRNNDescriptor_v8");
    if (options_.clip > 0.0) {
        check_cudnn(
            cudnn().RNNSetClip_v9(rnn_.get(), CUDNN_RNN_CLIP_MINMAX, -options_.clip, options_.clip),
            "cudnnRNNSetClip_v9");
    }
    if (options_.algo == CudnnAlgo::kPersistDynamic) {
        check_cudnn(cudnn().BuildRNNDynamic(handle(), rnn_.get(),
                                            to_int(problem_.grid_case.batch_size, "N")),
                    "cudnnBuildRNNDynamic");
    }
}

void CudnnSide::describe_tensors() {
    const GridCase& c = problem_.grid_case;
    const cudnnDataType_t type = data_type(spec().dtype);
    std::vector<int> lengths(static_cast<std::size_t>(c.batch_size), to_int(c.seq_len, "T"));
    std::copy(problem_.host_lengths.begin(), problem_.host_lengths.end(),
              problem_.host_lengths.empty() ? lengths.end() : lengths.begin());
    double zero = 0.0;  // eight zero bytes: zero in every type
    const auto sequence = [&](const RnnDataDescriptor& descriptor, std::int64_t width) {
        check_cudnn(cudnn().SetRNNDataDescriptor(descriptor.get(), type,
                                                 static_cast<cudnnRNNDataLayout_t>(options_.layout),
                                                 to_int(c.seq_len, "T"), to_int(c.batch_size, "N"),
                                                 to_int(width, "the width"), lengths.data(), &zero),
                    "cudnnSetRNNDataDescriptor");
    };
    sequence(x_, spec().input_size);
    sequence(y_, problem_.output_width());
    const auto state = [&](const TensorDescriptor& descriptor, std::int64_t width) {
        const int states = to_int(spec().num_states(), "L*D"), batch = to_int(c.batch_size, "N");
        const int columns = to_int(width, "the width");
        const std::array<int, 3> shape{states, batch, columns};
        const std::array<int, 3> strides{batch * columns, columns, 1};
        check_cudnn(
            cudnn().SetTensorNdDescriptor(descriptor.get(), type, 3, shape.data(), strides.data()),
            "cudnnSetTensorNdDescriptor");
    };
    state(h_, spec().output_size());
    state(c_, spec().hidden_size);
}

void CudnnSide::measure() {
    std::size_t workspace = 0, reserve = 0;
    check_cudnn(cudnn().GetRNNTempSpaceSizes(handle(), rnn_.get(), CUDNN_FWD_MODE_INFERENCE,
                                             x_.get(), &workspace, &reserve),
                "cudnnGetRNNTempSpaceSizes");
    workspace_bytes_ = workspace;
    if (!problem_.grid_case.inference_only) {
        check_cudnn(cudnn().GetRNNTempSpaceSizes(handle(), rnn_.get(), CUDNN_FWD_MODE_TRAINING,
                                                 x_.get(), &workspace, &reserve),
                    "cudnnGetRNNTempSpaceSizes");
        workspace_bytes_ = std::max(workspace_bytes_, workspace);
        reserve_bytes_ = reserve;
    }
    check_cudnn(cudnn().GetRNNWeightSpaceSize(handle(), rnn_.get(), &weight_bytes_),
                "cudnnGetRNNWeightSpaceSize");
}

/// Gate `gate` of a matrix and a bias, which cuDNN knows as linear layer `id` of `layer`.
void CudnnSide::add_piece(int layer, int id, const RnnParamInfo* matrix, const RnnParamInfo* bias,
                          int gate) {
    TensorDescriptor matrix_shape, bias_shape;
    void *matrix_at = nullptr, *bias_at = nullptr;
    check_cudnn(
        cudnn().GetRNNWeightParams(handle(), rnn_.get(), layer, weight_bytes_, weight_space_.data(),
                                   id, matrix_shape.get(), &matrix_at, bias_shape.get(), &bias_at),
        "cudnnGetRNNWeightParams");
    const auto elements_of = [](const TensorDescriptor& descriptor) {
        cudnnDataType_t type;
        int dims = 0;
        std::array<int, 8> shape{}, strides{};
        check_cudnn(cudnn().GetTensorNdDescriptor(descriptor.get(), 8, &type, &dims, shape.data(),
                                                  strides.data()),
                    "cudnnGetTensorNdDescriptor");
        std::int64_t count = 1;
        for (int d = 0; d < dims; ++d) count *= shape[static_cast<std::size_t>(d)];
        return count;
    };
    const auto add = [&](const RnnParamInfo& info, void* at, const TensorDescriptor& descriptor,
                         std::int64_t gates) {
        const std::int64_t count = info.numel / gates;
        if (elements_of(descriptor) != count) {
            throw Error(ErrorCode::kInternal, info.name + " has another size in cuDNN");
        }
        const auto bytes = static_cast<std::byte*>(at) - weight_space_.as<std::byte>();
        pieces_.push_back({static_cast<std::int64_t>(bytes) /
                               static_cast<std::int64_t>(dtype_bytes(problem_.value)),
                           info.offset + gate * count, count});
    };
    // The projection is one matrix; all others are cut by gate.
    if (matrix != nullptr && matrix_at != nullptr) {
        const bool whole = matrix->name.rfind("weight_hr", 0) == 0;
        add(*matrix, matrix_at, matrix_shape, whole ? 1 : spec().num_gates());
    }
    if (bias != nullptr && bias_at != nullptr) add(*bias, bias_at, bias_shape, spec().num_gates());
}

void CudnnSide::find_pieces() {
    const RnnSpec& s = spec();
    const std::vector<RnnParamInfo> layout = param_layout(s);
    const int gates = static_cast<int>(s.num_gates());
    for (int state = 0; state < static_cast<int>(s.num_states()); ++state) {
        const int layer = state / static_cast<int>(s.num_directions());
        const std::string suffix =
            "_l" + std::to_string(layer) +
            (state % static_cast<int>(s.num_directions()) == 1 ? "_reverse" : "");
        const auto find = [&](const std::string& name) -> const RnnParamInfo* {
            for (const RnnParamInfo& info : layout) {
                if (info.name == name + suffix) return &info;
            }
            return nullptr;
        };
        // The order of gates is the same: LSTM i,f,g,o; GRU r,z,n. First the input's, then the state's.
        for (int gate = 0; gate < gates; ++gate) {
            add_piece(state, gate, find("weight_ih"), find("bias_ih"), gate);
            add_piece(state, gates + gate, find("weight_hh"), find("bias_hh"), gate);
        }
        if (s.proj_size > 0) add_piece(state, 2 * gates, find("weight_hr"), nullptr, 0);
    }
}

void CudnnSide::bring_weights_in() {
    weight_space_ = Buffer(weight_bytes_, problem_.device, "cuDNN's weights");
    weight_space_.zero();
    if (!problem_.grid_case.inference_only) {
        dweight_space_ = Buffer(weight_bytes_, problem_.device, "cuDNN's gradients of weights");
    }
    find_pieces();
    const std::size_t e = dtype_bytes(problem_.value);
    const cuda::Queue queue = api_->default_queue();
    for (const Piece& piece : pieces_) {
        api_->copy(queue,
                   weight_space_.as<std::byte>() + static_cast<std::size_t>(piece.in_space) * e,
                   problem_.weights.as<std::byte>() + static_cast<std::size_t>(piece.in_flat) * e,
                   static_cast<std::size_t>(piece.count) * e);
    }
    api_->synchronize(queue);
}

void CudnnSide::forward(StreamRef stream, bool training) {
    set_stream({stream.native});
    check_cudnn(
        cudnn().RNNForward(
            handle(), rnn_.get(), training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE,
            nullptr,  // lengths come from the descriptors
            x_.get(), problem_.x.data(), y_.get(), arena_.y.data(), h_.get(), problem_.hx.data(),
            arena_.hy.data(), c_.get(), has_c() ? problem_.cx_value.data() : nullptr,
            has_c() ? arena_.cy.data() : nullptr, weight_bytes_, weight_space_.data(),
            workspace_bytes_, arena_.workspace.data(), training ? reserve_bytes_ : 0,
            training ? arena_.reserve.data() : nullptr),
        "cudnnRNNForward");
}

void CudnnSide::backward(StreamRef stream, bool weights) {
    const cuda::Queue queue{stream.native};
    set_stream(queue);
    check_cudnn(
        cudnn().RNNBackwardData_v8(
            handle(), rnn_.get(), nullptr, y_.get(), arena_.y.data(), problem_.dy.data(), x_.get(),
            arena_.dx.data(), h_.get(), problem_.hx.data(), problem_.dhy.data(), arena_.dhx.data(),
            c_.get(), has_c() ? problem_.cx_value.data() : nullptr,
            has_c() ? problem_.dcy_value.data() : nullptr, has_c() ? arena_.dcx.data() : nullptr,
            weight_bytes_, weight_space_.data(), workspace_bytes_, arena_.workspace.data(),
            reserve_bytes_, arena_.reserve.data()),
        "cudnnRNNBackwardData_v8");
    if (!weights) return;
    api_->zero(queue, dweight_space_.data(), weight_bytes_);
    check_cudnn(cudnn().RNNBackwardWeights_v8(
                    handle(), rnn_.get(), CUDNN_WGRAD_MODE_ADD, nullptr, x_.get(),
                    problem_.x.data(), h_.get(), problem_.hx.data(), y_.get(), arena_.y.data(),
                    weight_bytes_, dweight_space_.data(), workspace_bytes_, arena_.workspace.data(),
                    reserve_bytes_, arena_.reserve.data()),
                "cudnnRNNBackwardWeights_v8");
}

Outcome CudnnSide::outcome(bool states_and_weights) {
    const auto read = [&](const Buffer& buffer, std::int64_t count) {
        return values_of(buffer.data(), problem_.value, count, problem_.device);
    };
    const bool training = !problem_.grid_case.inference_only;
    Outcome out;
    out.hy = read(arena_.hy, problem_.h_count());
    if (training) {
        out.dhx = read(arena_.dhx, problem_.h_count());
        const std::vector<double> space = read(
            dweight_space_, static_cast<std::int64_t>(weight_bytes_ / dtype_bytes(problem_.value)));
        out.dweights.resize(static_cast<std::size_t>(param_count(spec())));
        for (const Piece& piece : pieces_) {
            std::copy_n(space.begin() + piece.in_space, piece.count,
                        out.dweights.begin() + piece.in_flat);
        }
    }
    if (states_and_weights) return out;
    out.y = read(arena_.y, problem_.tokens() * problem_.output_width());
    if (training) out.dx = read(arena_.dx, problem_.tokens() * spec().input_size);
    if (has_c()) {
        out.cy = read(arena_.cy, problem_.c_count());
        if (training) out.dcx = read(arena_.dcx, problem_.c_count());
    }
    return out;
}

}  // namespace

std::unique_ptr<Side> make_cudnn_side(const Problem& problem, Arena& arena,
                                      std::shared_ptr<cuda::DeviceApi> api,
                                      const CudnnOptions& options) {
    if (!cudnn_reason().empty()) throw Error(ErrorCode::kUnsupported, cudnn_reason());
    return std::make_unique<CudnnSide>(problem, arena, std::move(api), options);
}

}  // namespace carousel::bench
