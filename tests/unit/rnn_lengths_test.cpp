#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.hpp"

// Sequences of different lengths: what lies beyond the end, and sequences without any step.

namespace carousel::test {
namespace {

const char* const kCells[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};

ShapeLine cell_line(const std::string& cell, const std::string& rest) {
    return parse_shape_line(cell + " " + rest);
}

/// Calls visit(index) for each element of [T,N,F] at a step beyond its sequence's end.
template <class Visit>
void beyond_end(const RnnRun& run, std::size_t numel, Visit visit) {
    const std::size_t T = static_cast<std::size_t>(run.line.seq_len);
    const std::size_t N = static_cast<std::size_t>(run.line.batch_size);
    const std::size_t F = numel / (T * N);
    for (std::size_t row = 0; row < T * N; ++row) {
        if (row / N < static_cast<std::size_t>(run.lengths[row % N])) continue;
        for (std::size_t k = 0; k < F; ++k) visit(row * F + k);
    }
}

TEST(RnnLengths, OutputsAndInputGradientsBeyondTheEndAreZero) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 D2 T8 N6 I4 H5 lengths f32");
        RnnRun run(line, make_rnn_data(line));
        run.training();
        run.backward();
        const std::vector<double> y = run.y.get();
        const std::vector<double> dx = run.dx.get();
        std::size_t padded = 0;
        beyond_end(run, y.size(), [&](std::size_t e) { EXPECT_EQ(y[e], 0.0) << e; });
        beyond_end(run, dx.size(), [&](std::size_t e) {
            EXPECT_EQ(dx[e], 0.0) << e;
            ++padded;
        });
        EXPECT_GT(padded, 0U);
        run.inference();
        beyond_end(run, y.size(), [&](std::size_t e) {
            EXPECT_EQ(run.y.element(static_cast<std::int64_t>(e)), 0.0) << e;
        });
    }
}

TEST(RnnLengths, ContentBeyondTheEndChangesNoBit) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 D2 T8 N6 I4 H5 lengths reset f32");
        const RnnData with_nan = make_rnn_data(line);
        RnnData with_numbers = with_nan;
        for (std::vector<double>* values : {&with_numbers.problem.x, &with_numbers.dy}) {
            for (double& value : *values) {
                if (std::isnan(value)) value = 3.0;
            }
        }
        for (std::size_t e = 0; e < with_numbers.problem.reset.size(); ++e) {
            const std::size_t n = e % 6, t = e / 6;
            if (t >= static_cast<std::size_t>(with_nan.problem.lengths[n])) {
                with_numbers.problem.reset[e] ^= 1U;  // marks beyond the end do not count
            }
        }
        RnnRun nan_run(line, with_nan);
        RnnRun number_run(line, with_numbers);
        const NamedTensors expected = number_run.training_and_backward();
        expect_same_bits(nan_run.training_and_backward(), expected);
        for (const auto& [name, values] : expected) {
            for (const double value : values) ASSERT_TRUE(std::isfinite(value)) << name;
        }
    }
}

TEST(RnnLengths, SequenceWithoutStepsPassesItsStateThrough) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 D2 T4 N3 I4 H5 lengths reset f32");
        RnnData data = make_rnn_data(line);
        data.problem.lengths = {0, 4, 0};
        data.problem.reset.assign(12, 1);  // a mark at t = 0 of an empty sequence does not count
        data.problem.x.assign(data.problem.x.size(), 0.25);
        data.dy.assign(data.dy.size(), 0.5);
        RnnRun run(line, data);
        run.training();
        run.backward();
        const auto expect_passed = [&](const HostTensor& out, const HostTensor& in) {
            if (!out.defined()) return;
            for (std::int64_t e = 0; e < out.numel(); ++e) {
                if (e / 5 % 3 == 1) continue;
                EXPECT_EQ(out.element(e), in.element(e)) << e;
            }
        };
        expect_passed(run.hy, run.hx);
        expect_passed(run.cy, run.cx);
        expect_passed(run.dhx, run.dhy);
        expect_passed(run.dcx, run.dcy);
    }
}

TEST(RnnLengths, AllSequencesEmpty) {
    const ShapeLine line = cell_line("lstm", "L2 T4 N3 I4 H5 f64");
    RnnData data = make_rnn_data(line);
    data.problem.lengths = {0, 0, 0};
    RnnRun run(line, data);
    expect_close(run.training_and_backward(), reference_all(data), 0.0);
}

TEST(RnnLengths, FullLengthsMatchNoLengths) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 D2 T5 N3 I4 H5 f64");
        const RnnData data = make_rnn_data(line);
        RnnData full = data;
        full.problem.lengths = {5, 5, 5};
        expect_close(RnnRun(line, full).training_and_backward(),
                     RnnRun(line, data).training_and_backward(), tolerance(DType::kF64, 5));
    }
}

/// A sequence's results do not depend on what is batched with it: each one alone, cut to its
/// length, gives the same final states.
TEST(RnnLengths, EachSequenceMatchesItsOwnRun) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "D2 T6 N4 I3 H5 no_states f64");
        RnnData data = make_rnn_data(line);
        data.problem.lengths = {3, 6, 1, 5};
        RnnRun batched(line, data);
        batched.inference();
        for (std::int64_t n = 0; n < 4; ++n) {
            ShapeLine alone = line;
            alone.seq_len = alone.planned_seq_len = data.problem.length(n);
            alone.batch_size = alone.planned_batch_size = 1;
            RnnData one = data;
            one.problem.T = alone.seq_len;
            one.problem.N = 1;
            one.problem.lengths.clear();
            one.problem.x.clear();
            for (std::int64_t t = 0; t < alone.seq_len; ++t) {
                for (std::int64_t k = 0; k < 3; ++k) {
                    one.problem.x.push_back(
                        data.problem.x[static_cast<std::size_t>((t * 4 + n) * 3 + k)]);
                }
            }
            one.dy.clear();
            RnnRun run(alone, one);
            run.inference();
            for (std::int64_t dir = 0; dir < 2; ++dir) {
                for (std::int64_t j = 0; j < 5; ++j) {
                    EXPECT_NEAR(run.hy.element(dir * 5 + j),
                                batched.hy.element((dir * 4 + n) * 5 + j), 1e-14);
                }
            }
        }
    }
}

}  // namespace
}  // namespace carousel::test
