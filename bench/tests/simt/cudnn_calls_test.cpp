#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/gpu/cudnn_library.hpp"
#include "bench/gpu/cudnn_side.hpp"
#include "bench/tests/simt/cudnn_stand_in.hpp"
#include "carousel/error.hpp"

// The stand-in itself: each mistake in a call is refused, with a reason, and the call without it is
// not.

namespace carousel::bench {
namespace {

constexpr int kDevice = 60;
constexpr int kT = 3, kN = 2, kI = 4, kH = 4;

class CudnnCalls : public testing::Test {
protected:
    CudnnCalls() {
        if (!cudnn_reason().empty()) throw std::runtime_error(cudnn_reason());
        api = cuda::device_api(kDevice);
        call(cudnn().SetStream(handle->get(),
                               static_cast<cudaStream_t>(api->default_queue().native)));
        call(cudnn().SetDropoutDescriptor(dropout->get(), handle->get(), 0.0F, nullptr, 0, 0));
    }
    ~CudnnCalls() override { api->synchronize(api->default_queue()); }

    /// The reason, or "" if the call is fine.
    static std::string call(cudnnStatus_t status) {
        try {
            check_cudnn(status, "cuDNN");
            return "";
        } catch (const Error& error) {
            return error.what();
        }
    }

    std::string set_rnn(cudnnRNNAlgo_t algo = CUDNN_RNN_ALGO_STANDARD,
                        cudnnDataType_t type = CUDNN_DATA_FLOAT,
                        cudnnMathType_t math = CUDNN_FMA_MATH, int projected = kH,
                        unsigned flags = CUDNN_RNN_PADDED_IO_DISABLED) {
        return call(cudnn().SetRNNDescriptor_v8(
            rnn->get(), algo, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS, CUDNN_UNIDIRECTIONAL,
            CUDNN_LINEAR_INPUT, type,
            type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT, math, kI, kH,
            projected, 1, dropout->get(), flags));
    }
    std::string set_data(cudnnRNNDataDescriptor_t data, int width, std::vector<int> lengths,
                         cudnnRNNDataLayout_t layout = CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED) {
        return call(cudnn().SetRNNDataDescriptor(data, CUDNN_DATA_FLOAT, layout, kT, kN, width,
                                                 lengths.data(), nullptr));
    }
    std::string set_states(std::array<int, 3> shape, std::array<int, 3> strides) {
        return call(cudnn().SetTensorNdDescriptor(states->get(), CUDNN_DATA_FLOAT, 3, shape.data(),
                                                  strides.data()));
    }
    /// Everything as it should be, and memory for it.
    void describe(std::vector<int> lengths = {kT, kT},
                  cudnnRNNDataLayout_t layout = CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED,
                  unsigned flags = CUDNN_RNN_PADDED_IO_DISABLED) {
        ASSERT_EQ(set_rnn(CUDNN_RNN_ALGO_STANDARD, CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, kH, flags),
                  "");
        ASSERT_EQ(set_data(x_shape->get(), kI, lengths, layout), "");
        ASSERT_EQ(set_data(y_shape->get(), kH, lengths, layout), "");
        ASSERT_EQ(set_states({1, kN, kH}, {kN * kH, kH, 1}), "");
        take_memory();
    }
    void take_memory() {
        ASSERT_EQ(
            call(cudnn().GetRNNTempSpaceSizes(handle->get(), rnn->get(), CUDNN_FWD_MODE_TRAINING,
                                              x_shape->get(), &workspace_bytes, &reserve_bytes)),
            "");
        ASSERT_EQ(call(cudnn().GetRNNWeightSpaceSize(handle->get(), rnn->get(), &weight_bytes)),
                  "");
        const Device on = api->device();
        for (Buffer* tensor : {&x, &y, &dx, &dy, &h, &dh}) *tensor = Buffer(4 * kT * kN * kI, on);
        weights = Buffer(weight_bytes, on);
        weights.zero();
        workspace = Buffer(workspace_bytes, on);
        reserve = Buffer(reserve_bytes, on);
    }
    std::string forward(cudnnForwardMode_t mode = CUDNN_FWD_MODE_TRAINING) {
        const bool saves = mode == CUDNN_FWD_MODE_TRAINING;
        return call(cudnn().RNNForward(handle->get(), rnn->get(), mode, nullptr, x_shape->get(),
                                       x.data(), y_shape->get(), y.data(), states->get(), h.data(),
                                       nullptr, states->get(), nullptr, nullptr, weight_bytes,
                                       weights.data(), workspace_bytes, workspace.data(),
                                       saves || reserve_in_inference ? reserve_bytes : 0,
                                       saves || reserve_in_inference ? reserve.data() : nullptr));
    }
    std::string backward_data() {
        return call(cudnn().RNNBackwardData_v8(
            handle->get(), rnn->get(), nullptr, y_shape->get(), y.data(), dy.data(), x_shape->get(),
            dx.data(), states->get(), h.data(), nullptr, dh.data(), states->get(), nullptr, nullptr,
            nullptr, weight_bytes, weights.data(), workspace_bytes, workspace.data(), reserve_bytes,
            reserve.data()));
    }
    std::string backward_weights(cudnnWgradMode_t mode = CUDNN_WGRAD_MODE_ADD) {
        return call(cudnn().RNNBackwardWeights_v8(
            handle->get(), rnn->get(), mode, nullptr, x_shape->get(), x.data(), states->get(),
            h.data(), y_shape->get(), y.data(), weight_bytes, weights.data(), workspace_bytes,
            workspace.data(), reserve_bytes, reserve.data()));
    }
    std::string violations() {
        api->synchronize(api->default_queue());
        std::string all;
        for (const std::string& violation : stand_in.state.violations) all += violation + "; ";
        stand_in.state.violations.clear();
        return all;
    }

    simt::InstalledDevice device{kDevice};
    CudnnOnDevice stand_in{*device};
    std::shared_ptr<cuda::DeviceApi> api;
    // Made once the library is open.
    std::unique_ptr<CudnnHandle> handle = opened<CudnnHandle>();
    std::unique_ptr<RnnDescriptor> rnn = opened<RnnDescriptor>();
    std::unique_ptr<RnnDataDescriptor> x_shape = opened<RnnDataDescriptor>();
    std::unique_ptr<RnnDataDescriptor> y_shape = opened<RnnDataDescriptor>();
    std::unique_ptr<TensorDescriptor> states = opened<TensorDescriptor>();
    std::unique_ptr<DropoutDescriptor> dropout = opened<DropoutDescriptor>();
    Buffer x, y, dx, dy, h, dh, weights, workspace, reserve;
    std::size_t weight_bytes = 0, workspace_bytes = 0, reserve_bytes = 0;
    bool reserve_in_inference = false;

private:
    template <class T>
    static std::unique_ptr<T> opened() {
        if (!cudnn_reason().empty()) throw std::runtime_error(cudnn_reason());
        return std::make_unique<T>();
    }
};

using testing::HasSubstr;

TEST_F(CudnnCalls, DescriptorsAreRefusedForWhatTheyCannotBe) {
    EXPECT_THAT(set_rnn(CUDNN_RNN_ALGO_STANDARD, CUDNN_DATA_FLOAT, CUDNN_TENSOR_OP_MATH),
                HasSubstr("16-bit"));
    EXPECT_THAT(set_rnn(CUDNN_RNN_ALGO_STANDARD, CUDNN_DATA_DOUBLE), HasSubstr("CUDNN_DEFAULT"));
    EXPECT_THAT(set_rnn(CUDNN_RNN_ALGO_STANDARD, CUDNN_DATA_INT8), HasSubstr("dataType"));
    EXPECT_THAT(set_rnn(CUDNN_RNN_ALGO_PERSIST_STATIC, CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, kH / 2),
                HasSubstr("projection"));
    EXPECT_THAT(set_rnn(CUDNN_RNN_ALGO_STANDARD, CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, kH + 1),
                HasSubstr("projSize"));
    EXPECT_THAT(set_data(x_shape->get(), kI, {2, 3}), HasSubstr("sorted"));
    EXPECT_THAT(set_data(x_shape->get(), kI, {4, 3}), HasSubstr("maxSeqLength"));
    EXPECT_THAT(set_data(x_shape->get(), kI, {2, 1}), HasSubstr("the longest of packed"));
    EXPECT_EQ(set_data(x_shape->get(), kI, {2, 1}, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED), "");
    EXPECT_THAT(set_states({1, kN, 0}, {kN * kH, kH, 1}), HasSubstr("positive"));
    EXPECT_THAT(call(cudnn().BuildRNNDynamic(handle->get(), rnn->get(), kN)), HasSubstr("not set"));
}

TEST_F(CudnnCalls, PassesAreRefusedWithoutWhatTheyNeed) {
    describe();
    EXPECT_EQ(forward(), "");
    EXPECT_EQ(forward(CUDNN_FWD_MODE_INFERENCE), "");
    reserve_in_inference = true;
    EXPECT_THAT(forward(CUDNN_FWD_MODE_INFERENCE), HasSubstr("no reserveSpace"));
    --workspace_bytes;
    EXPECT_THAT(forward(), HasSubstr("workSpace"));
    ++workspace_bytes;
    ++weight_bytes;
    EXPECT_THAT(forward(), HasSubstr("not as many bytes of device memory"));
    --weight_bytes;
    Buffer own = std::move(x);
    EXPECT_THAT(forward(), HasSubstr("cudnnRNNForward: x")) << "no memory at all";
    x = Buffer(4 * kT * kN * kI);
    EXPECT_THAT(forward(), HasSubstr("not as many bytes of device memory")) << "the host's";
    x = std::move(own);
    EXPECT_EQ(set_states({1, kN, kH}, {1, kH, 1}), "");
    EXPECT_THAT(forward(), HasSubstr("not packed"));
    EXPECT_EQ(set_states({2, kN, kH}, {kN * kH, kH, 1}), "");
    EXPECT_THAT(forward(), HasSubstr("hDesc"));
    EXPECT_EQ(set_states({1, kN, kH}, {kN * kH, kH, 1}), "");
    EXPECT_EQ(set_data(y_shape->get(), kH + 1, {kT, kT}), "");
    EXPECT_THAT(forward(), HasSubstr("vectorSize of y"));
    EXPECT_EQ(set_data(y_shape->get(), kH, {kT, kT - 1}), "");
    EXPECT_THAT(forward(), HasSubstr("x and y differ"));
    EXPECT_THAT(backward_weights(CUDNN_WGRAD_MODE_SET), HasSubstr("x and y differ"));
    EXPECT_EQ(set_data(y_shape->get(), kH, {kT, kT}), "");
    EXPECT_THAT(backward_weights(CUDNN_WGRAD_MODE_SET), HasSubstr("WGRAD_MODE_ADD"));
    EXPECT_EQ(set_rnn(CUDNN_RNN_ALGO_PERSIST_DYNAMIC), "");
    EXPECT_THAT(forward(), HasSubstr("not built"));
    EXPECT_EQ(call(cudnn().BuildRNNDynamic(handle->get(), rnn->get(), kN)), "");
    EXPECT_EQ(forward(), "");
    call(cudnn().SetStream(handle->get(), nullptr));
    EXPECT_THAT(forward(), HasSubstr("no stream"));
    EXPECT_EQ(violations(), "");
}

TEST_F(CudnnCalls, UnpackedLayoutsNeedPaddedIo) {
    const auto unpacked = CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED;
    describe({1, kT}, unpacked);
    EXPECT_THAT(forward(), HasSubstr("PADDED_IO_ENABLED"));
    describe({1, kT}, unpacked, CUDNN_RNN_PADDED_IO_ENABLED);
    EXPECT_EQ(forward(), "");
    EXPECT_EQ(set_rnn(CUDNN_RNN_ALGO_PERSIST_STATIC, CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, kH,
                      CUDNN_RNN_PADDED_IO_ENABLED),
              "");
    EXPECT_THAT(forward(), HasSubstr("varied length"));
}

TEST_F(CudnnCalls, PassesOutOfOrderAreSeen) {
    describe();
    EXPECT_EQ(backward_data(), "");
    EXPECT_THAT(violations(), HasSubstr("not a reserve"));
    forward();
    backward_weights();
    EXPECT_THAT(violations(), HasSubstr("not as BackwardData left it"));
    forward();
    backward_data();
    EXPECT_EQ(violations(), "");
    backward_data();
    EXPECT_THAT(violations(), HasSubstr("not as forward left it"));
    forward();
    y.zero();
    x.zero();
    backward_data();
    EXPECT_THAT(violations(), HasSubstr("another y"));
    forward();
    backward_data();
    backward_weights();
    EXPECT_EQ(violations(), "");
}

}  // namespace
}  // namespace carousel::bench
