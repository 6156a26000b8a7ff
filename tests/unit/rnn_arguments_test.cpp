#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/support/compare.hpp"
#include "tests/support/expect_error.hpp"

// Every rule about arguments: one row breaks one rule; the answer is InvalidArgument, names the
// tensor, and nothing is written.

namespace carousel::test {
namespace {

struct Rule {
    const char* what;   ///< the mistake
    const char* named;  ///< the word that the sentence must hold
    std::function<void(RnnRun&)> make_mistake;
};

TensorView with_shape(HostTensor& tensor, std::initializer_list<std::int64_t> shape) {
    TensorView view = tensor.view();
    return TensorView(view.data, view.dtype, shape);
}

TensorView with_dtype(HostTensor& tensor, DType dtype) {
    TensorView view = tensor.view();
    view.dtype = dtype;
    return view;
}

TensorView on_cuda(HostTensor& tensor) {
    TensorView view = tensor.view();
    view.device = Device::cuda();
    return view;
}

TensorView with_stride(HostTensor& tensor, std::size_t dim, std::int64_t stride) {
    TensorView view = tensor.view();
    view.strides[dim] = stride;
    return view;
}

void check_forward(const char* shape, const std::vector<Rule>& rules) {
    for (const Rule& rule : rules) {
        SCOPED_TRACE(rule.what);
        const ShapeLine line = parse_shape_line(shape);
        RnnRun run(line, make_rnn_data(line));
        rule.make_mistake(run);
        expect_error(ErrorCode::kInvalidArgument, rule.named, [&] { run.training(); });
        for (const double value : run.y.get()) ASSERT_TRUE(std::isnan(value)) << "y was written";
    }
}

void check_backward(const char* shape, const std::vector<Rule>& rules) {
    for (const Rule& rule : rules) {
        SCOPED_TRACE(rule.what);
        const ShapeLine line = parse_shape_line(shape);
        RnnRun run(line, make_rnn_data(line));
        run.training();
        rule.make_mistake(run);
        expect_error(ErrorCode::kInvalidArgument, rule.named, [&] { run.backward(); });
        for (const double value : run.dx.get()) ASSERT_TRUE(std::isnan(value)) << "dx was written";
    }
}

// T4 N3 I5 H6, L2 D2: S = 4 states.
constexpr const char* kLstm = "lstm L2 D2 T4 N3 I5 H6 f32";
constexpr const char* kGru = "gru L2 D2 T4 N3 I5 H6 bias=single f32";
constexpr const char* kProjected = "lstm L1 T4 N3 I5 H6 P2 f32";

TEST(RnnArguments, ExtentsOfARun) {
    check_forward(
        kLstm,
        {
            {"T is 0", "seq_len", [](RnnRun& r) { r.forward_args.seq_len = 0; }},
            {"T beyond the plan", "seq_len", [](RnnRun& r) { r.forward_args.seq_len = 5; }},
            {"N is 0", "batch_size", [](RnnRun& r) { r.forward_args.batch_size = 0; }},
            {"N negative", "batch_size", [](RnnRun& r) { r.forward_args.batch_size = -3; }},
            {"N beyond the plan", "batch_size", [](RnnRun& r) { r.forward_args.batch_size = 4; }},
        });
}

TEST(RnnArguments, InputsOfForward) {
    check_forward(
        kLstm,
        {
            {"x missing", "x", [](RnnRun& r) { r.forward_args.x = ConstTensorView(); }},
            {"x of two dimensions", "x",
             [](RnnRun& r) {
                 r.forward_args.x = with_shape(r.x, {12, 5});
             }},
            {"x of another T", "x",
             [](RnnRun& r) {
                 r.forward_args.x = with_shape(r.x, {3, 3, 5});
             }},
            {"x of another N", "x",
             [](RnnRun& r) {
                 r.forward_args.x = with_shape(r.x, {4, 2, 5});
             }},
            {"x of another I", "x",
             [](RnnRun& r) {
                 r.forward_args.x = with_shape(r.x, {4, 3, 4});
             }},
            {"x of another dtype", "x",
             [](RnnRun& r) { r.forward_args.x = with_dtype(r.x, DType::kF64); }},
            {"x on another device", "x", [](RnnRun& r) { r.forward_args.x = on_cuda(r.x); }},
            {"x not dense", "x", [](RnnRun& r) { r.forward_args.x = with_stride(r.x, 2, 2); }},
            {"hx of another S", "hx",
             [](RnnRun& r) {
                 r.forward_args.hx = with_shape(r.hx, {2, 3, 6});
             }},
            {"hx of another H", "hx",
             [](RnnRun& r) {
                 r.forward_args.hx = with_shape(r.hx, {4, 3, 5});
             }},
            {"hx of another dtype", "hx",
             [](RnnRun& r) { r.forward_args.hx = with_dtype(r.hx, DType::kF64); }},
            {"cx of another N", "cx",
             [](RnnRun& r) {
                 r.forward_args.cx = with_shape(r.cx, {4, 2, 6});
             }},
            {"cx on another device", "cx", [](RnnRun& r) { r.forward_args.cx = on_cuda(r.cx); }},
        });
    check_forward(kGru, {
                            {"cx for a cell without c", "cx",
                             [](RnnRun& r) {
                                 r.forward_args.cx = with_shape(r.hx, {4, 3, 6});
                             }},
                            {"cy for a cell without c", "cy",
                             [](RnnRun& r) {
                                 r.forward_args.cy = with_shape(r.hy, {4, 3, 6});
                             }},
                            {"cell_states for a cell without c", "cell_states",
                             [](RnnRun& r) {
                                 r.forward_args.cell_states = with_shape(r.gates, {4, 4, 3, 6});
                             }},
                        });
    check_forward(kProjected, {
                                  {"hx of H instead of P", "hx",
                                   [](RnnRun& r) {
                                       r.forward_args.hx = with_shape(r.cx, {1, 3, 6});
                                   }},
                                  {"cx of P instead of H", "cx",
                                   [](RnnRun& r) {
                                       r.forward_args.cx = with_shape(r.hx, {1, 3, 2});
                                   }},
                              });
}

TEST(RnnArguments, OutputsOfForward) {
    check_forward(
        kLstm,
        {
            {"y missing", "y", [](RnnRun& r) { r.forward_args.y = TensorView(); }},
            {"y of H instead of D*H", "y",
             [](RnnRun& r) {
                 r.forward_args.y = with_shape(r.y, {4, 3, 6});
             }},
            {"y of another dtype", "y",
             [](RnnRun& r) { r.forward_args.y = with_dtype(r.y, DType::kBf16); }},
            {"y not dense", "y", [](RnnRun& r) { r.forward_args.y = with_stride(r.y, 2, 2); }},
            {"hy of another S", "hy",
             [](RnnRun& r) {
                 r.forward_args.hy = with_shape(r.hy, {3, 3, 6});
             }},
            {"cy of another H", "cy",
             [](RnnRun& r) {
                 r.forward_args.cy = with_shape(r.cy, {4, 3, 4});
             }},
            {"layer_outputs of another L", "layer_outputs",
             [](RnnRun& r) {
                 r.forward_args.layer_outputs = with_shape(r.layer_outputs, {1, 4, 3, 12});
             }},
            {"cell_states of another S", "cell_states",
             [](RnnRun& r) {
                 r.forward_args.cell_states = with_shape(r.cell_states, {2, 4, 3, 6});
             }},
            {"gates of H instead of G*H", "gates",
             [](RnnRun& r) {
                 r.forward_args.gates = with_shape(r.gates, {4, 4, 3, 6});
             }},
        });
    check_forward(
        "rnn_tanh T4 N3 I6 H6 f32",
        {
            {"y over x", "y",
             [](RnnRun& r) {
                 static std::vector<float> memory(2 * 72);
                 r.forward_args.x = ConstTensorView(memory.data(), DType::kF32, {4, 3, 6});
                 r.forward_args.y = TensorView(memory.data() + 36, DType::kF32, {4, 3, 6});
             }},
        });
}

TEST(RnnArguments, Mask) {
    const auto with_length = [](std::int64_t length) {
        return [length](RnnRun& r) {
            r.lengths = {1, length, 4};
            r.forward_args.mask.lengths = r.lengths.data();
        };
    };
    check_forward(kLstm, {{"a negative length", "lengths", with_length(-1)},
                          {"a length beyond T", "lengths", with_length(5)}});
}

TEST(RnnArguments, Weights) {
    check_forward(
        kLstm,
        {
            {"no weights at all", "params", [](RnnRun& r) { r.forward_args.params = nullptr; }},
            {"plain and packed weights", "packed",
             [](RnnRun& r) {
                 r.packed =
                     std::make_unique<PackedWeights>(PackedWeights::make(r.line.spec, r.params));
                 r.forward_args.packed = r.packed.get();
             }},
            {"too few layers", "params", [](RnnRun& r) { r.params.layers.pop_back(); }},
            {"w_ih missing", "weight_ih_l0", [](RnnRun& r) { r.params.layers[0].w_ih = {}; }},
            {"w_ih of the first layer's width above", "weight_ih_l1",
             [](RnnRun& r) { r.params.layers[2].w_ih = r.params.layers[0].w_ih; }},
            {"w_hh transposed", "weight_hh_l0_reverse",
             [](RnnRun& r) {
                 r.params.layers[1].w_hh = with_shape(r.weights[1].w_hh, {6, 24});
             }},
            {"w_hh of another dtype", "weight_hh_l0",
             [](RnnRun& r) {
                 r.params.layers[0].w_hh = with_dtype(r.weights[0].w_hh, DType::kF64);
             }},
            {"b_ih of one gate", "bias_ih_l1_reverse",
             [](RnnRun& r) { r.params.layers[3].b_ih = with_shape(r.weights[3].b_ih, {6}); }},
            {"b_hh missing", "bias_hh_l0", [](RnnRun& r) { r.params.layers[0].b_hh = {}; }},
            {"w_hr without projection", "weight_hr_l0",
             [](RnnRun& r) {
                 r.params.layers[0].w_hr = with_shape(r.weights[0].w_hh, {2, 6});
             }},
            {"weights of another device", "weight_ih_l0",
             [](RnnRun& r) { r.params.layers[0].w_ih = on_cuda(r.weights[0].w_ih); }},
        });
    check_forward(kGru, {{"b_hh with a single bias", "bias_hh_l0",
                          [](RnnRun& r) { r.params.layers[0].b_hh = r.params.layers[0].b_ih; }}});
    check_forward(kProjected, {{"w_hr missing", "weight_hr_l0",
                                [](RnnRun& r) { r.params.layers[0].w_hr = {}; }}});
    check_forward(kLstm, {{"packed for another spec", "packed", [](RnnRun& r) {
                               const ShapeLine other =
                                   parse_shape_line("lstm L2 D2 T4 N3 I5 H7 packed f32");
                               RnnRun donor(other, make_rnn_data(other));
                               r.packed = std::move(donor.packed);
                               r.forward_args.params = nullptr;
                               r.forward_args.packed = r.packed.get();
                           }}});
}

TEST(RnnArguments, PackingChecksTheWeights) {
    const ShapeLine line = parse_shape_line(kLstm);
    RnnRun run(line, make_rnn_data(line));
    run.params.layers[2].w_hh = {};
    expect_error(ErrorCode::kInvalidArgument, "weight_hh_l1",
                 [&] { PackedWeights::make(line.spec, run.params); });
}

TEST(RnnArguments, Memory) {
    check_forward(
        kLstm,
        {
            {"no workspace", "workspace", [](RnnRun& r) { r.forward_args.workspace = nullptr; }},
            {"workspace too small", "workspace",
             [](RnnRun& r) { r.forward_args.workspace_bytes -= 1; }},
            {"workspace not aligned", "workspace",
             [](RnnRun& r) {
                 r.workspace = AlignedBytes(r.plan.workspace_bytes() + 64);
                 r.forward_args.workspace = static_cast<char*>(r.workspace.data()) + 8;
                 r.forward_args.workspace_bytes = r.plan.workspace_bytes();
             }},
            {"no reserve", "reserve", [](RnnRun& r) { r.forward_args.reserve = nullptr; }},
            {"reserve too small", "reserve", [](RnnRun& r) { r.forward_args.reserve_bytes -= 1; }},
        });
    check_backward(
        kLstm,
        {
            {"no workspace", "workspace", [](RnnRun& r) { r.backward_args.workspace = nullptr; }},
            {"workspace too small", "workspace",
             [](RnnRun& r) { r.backward_args.workspace_bytes -= 1; }},
            {"no reserve", "reserve", [](RnnRun& r) { r.backward_args.reserve = nullptr; }},
            {"reserve too small", "reserve", [](RnnRun& r) { r.backward_args.reserve_bytes -= 1; }},
        });
}

TEST(RnnArguments, Backward) {
    check_backward(
        kLstm,
        {
            {"T beyond the plan", "seq_len", [](RnnRun& r) { r.backward_args.seq_len = 5; }},
            {"x missing", "x", [](RnnRun& r) { r.backward_args.x = {}; }},
            {"y missing", "y", [](RnnRun& r) { r.backward_args.y = {}; }},
            {"no weights", "params", [](RnnRun& r) { r.backward_args.params = nullptr; }},
            {"dy of another T", "dy",
             [](RnnRun& r) {
                 r.backward_args.dy = with_shape(r.dy, {3, 3, 12});
             }},
            {"dy of another dtype", "dy",
             [](RnnRun& r) { r.backward_args.dy = with_dtype(r.dy, DType::kF64); }},
            {"dhy of another S", "dhy",
             [](RnnRun& r) {
                 r.backward_args.dhy = with_shape(r.dhy, {2, 3, 6});
             }},
            {"dcy of another H", "dcy",
             [](RnnRun& r) {
                 r.backward_args.dcy = with_shape(r.dcy, {4, 3, 3});
             }},
            {"dx of another I", "dx",
             [](RnnRun& r) {
                 r.backward_args.dx = with_shape(r.dx, {4, 3, 4});
             }},
            {"dhx of another S", "dhx",
             [](RnnRun& r) {
                 r.backward_args.dhx = with_shape(r.dhx, {2, 3, 6});
             }},
            {"dcx of another N", "dcx",
             [](RnnRun& r) {
                 r.backward_args.dcx = with_shape(r.dcx, {4, 1, 6});
             }},
            {"dh_norms of another T", "dh_norms",
             [](RnnRun& r) {
                 r.backward_args.dh_norms = with_shape(r.dh_norms, {4, 3});
             }},
            {"gradients of too few layers", "grads", [](RnnRun& r) { r.grads.layers.pop_back(); }},
            {"dw_ih of another shape", "weight_ih_l1",
             [](RnnRun& r) {
                 r.grads.layers[2].dw_ih = with_shape(r.dweights[0].w_ih, {24, 5});
             }},
            {"db_hh of another dtype", "bias_hh_l0",
             [](RnnRun& r) {
                 r.grads.layers[0].db_hh = with_dtype(r.dweights[0].b_hh, DType::kF64);
             }},
        });
    check_backward(kGru, {
                             {"dcy for a cell without c", "dcy",
                              [](RnnRun& r) {
                                  r.backward_args.dcy = with_shape(r.dhy, {4, 3, 6});
                              }},
                             {"dcx for a cell without c", "dcx",
                              [](RnnRun& r) {
                                  r.backward_args.dcx = with_shape(r.dhx, {4, 3, 6});
                              }},
                             {"db_hh with a single bias", "bias_hh_l0",
                              [](RnnRun& r) { r.grads.layers[0].db_hh = r.grads.layers[0].db_ih; }},
                         });
}

TEST(RnnArguments, PlanWithoutTrainingOnlyInfers) {
    const ShapeLine line = parse_shape_line(kLstm);
    const RnnData data = make_rnn_data(line);
    RnnRun run(line, data);
    RnnPlanOptions options = run.options;
    options.training = false;
    run.replan(options);
    EXPECT_EQ(run.plan.reserve_bytes(), 0U);
    run.inference();
    expect_close(run.forward_results(), reference_forward(data, false), tolerance(DType::kF32, 4));
    expect_error(ErrorCode::kInvalidArgument, "training", [&] { run.training(); });
    expect_error(ErrorCode::kInvalidArgument, "training", [&] { run.backward(); });
}

TEST(RnnArguments, EmptyPlan) {
    const ShapeLine line = parse_shape_line(kLstm);
    RnnRun run(line, make_rnn_data(line));
    const RnnPlan empty;
    EXPECT_FALSE(empty.valid());
    expect_error(ErrorCode::kInvalidArgument, "plan",
                 [&] { forward_inference(empty, run.forward_args); });
    expect_error(ErrorCode::kInvalidArgument, "plan",
                 [&] { carousel::backward(empty, run.backward_args); });
}

/// The sentence holds the shape found and the axes expected, so that it can be acted upon.
TEST(RnnArguments, SentenceGivesShapesWithAxisNames) {
    const ShapeLine line = parse_shape_line(kLstm);
    RnnRun run(line, make_rnn_data(line));
    run.forward_args.x = with_shape(run.x, {4, 2, 5});
    const std::string sentence =
        expect_error(ErrorCode::kInvalidArgument, "x", [&] { run.training(); });
    for (const char* part : {"4", "2", "5", "3", "T", "N", "I"}) {
        EXPECT_NE(sentence.find(part), std::string::npos) << part << " in: " << sentence;
    }
}

}  // namespace
}  // namespace carousel::test
