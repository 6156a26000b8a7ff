#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "carousel/carousel.h"
#include "carousel/carousel.hpp"

namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kSteps = 6;
constexpr std::int64_t kBatch = 3;

std::vector<float> numbers(std::size_t n, float scale) {
    std::vector<float> v(n);
    for (std::size_t i = 0; i < n; ++i) v[i] = scale * std::sin(1.3f * static_cast<float>(i + 1));
    return v;
}

carousel_rnn_spec lstm_spec() {
    carousel_rnn_spec spec = carousel_rnn_spec_default();
    spec.input_size = 4;
    spec.hidden_size = 5;
    spec.proj_size = 2;
    spec.num_layers = 2;
    spec.bidirectional = 1;
    return spec;
}

carousel_rnn_plan_options plan_options() {
    carousel_rnn_plan_options options = carousel_rnn_plan_options_default();
    options.seq_len = kSteps;
    options.batch_size = kBatch;
    return options;
}

/// The same layer through both interfaces; all results must have the same bits.
struct Outputs {
    std::vector<float> y, hy, cy, dx, dhx, dcx, dw;
};

struct Inputs {
    std::vector<float> x = numbers(kSteps * kBatch * 4, 1.0f);
    std::vector<float> hx = numbers(4 * kBatch * 2, 0.5f);
    std::vector<float> cx = numbers(4 * kBatch * 5, 0.7f);
    std::vector<float> dy = numbers(kSteps * kBatch * 4, 0.9f);
    std::vector<float> dhy = numbers(4 * kBatch * 2, 0.3f);
    std::vector<float> dcy = numbers(4 * kBatch * 5, 0.2f);
    std::vector<float> weights;
    std::vector<std::int64_t> lengths{6, 0, 4};
    std::vector<std::uint8_t> reset = std::vector<std::uint8_t>(kSteps * kBatch, 0);
    Inputs() {
        const carousel_rnn_spec spec = lstm_spec();
        std::int64_t n = 0;
        EXPECT_EQ(carousel_rnn_param_count(&spec, nullptr, &n), CAROUSEL_OK);
        weights = numbers(static_cast<std::size_t>(n), 0.4f);
        reset[2 * kBatch] = 1;
    }
    Outputs outputs() const {
        Outputs out;
        out.y.resize(dy.size());
        out.hy.resize(hx.size());
        out.cy.resize(cx.size());
        out.dx.resize(x.size());
        out.dhx.resize(hx.size());
        out.dcx.resize(cx.size());
        out.dw.resize(weights.size());
        return out;
    }
};

carousel_tensor tensor(const std::vector<float>& v, std::int64_t a, std::int64_t b,
                       std::int64_t c) {
    return carousel_tensor_3d(const_cast<float*>(v.data()), CAROUSEL_F32, a, b, c);
}

Outputs run_c(Inputs& in) {
    Outputs out = in.outputs();
    const carousel_rnn_spec spec = lstm_spec();
    const carousel_rnn_plan_options options = plan_options();
    carousel_rnn_plan* plan = nullptr;
    EXPECT_EQ(carousel_rnn_plan_create(&spec, &options, &plan), CAROUSEL_OK)
        << carousel_last_error();
    carousel_buffer* workspace = nullptr;
    carousel_buffer* reserve = nullptr;
    EXPECT_EQ(carousel_buffer_create(carousel_rnn_plan_workspace_bytes(plan), options.device,
                                     nullptr, &workspace),
              CAROUSEL_OK);
    EXPECT_EQ(carousel_buffer_create(carousel_rnn_plan_reserve_bytes(plan), options.device,
                                     "reserve", &reserve),
              CAROUSEL_OK);
    carousel_rnn_layer layers[4];
    carousel_rnn_layer grads[4];
    EXPECT_EQ(carousel_rnn_layers_from_flat(&spec, in.weights.data(), options.device, layers, 4),
              CAROUSEL_OK);
    EXPECT_EQ(carousel_rnn_layers_from_flat(&spec, out.dw.data(), options.device, grads, 4),
              CAROUSEL_OK);

    carousel_rnn_forward_args f = carousel_rnn_forward_args_default();
    f.seq_len = kSteps;
    f.batch_size = kBatch;
    f.x = tensor(in.x, kSteps, kBatch, 4);
    f.hx = tensor(in.hx, 4, kBatch, 2);
    f.cx = tensor(in.cx, 4, kBatch, 5);
    f.y = tensor(out.y, kSteps, kBatch, 4);
    f.hy = tensor(out.hy, 4, kBatch, 2);
    f.cy = tensor(out.cy, 4, kBatch, 5);
    f.lengths = in.lengths.data();
    f.reset = in.reset.data();
    f.layers = layers;
    f.num_layer_entries = 4;
    f.workspace = carousel_buffer_data(workspace);
    f.workspace_bytes = carousel_buffer_bytes(workspace);
    f.reserve = carousel_buffer_data(reserve);
    f.reserve_bytes = carousel_buffer_bytes(reserve);
    EXPECT_EQ(carousel_rnn_forward_training(plan, &f), CAROUSEL_OK) << carousel_last_error();

    carousel_rnn_backward_args b = carousel_rnn_backward_args_default();
    b.seq_len = kSteps;
    b.batch_size = kBatch;
    b.x = f.x;
    b.hx = f.hx;
    b.cx = f.cx;
    b.y = f.y;
    b.lengths = f.lengths;
    b.reset = f.reset;
    b.layers = layers;
    b.num_layer_entries = 4;
    b.dy = tensor(in.dy, kSteps, kBatch, 4);
    b.dhy = tensor(in.dhy, 4, kBatch, 2);
    b.dcy = tensor(in.dcy, 4, kBatch, 5);
    b.dx = tensor(out.dx, kSteps, kBatch, 4);
    b.dhx = tensor(out.dhx, 4, kBatch, 2);
    b.dcx = tensor(out.dcx, 4, kBatch, 5);
    b.grads = grads;
    b.num_grad_entries = 4;
    b.workspace = f.workspace;
    b.workspace_bytes = f.workspace_bytes;
    b.reserve = f.reserve;
    b.reserve_bytes = f.reserve_bytes;
    EXPECT_EQ(carousel_rnn_backward(plan, &b), CAROUSEL_OK) << carousel_last_error();
    carousel_buffer_destroy(workspace);
    carousel_buffer_destroy(reserve);
    carousel_rnn_plan_destroy(plan);
    return out;
}

Outputs run_cpp(Inputs& in) {
    using namespace carousel;
    Outputs out = in.outputs();
    RnnSpec spec;
    spec.cell = Cell::kLstm;
    spec.input_size = 4;
    spec.hidden_size = 5;
    spec.proj_size = 2;
    spec.num_layers = 2;
    spec.bidirectional = true;
    RnnPlanOptions options;
    options.seq_len = kSteps;
    options.batch_size = kBatch;
    const RnnPlan plan = RnnPlan::create(spec, options);
    const Buffer workspace(plan.workspace_bytes());
    const Buffer reserve(plan.reserve_bytes());
    const RnnParams params = params_from_flat(spec, in.weights.data());
    RnnGrads grads = grads_from_flat(spec, out.dw.data());
    RnnForwardArgs f;
    f.seq_len = kSteps;
    f.batch_size = kBatch;
    f.x = {in.x.data(), DType::kF32, {kSteps, kBatch, 4}};
    f.hx = {in.hx.data(), DType::kF32, {4, kBatch, 2}};
    f.cx = {in.cx.data(), DType::kF32, {4, kBatch, 5}};
    f.y = {out.y.data(), DType::kF32, {kSteps, kBatch, 4}};
    f.hy = {out.hy.data(), DType::kF32, {4, kBatch, 2}};
    f.cy = {out.cy.data(), DType::kF32, {4, kBatch, 5}};
    f.mask = {in.lengths.data(), in.reset.data()};
    f.params = &params;
    f.workspace = workspace.data();
    f.workspace_bytes = workspace.bytes();
    f.reserve = reserve.data();
    f.reserve_bytes = reserve.bytes();
    forward_training(plan, f);
    RnnBackwardArgs b;
    b.seq_len = kSteps;
    b.batch_size = kBatch;
    b.x = f.x;
    b.hx = f.hx;
    b.cx = f.cx;
    b.y = f.y;
    b.mask = f.mask;
    b.params = &params;
    b.dy = {in.dy.data(), DType::kF32, {kSteps, kBatch, 4}};
    b.dhy = {in.dhy.data(), DType::kF32, {4, kBatch, 2}};
    b.dcy = {in.dcy.data(), DType::kF32, {4, kBatch, 5}};
    b.dx = {out.dx.data(), DType::kF32, {kSteps, kBatch, 4}};
    b.dhx = {out.dhx.data(), DType::kF32, {4, kBatch, 2}};
    b.dcx = {out.dcx.data(), DType::kF32, {4, kBatch, 5}};
    b.grads = &grads;
    b.workspace = workspace.data();
    b.workspace_bytes = workspace.bytes();
    b.reserve = reserve.data();
    b.reserve_bytes = reserve.bytes();
    backward(plan, b);
    return out;
}

TEST(CApi, GivesTheBitsOfTheCppApi) {
    Inputs in;
    const Outputs c = run_c(in);
    const Outputs cpp = run_cpp(in);
    EXPECT_EQ(c.y, cpp.y);
    EXPECT_EQ(c.hy, cpp.hy);
    EXPECT_EQ(c.cy, cpp.cy);
    EXPECT_EQ(c.dx, cpp.dx);
    EXPECT_EQ(c.dhx, cpp.dhx);
    EXPECT_EQ(c.dcx, cpp.dcx);
    EXPECT_EQ(c.dw, cpp.dw);
    double sum = 0.0;
    for (const float v : c.dw) sum += std::fabs(static_cast<double>(v));
    EXPECT_GT(sum, 0.1);
}

TEST(CApi, ParametersHaveTorchNames) {
    const carousel_rnn_spec spec = lstm_spec();
    std::int64_t tensors = 0;
    std::int64_t elements = 0;
    ASSERT_EQ(carousel_rnn_param_count(&spec, &tensors, &elements), CAROUSEL_OK);
    EXPECT_EQ(tensors, 2 * 2 * 5);
    carousel_rnn_param_info info;
    std::int64_t end = 0;
    std::string names;
    for (std::int64_t i = 0; i < tensors; ++i) {
        ASSERT_EQ(carousel_rnn_param_get(&spec, i, &info), CAROUSEL_OK);
        EXPECT_EQ(info.offset, end);
        end += info.numel;
        names += std::string(info.name) + " ";
    }
    EXPECT_EQ(end, elements);
    EXPECT_THAT(names, HasSubstr("weight_ih_l0 weight_hh_l0 bias_ih_l0 bias_hh_l0 weight_hr_l0 "
                                 "weight_ih_l0_reverse"));
    EXPECT_EQ(carousel_rnn_param_get(&spec, tensors, &info), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(carousel_rnn_param_get(&spec, -1, &info), CAROUSEL_INVALID_ARGUMENT);
}

TEST(CApi, EveryErrorIsAStatusWithASentence) {
    carousel_rnn_spec spec = lstm_spec();
    carousel_rnn_plan_options options = plan_options();
    carousel_rnn_plan* plan = nullptr;
    const auto create = [&] { return carousel_rnn_plan_create(&spec, &options, &plan); };

    spec.hidden_size = 0;
    EXPECT_EQ(create(), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_THAT(carousel_last_error(), HasSubstr("hidden_size"));
    spec = lstm_spec();
    spec.cell = 99;
    EXPECT_EQ(create(), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_THAT(carousel_last_error(), HasSubstr("spec->cell is 99"));
    spec = lstm_spec();
    spec.dtype = CAROUSEL_BF16;
    EXPECT_EQ(create(), CAROUSEL_UNSUPPORTED);
    EXPECT_THAT(carousel_last_error(), HasSubstr("bf16"));
    spec = lstm_spec();
    options.seq_len = 0;
    EXPECT_EQ(create(), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_THAT(carousel_last_error(), HasSubstr("seq_len"));
    options = plan_options();
    options.device = {7, 0};
    EXPECT_EQ(create(), CAROUSEL_INVALID_ARGUMENT);
    options = plan_options();
    EXPECT_EQ(carousel_rnn_plan_create(nullptr, &options, &plan), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_THAT(carousel_last_error(), HasSubstr("spec is NULL"));
    EXPECT_EQ(carousel_rnn_plan_create(&spec, nullptr, &plan), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(carousel_rnn_plan_create(&spec, &options, nullptr), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(plan, nullptr);
    carousel_buffer* buffer = nullptr;
    EXPECT_EQ(carousel_buffer_create(SIZE_MAX / 4, options.device, "a test", &buffer),
              CAROUSEL_OUT_OF_MEMORY);
    EXPECT_THAT(carousel_last_error(), HasSubstr("a test"));
    EXPECT_EQ(buffer, nullptr);

    ASSERT_EQ(create(), CAROUSEL_OK) << carousel_last_error();
    carousel_rnn_forward_args args = carousel_rnn_forward_args_default();
    EXPECT_EQ(carousel_rnn_forward_inference(plan, nullptr), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(carousel_rnn_forward_inference(nullptr, &args), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(carousel_rnn_forward_inference(plan, &args), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_GT(std::strlen(carousel_last_error()), 10u);
    carousel_rnn_layer layers[3];
    args.layers = layers;
    args.num_layer_entries = 3;
    EXPECT_EQ(carousel_rnn_forward_inference(plan, &args), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_THAT(carousel_last_error(), HasSubstr("layers has 3 entries"));
    carousel_rnn_plan_destroy(plan);

    carousel_device device;
    EXPECT_EQ(carousel_device_parse("gpu", &device), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(carousel_device_parse("cpu", &device), CAROUSEL_OK);
    EXPECT_EQ(carousel_device_usable(device), CAROUSEL_OK);
    EXPECT_EQ(carousel_device_usable({CAROUSEL_CPU, 3}), CAROUSEL_UNSUPPORTED);
    EXPECT_STREQ(carousel_status_name(CAROUSEL_IO), "Io");
    EXPECT_STREQ(carousel_status_name(static_cast<carousel_status>(99)), "?");
}

TEST(CApi, StructsOfOtherVersions) {
    carousel_rnn_spec spec = lstm_spec();
    spec.struct_size = 0;
    EXPECT_EQ(carousel_rnn_spec_validate(&spec), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_THAT(carousel_last_error(), HasSubstr("struct_size is 0"));

    // A newer program, whose struct goes on: fine as long as it does not use what is new.
    struct {
        carousel_rnn_spec spec;
        std::int64_t later_field;
    } newer{lstm_spec(), 0};
    newer.spec.struct_size = sizeof newer;
    EXPECT_EQ(carousel_rnn_spec_validate(&newer.spec), CAROUSEL_OK);
    newer.later_field = 1;
    EXPECT_EQ(carousel_rnn_spec_validate(&newer.spec), CAROUSEL_UNSUPPORTED);
}

TEST(CApi, LastErrorBelongsToTheThread) {
    carousel_device device;
    EXPECT_EQ(carousel_device_parse("first", &device), CAROUSEL_INVALID_ARGUMENT);
    std::thread([] {
        EXPECT_STREQ(carousel_last_error(), "");
        carousel_device other;
        EXPECT_EQ(carousel_device_parse("second", &other), CAROUSEL_INVALID_ARGUMENT);
        EXPECT_THAT(carousel_last_error(), HasSubstr("second"));
    }).join();
    EXPECT_THAT(carousel_last_error(), HasSubstr("first"));
}

TEST(CApi, PoolOutlivesItsHandleAndPlansDescribeThemselves) {
    carousel_thread_pool* pool = nullptr;
    ASSERT_EQ(carousel_thread_pool_create(2, &pool), CAROUSEL_OK);
    EXPECT_EQ(carousel_thread_pool_num_threads(pool), 2);
    const carousel_rnn_spec spec = lstm_spec();
    carousel_rnn_plan_options options = plan_options();
    options.pool = pool;
    carousel_rnn_plan* plan = nullptr;
    ASSERT_EQ(carousel_rnn_plan_create(&spec, &options, &plan), CAROUSEL_OK);
    carousel_thread_pool_destroy(pool);
    std::size_t needed = 0;
    ASSERT_EQ(carousel_rnn_plan_describe(plan, nullptr, 0, &needed), CAROUSEL_OK);
    std::string text(needed, 'x');
    ASSERT_EQ(carousel_rnn_plan_describe(plan, text.data(), text.size(), nullptr), CAROUSEL_OK);
    EXPECT_EQ(std::strlen(text.c_str()) + 1, needed);
    EXPECT_THAT(text, HasSubstr("stepwise"));
    char small[5] = "zzzz";
    ASSERT_EQ(carousel_rnn_plan_describe(plan, small, sizeof small, nullptr), CAROUSEL_OK);
    EXPECT_EQ(std::string(small), text.substr(0, 4));
    carousel_rnn_plan_destroy(plan);
    carousel_rnn_plan_destroy(nullptr);
    carousel_buffer_destroy(nullptr);
    carousel_thread_pool_destroy(nullptr);
    carousel_packed_weights_destroy(nullptr);
}

}  // namespace
