#include "bench/core/problem.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "bench/core/carousel_side.hpp"
#include "tests/reference/rnn_reference.hpp"

namespace carousel::bench {
namespace {

GridCase grid_case(const std::string& line) { return make_case(parse_grid_row("x", line)); }

/// The oracle's problem with the numbers that a Problem holds.
reference::Problem oracle_problem(const Problem& p) {
    const RnnSpec& s = p.grid_case.spec;
    const auto values = [&](const Buffer& buffer, std::int64_t count) {
        return values_of(buffer.data(), p.value, count, p.device);
    };
    reference::Problem r;
    r.cell = s.cell == Cell::kLstm      ? reference::Cell::kLstm
             : s.cell == Cell::kGru     ? reference::Cell::kGruResetAfter
             : s.cell == Cell::kRnnRelu ? reference::Cell::kRelu
                                        : reference::Cell::kTanh;
    r.T = p.grid_case.seq_len;
    r.N = p.grid_case.batch_size;
    r.I = s.input_size;
    r.H = s.hidden_size;
    r.L = s.num_layers;
    r.D = s.num_directions();
    r.x = values(p.x, p.tokens() * s.input_size);
    r.hx = values(p.hx, p.h_count());
    if (cell_has_c(s.cell)) r.cx = values(p.cx_value, p.c_count());
    r.lengths = p.host_lengths;
    r.reset = case_resets(p.grid_case);
    const std::vector<double> flat = values(p.weights, param_count(s));
    const auto layout = param_layout(s);
    std::size_t next = 0;
    const auto take = [&] {
        const RnnParamInfo& info = layout[next++];
        return std::vector<double>(flat.begin() + info.offset,
                                   flat.begin() + info.offset + info.numel);
    };
    for (std::int64_t state = 0; state < s.num_states(); ++state) {
        reference::Weights w;
        w.w_ih = take();
        w.w_hh = take();
        w.b_ih = take();
        w.b_hh = take();
        r.weights.push_back(w);
    }
    return r;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    EXPECT_EQ(a.size(), b.size());
    double square = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        square += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return std::sqrt(square / norm);
}

// What every result on a card is held against is itself held against the independent oracle.
TEST(BenchReference, MatchesTheOracle) {
    for (const char* line :
         {"lstm H7 N3 T5 L2 I4", "gru H6 N2 T4 D2 I5", "rnn_relu H5 N4 T6", "rnn_tanh H5 N2 T3 L3",
          "lstm H6 N5 T8 lengths=0.25", "gru H6 N5 T8 reset=0.3", "lstm H6 N3 T5 dtypes=bf16",
          // Several panels and tiles of the products, with what is left over in each direction.
          "lstm H200 N37 T2 L2", "gru H331 N20 T2 D2", "rnn_tanh H650 N9 T2", "lstm H515 N1 T3"}) {
        const GridCase c = grid_case(line);
        const Problem p(c, Device::cpu());
        const reference::Problem r = oracle_problem(p);
        const reference::Forward forward = reference::forward(r);
        const auto values = [&](const Buffer& buffer, std::int64_t count) {
            return values_of(buffer.data(), p.value, count, p.device);
        };
        const reference::Backward backward = reference::backward(
            r, forward, values(p.dy, p.tokens() * p.output_width()), values(p.dhy, p.h_count()),
            cell_has_c(c.spec.cell) ? values(p.dcy_value, p.c_count()) : std::vector<double>());
        const Outcome got = reference_outcome(c, true, 1);
        EXPECT_LT(distance(got.y, forward.y()), 1e-12) << line;
        EXPECT_LT(distance(got.hy, forward.hy), 1e-12) << line;
        EXPECT_LT(distance(got.dx, backward.dx), 1e-12) << line;
        EXPECT_LT(distance(got.dhx, backward.dhx), 1e-12) << line;
        if (cell_has_c(c.spec.cell)) {
            EXPECT_LT(distance(got.dcx, backward.dcx), 1e-12) << line;
        }
        std::vector<double> dweights;
        for (const reference::Weights& w : backward.dweights) {
            for (const auto* part : {&w.w_ih, &w.w_hh, &w.b_ih, &w.b_hh}) {
                dweights.insert(dweights.end(), part->begin(), part->end());
            }
        }
        EXPECT_LT(distance(got.dweights, dweights), 1e-12) << line;
    }
}

// The side that a card runs, on the CPU through the same public API.
TEST(BenchCarouselSide, IsWithinRoundingOfTheReference) {
    for (const char* line : {"lstm H24 N3 T5 L2 I16", "gru H16 N5 T8 lengths=0.25 D2",
                             "rnn_tanh H16 N5 T8 reset=0.3", "lstm H16 N2 T4 dtypes=f64"}) {
        const GridCase c = grid_case(line);
        const Problem p(c, Device::cpu());
        Arena arena(p);
        CarouselSide side(p, arena);
        arena.allocate();
        side.forward({}, true);
        side.backward({}, true);
        const Outcome reference = reference_outcome(c, true, 1);
        EXPECT_LT(relative_error(p, side.outcome(false), reference),
                  allowed_error(c.spec.dtype) / 10)
            << line;
        side.forward({}, false);
        Outcome inference = side.outcome(true);
        EXPECT_LT(relative_error(p, inference, reference), allowed_error(c.spec.dtype) / 10);
        inference.hy[3] += 0.5;  // one wrong element is seen
        EXPECT_GT(relative_error(p, inference, reference), allowed_error(c.spec.dtype));
    }
}

TEST(BenchProblem, CheckingCasesAreShortAndKeepTheRest) {
    const GridCase large = grid_case("gru H2816 N32 T1500 dtypes=f16");
    const GridCase check = checking_case(large);
    EXPECT_EQ(check.seq_len, 16);
    EXPECT_EQ(check.spec.hidden_size, 2816);
    EXPECT_LE(3.0 * forward_flops(check), 2e11);
    EXPECT_EQ(check.batch_size % 8, 0);
    const GridCase small = grid_case("lstm H64 N16 T10");
    EXPECT_EQ(checking_case(small).seq_len, 10);
    EXPECT_EQ(checking_case(small).batch_size, 16);
    const GridCase huge = grid_case("gru H256 N65536 T128 reset=0.01");
    EXPECT_LE(3.0 * forward_flops(checking_case(huge)), 2e11);
}

TEST(BenchProblem, LongTensorsRepeatABlock) {
    const Problem p(grid_case("lstm H512 N70 T99 dtypes=bf16"), Device::cpu());
    const std::int64_t count = p.tokens() * 512;
    ASSERT_GT(count, std::int64_t{1} << 20);
    const std::vector<double> x = values_of(p.x.data(), p.value, count, p.device);
    for (std::size_t i = std::size_t{1} << 20; i < x.size(); ++i) {
        ASSERT_EQ(x[i], x[i % (std::size_t{1} << 20)]) << i;
    }
    EXPECT_NE(x[0], x[1]);
    double sum = 0.0, square = 0.0;
    for (const double v : x) {
        sum += v;
        square += v * v;
    }
    EXPECT_NEAR(sum / static_cast<double>(count), 0.0, 0.01);
    EXPECT_NEAR(square / static_cast<double>(count), 1.0 / 3.0, 0.01);
}

TEST(BenchProblem, RandomTensorsAreOfTheirTypeAndSeed) {
    constexpr std::int64_t kCount = (std::int64_t{1} << 20) + 3;
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kTf32, DType::kBf16, DType::kF16}) {
        const Buffer one = random_tensor(dtype, 1, kCount, Device::cpu(), "one");
        const Buffer two = random_tensor(dtype, 2, kCount, Device::cpu(), "two");
        ASSERT_EQ(one.bytes(), static_cast<std::size_t>(kCount) * dtype_bytes(dtype));
        const std::vector<double> a = values_of(one.data(), dtype, kCount, Device::cpu());
        EXPECT_NE(a[0], a[1]);
        EXPECT_NE(a[0], values_of(two.data(), dtype, 1, Device::cpu())[0]);
        EXPECT_EQ(a.back(), a[2]);
        EXPECT_LE(std::abs(*std::max_element(a.begin(), a.end())), 1.0);
    }
}

TEST(BenchProblem, LongTensorsAreComparedToTheirEnd) {
    const Problem p(grid_case("gru H4 N1 T1"), Device::cpu());
    Outcome reference;
    reference.hy.assign((std::size_t{5} << 20) + 7, 1.0);
    for (const std::size_t at : {std::size_t{0}, std::size_t{2} << 20, reference.hy.size() - 1}) {
        Outcome other = reference;
        EXPECT_EQ(relative_error(p, other, reference), 0.0);
        other.hy[at] = 3.0;
        EXPECT_NEAR(relative_error(p, other, reference),
                    2.0 / std::sqrt(static_cast<double>(reference.hy.size())), 1e-12)
            << at;
    }
}

TEST(BenchProblem, ErrorsLookAtEveryTensorWithinTheLengths) {
    const GridCase c = grid_case("lstm H4 N6 T8 lengths=0.25");
    const Problem p(c, Device::cpu());
    const Outcome reference = reference_outcome(c, true, 1);
    EXPECT_EQ(relative_error(p, reference, reference), 0.0);
    Outcome other = reference;
    // Beyond a sequence's end nothing is asked of y and dx.
    std::size_t n = 0;
    while (p.host_lengths[n] == 8) ++n;
    const auto beyond = (7 * 6 + n) * 4;
    other.y[beyond] = 1e9;
    EXPECT_EQ(relative_error(p, other, reference), 0.0);
    for (const auto tensor : {&Outcome::y, &Outcome::hy, &Outcome::cy, &Outcome::dx, &Outcome::dhx,
                              &Outcome::dcx, &Outcome::dweights}) {
        other = reference;
        (other.*tensor)[0] += 1.0;
        EXPECT_GT(relative_error(p, other, reference), 1e-3);
        (other.*tensor)[0] = std::nan("");
        EXPECT_TRUE(std::isinf(relative_error(p, other, reference)));
    }
}

}  // namespace
}  // namespace carousel::bench
