#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/compare.hpp"

// The activations as the layer computes them: gates of an LSTM whose pre-activations are x itself,
// element by element against the C library in f64.

namespace carousel::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kHidden = 20;  // whole vectors and a rest, in every instruction set

/// Runs T = 1 with N = values, I = 1, W_ih = 1, W_hh = 0, no bias.
struct Probe {
    explicit Probe(const std::string& cell, DType dtype, const std::vector<double>& values)
        : line(parse_shape_line(cell + " T1 N1 I1 H20 bias=none no_states f64")) {
        line.spec.dtype = dtype;
        line.batch_size = line.planned_batch_size = static_cast<std::int64_t>(values.size());
        RnnData data = make_rnn_data(line);
        data.problem.x = values;
        data.problem.weights[0].w_ih.assign(data.problem.weights[0].w_ih.size(), 1.0);
        data.problem.weights[0].w_hh.assign(data.problem.weights[0].w_hh.size(), 0.0);
        run = std::make_unique<RnnRun>(line, data);
        run->inference();
    }
    /// Gate `gate` of unit `unit` for the n-th value.
    double gate(std::size_t n, std::int64_t gate_index, std::int64_t unit) const {
        const std::int64_t row = static_cast<std::int64_t>(n) * line.spec.num_gates();
        return run->gates.element((row + gate_index) * kHidden + unit);
    }
    ShapeLine line;
    std::unique_ptr<RnnRun> run;
};

std::vector<double> sweep(DType dtype) {
    std::vector<double> values = {0.0, -0.0};
    for (double magnitude = 1e-30; magnitude < 1e4; magnitude *= 1.37) {
        values.push_back(magnitude);
        values.push_back(-magnitude);
    }
    for (int k = -4000; k <= 4000; ++k) values.push_back(k * 0.0071);
    if (dtype == DType::kF32) {
        for (double& value : values) value = static_cast<double>(static_cast<float>(value));
    }
    return values;
}

/// Eight units in the last place, plus what underflow may take away.
double allowed(DType dtype, double exact) {
    return dtype == DType::kF32 ? 8 * 0x1.0p-24 * std::fabs(exact) + 0x1.0p-126
                                : 8 * 0x1.0p-53 * std::fabs(exact) + 0x1.0p-1022;
}

class RnnActivation : public testing::TestWithParam<DType> {};

TEST_P(RnnActivation, SigmoidAndTanhAreAccurateEverywhere) {
    const std::vector<double> values = sweep(GetParam());
    const Probe probe("lstm", GetParam(), values);
    double worst[2] = {0.0, 0.0};
    for (std::size_t n = 0; n < values.size(); ++n) {
        const double exact[2] = {1.0 / (1.0 + std::exp(-values[n])), std::tanh(values[n])};
        for (const std::int64_t unit : {std::int64_t{0}, std::int64_t{7}, kHidden - 1}) {
            for (int which = 0; which < 2; ++which) {
                const std::int64_t gate = which == 0 ? 0 : 2;  // i is a sigmoid, g a tanh
                const double error = std::fabs(probe.gate(n, gate, unit) - exact[which]);
                worst[which] = std::max(worst[which], error / allowed(GetParam(), exact[which]));
                ASSERT_LE(error, allowed(GetParam(), exact[which]))
                    << (which == 0 ? "sigmoid(" : "tanh(") << values[n] << "), unit " << unit;
            }
        }
    }
    RecordProperty("sigmoid_worst_of_allowed", std::to_string(worst[0]));
    RecordProperty("tanh_worst_of_allowed", std::to_string(worst[1]));
}

TEST_P(RnnActivation, InfinitiesSaturateAndNanStays) {
    const Probe lstm("lstm", GetParam(), {kInfinity, -kInfinity, kNan});
    for (std::int64_t unit = 0; unit < kHidden; ++unit) {
        EXPECT_EQ(lstm.gate(0, 0, unit), 1.0);
        EXPECT_NEAR(lstm.gate(1, 0, unit), 0.0, 1e-38);
        EXPECT_EQ(lstm.gate(0, 2, unit), 1.0);
        EXPECT_EQ(lstm.gate(1, 2, unit), -1.0);
        EXPECT_TRUE(std::isnan(lstm.gate(2, 0, unit)));
        EXPECT_TRUE(std::isnan(lstm.gate(2, 2, unit)));
    }
    const Probe relu("rnn_relu", GetParam(), {kInfinity, -kInfinity, kNan, -0.0, 2.5, -2.5});
    const double expected[] = {kInfinity, 0.0, kNan, 0.0, 2.5, 0.0};
    for (std::size_t n = 0; n < 6; ++n) {
        const double value = relu.gate(n, 0, 3);
        if (std::isnan(expected[n])) {
            EXPECT_TRUE(std::isnan(value)) << value;
        } else {
            EXPECT_EQ(value, expected[n]);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(DTypes, RnnActivation, testing::Values(DType::kF32, DType::kF64),
                         [](const auto& instance) {
                             return std::string(dtype_name(instance.param));
                         });

}  // namespace
}  // namespace carousel::test
