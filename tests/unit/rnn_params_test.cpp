#include <gtest/gtest.h>

#include "carousel/error.hpp"
#include "tests/support/compare.hpp"

namespace carousel::test {
namespace {

RnnSpec stack_spec() {
    RnnSpec spec;
    spec.input_size = 3;
    spec.hidden_size = 5;
    spec.proj_size = 2;
    spec.num_layers = 2;
    spec.bidirectional = true;
    return spec;
}

TEST(RnnParams, LayoutHasTorchNamesOrderAndShapes) {
    const std::vector<RnnParamInfo> layout = param_layout(stack_spec());
    const char* const kinds[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"};
    const std::int64_t shapes[][2] = {{20, 3}, {20, 2}, {20, 0}, {20, 0}, {2, 5}};
    ASSERT_EQ(layout.size(), 20U);
    std::int64_t offset = 0;
    for (std::size_t k = 0; k < layout.size(); ++k) {
        const RnnParamInfo& info = layout[k];
        const std::size_t kind = k % 5, state = k / 5;
        EXPECT_EQ(info.name, param_name(kinds[kind], static_cast<std::int64_t>(state), 2));
        EXPECT_EQ(info.ndim, shapes[kind][1] == 0 ? 1 : 2) << info.name;
        EXPECT_EQ(info.shape[0], shapes[kind][0]) << info.name;
        const bool upper_input = kind == 0 && state >= 2;  // D*P = 4 inputs above the first layer
        EXPECT_EQ(info.shape[1], upper_input ? 4 : shapes[kind][1]) << info.name;
        EXPECT_EQ(info.offset, offset) << info.name;
        offset += info.numel;
    }
    EXPECT_EQ(layout[8].name, "bias_hh_l0_reverse");
    EXPECT_EQ(param_count(stack_spec()), offset);
}

TEST(RnnParams, BiasModesLeaveTensorsOut) {
    RnnSpec spec = stack_spec();
    spec.proj_size = 0;
    spec.bias = BiasMode::kSingle;
    EXPECT_EQ(param_layout(spec).size(), 12U);
    spec.bias = BiasMode::kNone;
    EXPECT_EQ(param_layout(spec).size(), 8U);
    for (const RnnParamInfo& info : param_layout(spec)) {
        EXPECT_EQ(info.name.find("bias"), std::string::npos);
    }
}

TEST(RnnParams, FlatViewsLieWhereTheLayoutSays) {
    const RnnSpec spec = stack_spec();
    std::vector<float> flat(static_cast<std::size_t>(param_count(spec)));
    const RnnParams params = params_from_flat(spec, flat.data());
    const RnnGrads grads = grads_from_flat(spec, flat.data());
    ASSERT_EQ(params.layers.size(), 4U);
    ASSERT_EQ(grads.layers.size(), 4U);
    const std::vector<RnnParamInfo> layout = param_layout(spec);
    for (std::size_t s = 0; s < 4; ++s) {
        const RnnLayerParams& p = params.layers[s];
        const RnnLayerGrads& g = grads.layers[s];
        const ConstTensorView views[] = {p.w_ih, p.w_hh, p.b_ih, p.b_hh, p.w_hr};
        const TensorView grad_views[] = {g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, g.dw_hr};
        for (std::size_t kind = 0; kind < 5; ++kind) {
            const RnnParamInfo& info = layout[s * 5 + kind];
            EXPECT_EQ(views[kind].data, flat.data() + info.offset) << info.name;
            EXPECT_EQ(grad_views[kind].data, flat.data() + info.offset) << info.name;
            EXPECT_EQ(views[kind].ndim, info.ndim) << info.name;
            EXPECT_EQ(views[kind].numel(), info.numel) << info.name;
            EXPECT_EQ(views[kind].dtype, DType::kF32) << info.name;
        }
    }
}

TEST(RnnParams, CellNamesGatesAndStates) {
    const struct {
        Cell cell;
        const char* name;
        int gates;
        bool has_c;
    } rows[] = {{Cell::kRnnTanh, "rnn_tanh", 1, false},
                {Cell::kRnnRelu, "rnn_relu", 1, false},
                {Cell::kLstm, "lstm", 4, true},
                {Cell::kGru, "gru", 3, false},
                {Cell::kGruResetBefore, "gru_reset_before", 3, false}};
    for (const auto& row : rows) {
        EXPECT_STREQ(cell_name(row.cell), row.name);
        EXPECT_EQ(cell_parse(row.name), row.cell);
        EXPECT_EQ(cell_num_gates(row.cell), row.gates);
        EXPECT_EQ(cell_has_c(row.cell), row.has_c);
    }
    EXPECT_THROW(cell_parse("elman"), Error);
}

TEST(RnnParams, DTypeNamesAndSizes) {
    const struct {
        DType dtype;
        const char* name;
        std::size_t bytes;
    } rows[] = {{DType::kF32, "f32", 4},   {DType::kF64, "f64", 8}, {DType::kTf32, "tf32", 4},
                {DType::kBf16, "bf16", 2}, {DType::kF16, "f16", 2}, {DType::kI32, "i32", 4},
                {DType::kI64, "i64", 8},   {DType::kU8, "u8", 1}};
    for (const auto& row : rows) {
        EXPECT_STREQ(dtype_name(row.dtype), row.name);
        EXPECT_EQ(dtype_parse(row.name), row.dtype);
        EXPECT_EQ(dtype_bytes(row.dtype), row.bytes);
    }
    EXPECT_THROW(dtype_parse("float"), Error);
}

TEST(RnnParams, SpecPrintsAsOneLine) {
    RnnSpec spec;
    spec.input_size = 512;
    spec.hidden_size = 256;
    spec.num_layers = 2;
    EXPECT_EQ(to_string(spec), "lstm f32 L2 D1 I512 H256 bias double");
}

}  // namespace
}  // namespace carousel::test
