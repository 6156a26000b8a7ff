#include "bench/gpu/cudnn_side.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "bench/gpu/cudnn_descriptor.hpp"
#include "bench/gpu/cudnn_library.hpp"
#include "bench/gpu/cudnn_packing.hpp"
#include "bench/gpu/cudnn_weights.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

/// cuDNN's handle and the stream it is set to. One for the process: it comes with a cuBLAS handle
/// and that one's workspace, which a row must not pay for anew. Never given back, since at exit the
/// context may be gone.
struct SharedHandle {
    CudnnHandle handle;
    void* stream = nullptr;
    bool set = false;
};
SharedHandle& shared_handle() {
    static SharedHandle* const handle = new SharedHandle;
    return *handle;
}

class CudnnSide final : public Side {
public:
    CudnnSide(const Problem& problem, Arena& arena, std::shared_ptr<cuda::DeviceApi> api,
              const CudnnOptions& options)
        : problem_(problem), arena_(arena), api_(std::move(api)), options_(options) {
        const std::string cannot = cudnn_cannot(problem.grid_case);
        if (!cannot.empty()) throw Error(ErrorCode::kUnsupported, cannot);
        if (options.layout == CudnnLayout::kBatchMajor) {
            throw Error(ErrorCode::kUnsupported, "the row's tensors are not batch-major");
        }
        set_stream(api_->default_queue());
        CudnnOptions backward = options;
        backward.algo = cudnn_backward_algo(problem.grid_case, options.algo);
        rnn_ = cudnn_rnn(handle(), spec(), problem.grid_case.batch_size, options, problem.device);
        backward_rnn_ = backward == options
                            ? rnn_
                            : cudnn_rnn(handle(), spec(), problem.grid_case.batch_size, backward,
                                        problem.device);
        describe_tensors();
        measure();
        arena.need(workspace_bytes_, reserve_bytes_);
        bring_weights_in();
        bring_inputs_in();
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
    cudnnHandle_t handle() const { return shared_.handle.get(); }
    bool has_c() const { return cell_has_c(spec().cell); }
    void set_stream(cuda::Queue queue);
    void describe_tensors();
    void measure();
    void bring_weights_in();
    void bring_inputs_in();
    bool packs() const {
        return options_.layout == CudnnLayout::kPacked && !problem_.host_lengths.empty();
    }

    const Problem& problem_;
    Arena& arena_;
    std::shared_ptr<cuda::DeviceApi> api_;
    CudnnOptions options_;
    SharedHandle& shared_ = shared_handle();
    std::shared_ptr<const CudnnRnn> rnn_, backward_rnn_;  ///< mostly one
    RnnDataDescriptor x_, y_;
    TensorDescriptor h_, c_;
    std::size_t weight_bytes_ = 0, workspace_bytes_ = 0, reserve_bytes_ = 0;
    Buffer weight_space_, dweight_space_;
    std::vector<WeightPiece> pieces_;
    CudnnPacking packing_{problem_.host_lengths};
    Buffer packed_[6];  ///< of varied lengths in the packed layout: what inputs_ points to
    struct Inputs {
        const void *x = nullptr, *hx = nullptr, *cx = nullptr;
        const void *dy = nullptr, *dhy = nullptr, *dcy = nullptr;
    };
    Inputs inputs_;
};

/// Not while recording, where it stays the same.
void CudnnSide::set_stream(cuda::Queue queue) {
    if (shared_.set && shared_.stream == queue.native) return;
    check_cudnn(cudnn().SetStream(handle(), static_cast<cudaStream_t>(queue.native)),
                "cudnnSetStream");
    shared_.stream = queue.native;
    shared_.set = true;
}

void CudnnSide::describe_tensors() {
    const GridCase& c = problem_.grid_case;
    const cudnnDataType_t type = cudnn_data_type(spec().dtype);
    int steps = cudnn_int(c.seq_len, "T");
    std::vector<int> lengths(static_cast<std::size_t>(c.batch_size), steps);
    if (packs()) {
        lengths = packing_.lengths();
        steps = lengths.front();  // cuDNN refuses packed sequences none of which is the longest
    } else if (!problem_.host_lengths.empty()) {
        lengths.assign(problem_.host_lengths.begin(), problem_.host_lengths.end());
    }
    double zero = 0.0;  // eight zero bytes: zero in every type
    const auto sequence = [&](const RnnDataDescriptor& descriptor, std::int64_t width) {
        check_cudnn(
            cudnn().SetRNNDataDescriptor(
                descriptor.get(), type, static_cast<cudnnRNNDataLayout_t>(options_.layout), steps,
                cudnn_int(c.batch_size, "N"), cudnn_int(width, "the width"), lengths.data(), &zero),
            "cudnnSetRNNDataDescriptor");
    };
    sequence(x_, spec().input_size);
    sequence(y_, problem_.output_width());
    const auto state = [&](const TensorDescriptor& descriptor, std::int64_t width) {
        const int states = cudnn_int(spec().num_states(), "L*D"),
                  batch = cudnn_int(c.batch_size, "N");
        const int columns = cudnn_int(width, "the width");
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
    const auto ask = [&](const CudnnRnn& rnn, cudnnForwardMode_t mode) {
        std::size_t workspace = 0, reserve = 0;
        check_cudnn(cudnn().GetRNNTempSpaceSizes(handle(), rnn.rnn.get(), mode, x_.get(),
                                                 &workspace, &reserve),
                    "cudnnGetRNNTempSpaceSizes");
        workspace_bytes_ = std::max(workspace_bytes_, workspace);
        if (mode == CUDNN_FWD_MODE_TRAINING) reserve_bytes_ = std::max(reserve_bytes_, reserve);
    };
    ask(*rnn_, CUDNN_FWD_MODE_INFERENCE);
    if (!problem_.grid_case.inference_only) {
        ask(*rnn_, CUDNN_FWD_MODE_TRAINING);
        if (backward_rnn_ != rnn_) ask(*backward_rnn_, CUDNN_FWD_MODE_TRAINING);
    }
    check_cudnn(cudnn().GetRNNWeightSpaceSize(handle(), rnn_->rnn.get(), &weight_bytes_),
                "cudnnGetRNNWeightSpaceSize");
}

void CudnnSide::bring_weights_in() {
    weight_space_ = Buffer(weight_bytes_, problem_.device, "cuDNN's weights");
    weight_space_.zero();
    if (!problem_.grid_case.inference_only) {
        dweight_space_ = Buffer(weight_bytes_, problem_.device, "cuDNN's gradients of weights");
    }
    pieces_ = weight_pieces(handle(), rnn_->rnn.get(), spec(), problem_.value, weight_space_.data(),
                            weight_bytes_);
    const std::size_t e = dtype_bytes(problem_.value);
    const cuda::Queue queue = api_->default_queue();
    for (const WeightPiece& piece : pieces_) {
        api_->copy(queue,
                   weight_space_.as<std::byte>() + static_cast<std::size_t>(piece.in_space) * e,
                   problem_.weights.as<std::byte>() + static_cast<std::size_t>(piece.in_flat) * e,
                   static_cast<std::size_t>(piece.count) * e);
    }
    api_->synchronize(queue);
}

/// The problem's own tensors, or packed copies of them.
void CudnnSide::bring_inputs_in() {
    const std::size_t e = dtype_bytes(problem_.value);
    std::size_t next = 0;
    const auto bring = [&](const Buffer& from, std::int64_t width, bool sequence) -> const void* {
        if (!packs() || from.data() == nullptr) return from.data();
        std::vector<std::byte> bytes(from.bytes());
        copy_to_host(bytes.data(), from.data(), bytes.size(), problem_.device);
        const std::size_t row = static_cast<std::size_t>(width) * e;
        bytes = sequence ? packing_.packed(bytes, row) : packing_.sorted(bytes, row);
        Buffer& to = packed_[next++];
        to = Buffer(bytes.size(), problem_.device, "a packed tensor for cuDNN");
        copy_to_device(to.data(), bytes.data(), bytes.size(), problem_.device);
        return to.data();
    };
    const RnnSpec& s = spec();
    inputs_.x = bring(problem_.x, s.input_size, true);
    inputs_.hx = bring(problem_.hx, s.output_size(), false);
    inputs_.cx = bring(problem_.cx_value, s.hidden_size, false);
    inputs_.dy = bring(problem_.dy, problem_.output_width(), true);
    inputs_.dhy = bring(problem_.dhy, s.output_size(), false);
    inputs_.dcy = bring(problem_.dcy_value, s.hidden_size, false);
}

void CudnnSide::forward(StreamRef stream, bool training) {
    set_stream({stream.native});
    check_cudnn(cudnn().RNNForward(
                    handle(), rnn_->rnn.get(),
                    training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE,
                    nullptr,  // lengths come from the descriptors
                    x_.get(), inputs_.x, y_.get(), arena_.y.data(), h_.get(), inputs_.hx,
                    arena_.hy.data(), c_.get(), inputs_.cx, has_c() ? arena_.cy.data() : nullptr,
                    weight_bytes_, weight_space_.data(), workspace_bytes_, arena_.workspace.data(),
                    training ? reserve_bytes_ : 0, training ? arena_.reserve.data() : nullptr),
                "cudnnRNNForward");
}

void CudnnSide::backward(StreamRef stream, bool weights) {
    const cuda::Queue queue{stream.native};
    set_stream(queue);
    check_cudnn(
        cudnn().RNNBackwardData_v8(handle(), backward_rnn_->rnn.get(), nullptr, y_.get(),
                                   arena_.y.data(), inputs_.dy, x_.get(), arena_.dx.data(),
                                   h_.get(), inputs_.hx, inputs_.dhy, arena_.dhx.data(), c_.get(),
                                   inputs_.cx, inputs_.dcy, has_c() ? arena_.dcx.data() : nullptr,
                                   weight_bytes_, weight_space_.data(), workspace_bytes_,
                                   arena_.workspace.data(), reserve_bytes_, arena_.reserve.data()),
        "cudnnRNNBackwardData_v8");
    if (!weights) return;
    api_->zero(queue, dweight_space_.data(), weight_bytes_);
    check_cudnn(
        cudnn().RNNBackwardWeights_v8(
            handle(), backward_rnn_->rnn.get(), CUDNN_WGRAD_MODE_ADD, nullptr, x_.get(), inputs_.x,
            h_.get(), inputs_.hx, y_.get(), arena_.y.data(), weight_bytes_, dweight_space_.data(),
            workspace_bytes_, arena_.workspace.data(), reserve_bytes_, arena_.reserve.data()),
        "cudnnRNNBackwardWeights_v8");
}

Outcome CudnnSide::outcome(bool states_and_weights) {
    const auto read = [&](const Buffer& buffer, std::int64_t count) {
        return values_of(buffer.data(), problem_.value, count, problem_.device);
    };
    const auto sequence = [&](const Buffer& buffer, std::int64_t width) {
        if (!packs()) return read(buffer, problem_.tokens() * width);
        return packing_.padded(read(buffer, packing_.rows() * width), problem_.grid_case.seq_len,
                               width);
    };
    const auto state = [&](const Buffer& buffer, std::int64_t count, std::int64_t width) {
        const std::vector<double> values = read(buffer, count);
        return packs() ? packing_.unsorted(values, width) : values;
    };
    const RnnSpec& s = spec();
    const std::int64_t h_count = problem_.h_count(), c_count = problem_.c_count();
    const bool training = !problem_.grid_case.inference_only;
    Outcome out;
    out.hy = state(arena_.hy, h_count, s.output_size());
    if (training) {
        out.dhx = state(arena_.dhx, h_count, s.output_size());
        const std::vector<double> space = read(
            dweight_space_, static_cast<std::int64_t>(weight_bytes_ / dtype_bytes(problem_.value)));
        out.dweights.resize(static_cast<std::size_t>(param_count(s)));
        for (const WeightPiece& piece : pieces_) {
            std::copy_n(space.begin() + piece.in_space, piece.count,
                        out.dweights.begin() + piece.in_flat);
        }
    }
    if (states_and_weights) return out;
    out.y = sequence(arena_.y, problem_.output_width());
    if (training) out.dx = sequence(arena_.dx, s.input_size);
    if (has_c()) {
        out.cy = state(arena_.cy, c_count, s.hidden_size);
        if (training) out.dcx = state(arena_.dcx, c_count, s.hidden_size);
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
