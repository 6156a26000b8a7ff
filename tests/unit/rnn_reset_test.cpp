#include <gtest/gtest.h>

#include "tests/support/compare.hpp"

// The reset mask: a mark at t is a boundary between t-1 and t that nothing crosses.

namespace carousel::test {
namespace {

const char* const kCells[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};

ShapeLine cell_line(const std::string& cell, const std::string& rest) {
    return parse_shape_line(cell + " " + rest);
}

TEST(RnnReset, MarkAtTheStartIgnoresTheInitialState) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 T4 N3 I4 H5 reset f32");
        RnnData data = make_rnn_data(line);
        data.problem.reset.assign(12, 0);
        data.problem.reset[1] = 1;  // t = 0 of sequence 1
        RnnRun run(line, data);
        const NamedTensors first = run.training_and_backward();
        for (const HostTensor* gradient : {&run.dhx, &run.dcx}) {
            for (std::int64_t e = 0; gradient->defined() && e < gradient->numel(); ++e) {
                const double value = gradient->element(e);
                if (e / 5 % 3 == 1) {
                    EXPECT_EQ(value, 0.0);
                } else if (std::string(cell) != "rnn_relu") {  // whose slope may be 0
                    EXPECT_NE(value, 0.0);
                }
            }
        }
        for (std::size_t e = 0; e < data.problem.hx.size(); ++e) {
            if (e / 5 % 3 == 1) data.problem.hx[e] = 99.0;
        }
        for (std::size_t e = 0; e < data.problem.cx.size(); ++e) {
            if (e / 5 % 3 == 1) data.problem.cx[e] = -99.0;
        }
        expect_same_bits(RnnRun(line, data).training_and_backward(), first);
    }
}

TEST(RnnReset, MarkAtTheStartDoesNotTouchTheReverseDirection) {
    const ShapeLine line = cell_line("lstm", "D2 T4 N2 I3 H5 f64");
    RnnData data = make_rnn_data(line);
    RnnRun without(line, data);
    without.inference();
    data.problem.reset.assign(8, 0);
    data.problem.reset[0] = data.problem.reset[1] = 1;
    RnnRun with(line, data);
    with.inference();
    for (std::int64_t e = 0; e < with.hy.numel(); ++e) {
        const bool reverse = e / 10 == 1;
        if (reverse) {
            EXPECT_NEAR(with.hy.element(e), without.hy.element(e), 1e-15);
        } else {
            EXPECT_NE(with.hy.element(e), without.hy.element(e));
        }
    }
}

/// T = 6 with a mark at t = 2 in every sequence is two runs of 2 and 4 steps from a zero state.
TEST(RnnReset, BoundaryEqualsTwoRuns) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine whole = cell_line(cell, "L2 D2 T6 N2 I3 H4 no_states f64");
        RnnData data = make_rnn_data(whole);
        data.problem.reset.assign(12, 0);
        data.problem.reset[4] = data.problem.reset[5] = 1;
        RnnRun joined(whole, data);
        joined.training();
        joined.backward();
        const std::vector<double> y = joined.y.get();
        const std::vector<double> dx = joined.dx.get();
        std::vector<double> dw(joined.dweights[0].w_hh.get().size(), 0.0);
        const std::int64_t begins[] = {0, 2};
        const std::int64_t steps[] = {2, 4};
        for (int part = 0; part < 2; ++part) {
            ShapeLine line = whole;
            line.seq_len = line.planned_seq_len = steps[part];
            const auto cut = [&](const std::vector<double>& v, std::int64_t row) {
                return std::vector<double>(v.begin() + begins[part] * row,
                                           v.begin() + (begins[part] + steps[part]) * row);
            };
            RnnData piece = data;
            piece.problem.T = steps[part];
            piece.problem.reset.clear();
            piece.problem.x = cut(data.problem.x, 2 * 3);
            piece.dy = cut(data.dy, 2 * 8);
            RnnRun run(line, piece);
            run.training();
            run.backward();
            EXPECT_LE(relative_error(run.y.get(), cut(y, 2 * 8)), 1e-14);
            EXPECT_LE(relative_error(run.dx.get(), cut(dx, 2 * 3)), 1e-13);
            const std::vector<double> term = run.dweights[0].w_hh.get();
            for (std::size_t e = 0; e < dw.size(); ++e) dw[e] += term[e];
        }
        EXPECT_LE(relative_error(joined.dweights[0].w_hh.get(), dw), 1e-12);
    }
}

/// Inputs on one side of a boundary get exactly no gradient from outputs on the other side.
TEST(RnnReset, NoGradientCrosses) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 D2 T6 N2 I3 H4 no_states f32");
        RnnData data = make_rnn_data(line);
        data.problem.reset.assign(12, 0);
        data.problem.reset[6] = data.problem.reset[7] = 1;  // t = 3
        for (const bool late : {false, true}) {
            RnnData half = data;
            for (std::size_t e = 0; e < half.dy.size(); ++e) {
                if ((e >= half.dy.size() / 2) != late) half.dy[e] = 0.0;
            }
            RnnRun run(line, half);
            run.training();
            run.backward();
            for (std::int64_t e = 0; e < run.dx.numel(); ++e) {
                const bool same_side = (e >= run.dx.numel() / 2) == late;
                if (same_side) continue;
                EXPECT_EQ(run.dx.element(e), 0.0) << e;
            }
        }
    }
}

TEST(RnnReset, MaskOfZerosMatchesNoMask) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 D2 T5 N3 I4 H5 f64");
        const RnnData data = make_rnn_data(line);
        RnnData zeros = data;
        zeros.problem.reset.assign(15, 0);
        expect_close(RnnRun(line, zeros).training_and_backward(),
                     RnnRun(line, data).training_and_backward(), tolerance(DType::kF64, 5));
    }
}

}  // namespace
}  // namespace carousel::test
