#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/compare.hpp"

// Extents: more than 65,535 steps or sequences, and recurrences of hundreds of steps with a closed
// form.

namespace carousel::test {
namespace {

void check(const std::string& text) {
    const ShapeLine line = parse_shape_line(text);
    SCOPED_TRACE(rerun_command(line));
    const RnnData data = make_rnn_data(line);
    RnnRun run(line, data);
    const NamedTensors expected = reference_all(data);
    run.training();
    const NamedTensors outputs = run.forward_results();
    run.backward();
    const NamedTensors gradients = run.backward_results();
    const auto matching = [&](const NamedTensors& some) {
        NamedTensors result;
        for (const auto& entry : some) result.insert(*expected.find(entry.first));
        return result;
    };
    expect_close(outputs, matching(outputs), tolerance(line.spec.dtype, line.seq_len));
    // Gradients of weights are sums over steps and sequences.
    const std::int64_t terms = std::max(line.seq_len, line.batch_size);
    expect_close(gradients, matching(gradients), tolerance(line.spec.dtype, terms));
}

TEST(HugeRnn, SeventyThousandSteps) {
    check("lstm T70000 N1 I2 H3 f64");
    check("gru T70000 N2 I2 H2 D2 lengths reset f64");
    check("rnn_tanh T70000 N1 I1 H2 f32");
}

TEST(HugeRnn, SeventyThousandSequences) {
    check("lstm T2 N70000 I2 H3 threads=2 f64");
    check("gru_reset_before T2 N70000 I2 H2 D2 lengths reset threads=2 f64");
    check("rnn_tanh T2 N70000 I1 H2 f32");
}

/// ReLU units that only ever see positive values are linear: h_T = W^T-fold powers. With one unit,
/// weight w and input 1, h_t = (1 - w^t) / (1 - w), and the gradients are sums of powers.
TEST(RnnExtent, LinearRecurrenceMatchesItsClosedForm) {
    for (const int steps : {1, 2, 300, 1000}) {
        const double w = 0.99;
        ShapeLine line = parse_shape_line("rnn_relu T1 N1 I1 H1 bias=none f64");
        line.seq_len = line.planned_seq_len = steps;
        RnnData data = make_rnn_data(line);
        data.problem.weights[0].w_ih = {1.0};
        data.problem.weights[0].w_hh = {w};
        data.problem.x.assign(static_cast<std::size_t>(steps), 1.0);
        data.problem.hx = {0.0};
        data.dy.clear();
        data.dhy = {1.0};
        RnnRun run(line, data);
        run.training();
        run.backward();
        double dw = 0.0;  // d h_T / d w = sum_t w^(T-t) h_(t-1)
        for (int t = 1; t <= steps; ++t) {
            dw += std::pow(w, steps - t) * (1.0 - std::pow(w, t - 1)) / (1.0 - w);
        }
        const double scale = 1e-15 * steps;
        const double h = (1.0 - std::pow(w, steps)) / (1.0 - w);
        EXPECT_NEAR(run.hy.element(0), h, h * scale);
        EXPECT_NEAR(run.dhx.element(0), std::pow(w, steps), scale);
        EXPECT_NEAR(run.dx.element(0), std::pow(w, steps - 1), scale);
        EXPECT_NEAR(run.dweights[0].w_ih.element(0), h, h * scale);
        EXPECT_NEAR(run.dweights[0].w_hh.element(0), dw, dw * scale + 1e-300);
    }
}

/// A permutation as recurrent weights moves the state round a ring without loss: after any number
/// of steps every value is exact.
TEST(RnnExtent, RingOfUnitsIsExact) {
    const std::int64_t H = 37, steps = 500;
    ShapeLine line = parse_shape_line("rnn_relu T500 N3 I1 H37 bias=none f32 threads=2");
    RnnData data = make_rnn_data(line);
    reference::Weights& w = data.problem.weights[0];
    w.w_ih.assign(static_cast<std::size_t>(H), 0.0);
    w.w_hh.assign(static_cast<std::size_t>(H * H), 0.0);
    for (std::int64_t j = 0; j < H; ++j) {
        w.w_hh[static_cast<std::size_t>(j * H + (j + 1) % H)] = 1.0;
    }
    for (double& value : data.problem.hx) value = std::fabs(value) + 0.5;
    data.dy.clear();
    RnnRun run(line, data);
    run.training();
    run.backward();
    for (std::int64_t n = 0; n < 3; ++n) {
        for (std::int64_t j = 0; j < H; ++j) {
            const std::int64_t from = (j + steps) % H;
            EXPECT_EQ(run.hy.element(n * H + j), run.hx.element(n * H + from));
            EXPECT_EQ(run.dhx.element(n * H + from), run.dhy.element(n * H + j));
        }
    }
}

TEST(RnnExtent, MemoryGrowsLinearlyInSteps) {
    RnnSpec spec;
    spec.input_size = 32;
    spec.hidden_size = 64;
    spec.num_layers = 2;
    const auto bytes = [&](std::int64_t seq_len) {
        RnnPlanOptions options;
        options.seq_len = seq_len;
        options.batch_size = 8;
        options.num_threads = 1;
        const RnnPlan plan = RnnPlan::create(spec, options);
        return static_cast<double>(plan.workspace_bytes() + plan.reserve_bytes());
    };
    EXPECT_LE(bytes(2000), 2.05 * bytes(1000));
    EXPECT_LE(bytes(4000), 2.05 * bytes(2000));
}

}  // namespace
}  // namespace carousel::test
