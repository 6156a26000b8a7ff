// Kernels around the steps: states and their gradients entering and leaving a walk, masked rows, the
// second stages of sums, keys; bad lengths; launches that are run again after device memory changed.

#include <gtest/gtest.h>

#include <cmath>

#include "carousel/error.hpp"
#include "simt/rnn_step_case.hpp"
#include "src/backend/dropout_mask.hpp"

namespace carousel::simt {
namespace {

const cuda::RnnLaunchers& kernels() { return cuda_simt::rnn_launchers(); }

constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kTf32, DType::kBf16, DType::kF16};

/// Every shape, twice: aligned and with all tensors late; both directions in one launch.
template <class Check>
void for_each_state_case(const Check& check) {
    for (const DType dtype : kTypes) {
        std::vector<StepCase> cases = step_cases(Cell::kLstm, dtype);
        for (StepCase& step : cases) {
            const std::int64_t last = step.T - 1;
            step.parts = {{0, false}, {last, true}};  // first steps of both walks
            for (const Options& options : schedules(3)) {
                SCOPED_TRACE(step.text());
                check(step, options);
                if (::testing::Test::HasFailure()) return;
            }
        }
    }
}

TEST(SimtRnnState, StateIn) {
    for_each_state_case([](const StepCase& step, const Options& options) {
        StepWorld w(step);
        const std::int64_t N = step.N, O = step.output_size();
        cuda::StateInArgs args;
        args.common = w.common;
        Rows *hx[2], *h_in[2];
        for (std::size_t p = 0; p < 2; ++p) {
            const bool given = p == 0 || step.extras;
            hx[p] = given ? &w.tensors.fill(w.tensors.dense(w.stored, N, O, "hx"), -1, 1) : nullptr;
            h_in[p] = &w.tensors.dense(w.stored, N, O, "h_in");
            args.parts[p] = {step.parts[p].t, step.parts[p].reverse ? 1 : 0, address(hx[p]),
                             address(h_in[p])};
        }
        run_checked(kernels().state_in(args), options);
        for (std::size_t p = 0; p < 2; ++p) {
            const Position& at = step.parts[p];
            Expectation expect(*h_in[p], 0.0);  // a copy: exact
            for (std::int64_t n = 0; n < N; ++n)
                for (std::int64_t j = 0; j < O; ++j) {
                    const bool cut = w.rules.cut_before(at.t, at.reverse, n);
                    expect(n, j, cut || hx[p] == nullptr ? 0.0 : hx[p]->get(n, j));
                }
        }
        w.tensors.expect_gaps_untouched();
    });
}

TEST(SimtRnnState, GradientsOfStatesBeginAndEnd) {
    for_each_state_case([](const StepCase& step, const Options& options) {
        StepWorld w(step);
        const std::int64_t N = step.N, H = step.H, O = step.output_size();
        Tensors& make = w.tensors;
        Rows& dhy = make.fill(make.dense(w.stored, N, O, "dhy"), -1, 1);
        Rows& dcy = make.fill(make.dense(w.sums, N, H, "dcy"), -1, 1);
        const bool given = step.extras;
        for (const Position& at : step.parts) {
            Rows& dh_state = make.dense(w.sums, N, O, "dh_state");
            Rows& dc = make.dense(w.sums, N, H, "dc");
            Rows& dhx = make.dense(w.stored, N, O, "dhx");
            Rows& dcx = make.dense(w.sums, N, H, "dcx");
            cuda::StateGradArgs args;
            args.common = w.common;
            args.common.num_parts = 1;
            cuda::StateGradPart& part = args.parts[0];
            part.t = at.t;
            part.reverse = at.reverse ? 1 : 0;
            part.dhy = given ? dhy.data() : nullptr;
            part.dcy = given ? dcy.data() : nullptr;
            part.dh_state = dh_state.data();
            part.dc = dc.data();
            run_checked(kernels().state_grad_begin(args), options);
            part.dhx = dhx.data();
            part.dcx = dcx.data();
            run_checked(kernels().state_grad_end(args), options);
            Expectation to_state(dh_state, 0.0), to_dc(dc, 0.0), to_dhx(dhx, 0.0), to_dcx(dcx, 0.0);
            for (std::int64_t n = 0; n < N; ++n) {
                const bool cut = w.rules.cut_before(at.t, at.reverse, n);
                for (std::int64_t j = 0; j < O; ++j) {
                    const double value = given ? dhy.get(n, j) : 0.0;
                    to_state(n, j, value);
                    to_dhx(n, j, cut ? 0.0 : value);
                }
                for (std::int64_t j = 0; j < H; ++j) {
                    const double value = given ? dcy.get(n, j) : 0.0;
                    to_dc(n, j, value);
                    to_dcx(n, j, cut ? 0.0 : value);
                }
            }
        }
        w.tensors.expect_gaps_untouched();
    });
}

/// Cells without c, and gradients that nobody wants: null pointers are left alone.
TEST(SimtRnnState, NullGradientsAreLeftAlone) {
    StepCase step;
    step.cell = Cell::kGru;
    step.H = 36;
    StepWorld w(step);
    Rows& dh_state = w.tensors.fill(w.tensors.dense(w.sums, 3, 36, "dh_state"), -1, 1);
    cuda::StateGradArgs args;
    args.common = w.common;
    args.parts[0].dh_state = dh_state.data();
    const Values before(dh_state);
    run_checked(kernels().state_grad_end(args), schedules(1)[0]);
    EXPECT_EQ(Values(dh_state).values, before.values);
    args.parts[0].dh_state = nullptr;
    run_checked(kernels().state_grad_begin(args), schedules(1)[0]);
}

TEST(SimtRnnState, MaskedRows) {
    for_each_state_case([](const StepCase& step, const Options& options) {
        StepWorld w(step);
        const std::int64_t N = step.N, T = step.T, columns = step.H;
        const std::int64_t first = T / 3, steps = T - first;
        Rows& x = w.tensors.strided(w.stored, T * N, columns, "x");
        for (std::int64_t row = 0; row < T * N; ++row)  // rows that are not valid hold NaN
            for (std::int64_t j = 0; w.rules.valid(row / N, row % N) && j < columns; ++j)
                x.set(row, j, w.tensors.uniform(-1, 1));
        Rows& out = w.tensors.dense(w.stored, steps * N, columns, "out");
        cuda::MaskedRowsArgs args;
        args.dtype = step.dtype;
        args.t_begin = first;
        args.steps = steps;
        args.seq_len = T;
        args.batch_size = N;
        args.columns = columns;
        args.x = x.data();
        args.stride_t = N * x.stride();
        args.stride_n = x.stride();
        args.lengths = w.common.lengths;
        args.out = out.data();
        run_checked(kernels().masked_rows(args), options);
        Expectation expect(out, 0.0);
        for (std::int64_t row = 0; row < steps * N; ++row) {
            const std::int64_t t = first + row / N, n = row % N;
            for (std::int64_t j = 0; j < columns; ++j)
                expect(row, j, w.rules.valid(t, n) ? x.get(t * N + n, j) : 0.0);
        }
        w.tensors.expect_gaps_untouched();
    });
}

TEST(SimtRnnReduce, SumRowsAndStepNorms) {
    for (const DType dtype : {DType::kF64, DType::kF32}) {
        for (const std::int64_t rows : {1, 3, 32}) {
            for (const std::int64_t columns : {1, 5, 33, 100, 300}) {
                for (const Options& options : schedules(3)) {
                    Tensors make({Layout::kAll, 3}, 7);
                    Rows& partials =
                        make.fill(make.strided(dtype, rows, columns, "partials"), 0, 1);
                    Rows& out = make.fill(make.dense(dtype, 1, columns, "out"), 0, 1);
                    const Values before(out);
                    cuda::SumRowsArgs args{
                        dtype, partials.data(), rows, columns, partials.stride(), out.data(), 1};
                    run_checked(kernels().sum_rows(args), options);
                    Rows& once = make.dense(dtype, 1, columns, "out once");
                    args.out = once.data();
                    args.accumulate = 0;
                    run_checked(kernels().sum_rows(args), options);
                    Rows& squares = make.fill(make.dense(dtype, rows, columns, "squares"), 0, 1);
                    Rows& norms = make.dense(dtype, rows, 1, "norms");
                    run_checked(
                        kernels().step_norms({dtype, squares.data(), rows, columns, norms.data()}),
                        options);
                    Expectation to_out(out, 4.0), to_once(once, 4.0), to_norms(norms, 4.0);
                    for (std::int64_t j = 0; j < columns; ++j) {
                        double sum = 0.0;
                        for (std::int64_t r = 0; r < rows; ++r) sum += partials.get(r, j);
                        to_once(0, j, sum);
                        to_out(0, j, before.at(0, j) + sum);
                    }
                    for (std::int64_t r = 0; r < rows; ++r) {
                        double sum = 0.0;
                        for (std::int64_t j = 0; j < columns; ++j) sum += squares.get(r, j);
                        to_norms(r, 0, std::sqrt(sum));
                    }
                    make.expect_gaps_untouched();
                }
            }
        }
    }
}

TEST(SimtRnnReduce, ManyColumnsAndSteps) {
    Tensors make({}, 9);
    const std::int64_t many = 70000;
    Rows& partials = make.fill(make.dense(DType::kF32, 2, many, "partials"), 0, 1);
    Rows& out = make.dense(DType::kF32, 1, many, "out");
    Rows& norms = make.dense(DType::kF32, many, 1, "norms");
    const Options options = schedules(1)[0];
    run_checked(kernels().sum_rows({DType::kF32, partials.data(), 2, many, many, out.data(), 0}),
                options);
    run_checked(kernels().step_norms({DType::kF32, out.data(), many, 1, norms.data()}), options);
    Expectation to_norms(norms, 4.0);
    for (std::int64_t j = 0; j < many; ++j)
        to_norms(j, 0, std::sqrt(partials.get(0, j) + partials.get(1, j)));
}

TEST(SimtRnnState, SetKey) {
    const DeviceBuffer<std::uint64_t> from(std::vector<std::uint64_t>{11, 22}, "from");
    const DeviceBuffer<std::uint64_t> to(2, "to");
    const Options options = schedules(1)[0];
    run_checked(kernels().set_key({to.data(), nullptr, 5, 6}), options);
    EXPECT_EQ(to.read(), (std::vector<std::uint64_t>{5, 6}));
    run_checked(kernels().set_key({to.data(), from.data(), 5, 6}), options);
    EXPECT_EQ(to.read(), (std::vector<std::uint64_t>{11, 22}));
}

/// A projected step, the simplest kernel that reads all that may change between replays.
struct ReplayStep {
    static constexpr std::int64_t kT = 4, kN = 3, kO = 8;
    DeviceBuffer<std::int64_t> lengths{std::vector<std::int64_t>{4, 4, 4}, "lengths"};
    DeviceBuffer<std::uint8_t> reset{std::vector<std::uint8_t>(kT * kN, 0), "reset"};
    DeviceBuffer<std::uint64_t> key{std::vector<std::uint64_t>{1, 2}, "key"};
    DeviceBuffer<std::uint32_t> status{std::vector<std::uint32_t>{0}, "status"};
    DeviceBuffer<float> projected{std::vector<float>(kN * kO, 2.0F), "projected"};
    DeviceBuffer<float> h_in{std::vector<float>(kN * kO, 7.0F), "h_in"};
    DeviceBuffer<float> y{kN * kO, "y"}, h_next{kN * kO, "h_next"};
    cuda::Launch launch;

    ReplayStep() {
        cuda::ProjectForwardArgs args;
        cuda::StepCommon& common = args.common;
        common.seq_len = kT;
        common.batch_size = kN;
        common.hidden_size = common.output_size = common.y_columns = kO;
        common.lengths = lengths.data();
        common.reset = reset.data();
        common.status = status.data();
        common.dropout = 0.5;
        common.dropout_key = key.data();
        common.num_parts = 1;
        args.parts[0].t = 1;
        args.parts[0].projected = projected.data();
        args.parts[0].h_in = h_in.data();
        args.parts[0].out.h_next = h_next.data();
        args.parts[0].out.y = y.data();
        args.parts[0].out.y_stride = kO;
        args.parts[0].out.drops = 1;
        launch = kernels().project_forward(args);
    }
    void run() const { run_checked(launch, schedules(1)[0]); }
    std::vector<float> masked() const {
        std::vector<float> out(kN * kO);
        fill_dropout_mask(DropoutKey{key[0], key[1], 0}, 0.5, kN * kO, kN * kO, out.data());
        for (float& multiplier : out) multiplier *= 2.0F;
        return out;
    }
};

TEST(SimtRnnState, SameLaunchSeesNewDeviceValues) {
    const ReplayStep step;
    step.run();
    const std::vector<float> first = step.y.read();
    EXPECT_EQ(first, step.masked());
    EXPECT_EQ(step.h_next.read(), std::vector<float>(ReplayStep::kN * ReplayStep::kO, 2.0F));
    step.key[0] = 0x8000000000000005ULL;
    step.key[1] = 0xABCD00000001ULL;
    step.lengths[1] = 1;                     // row 1 has ended
    step.reset[2 * ReplayStep::kN + 2] = 1;  // row 2 is cut after the step
    step.run();
    std::vector<float> y = step.masked(), h(ReplayStep::kN * ReplayStep::kO, 2.0F);
    EXPECT_NE(y, first);
    for (std::size_t j = 0; j < ReplayStep::kO; ++j) {
        y[ReplayStep::kO + j] = 0.0F;
        h[ReplayStep::kO + j] = 7.0F;
        h[2 * ReplayStep::kO + j] = 0.0F;
    }
    EXPECT_EQ(step.y.read(), y);
    EXPECT_EQ(step.h_next.read(), h);
    EXPECT_EQ(step.status[0], 0U);
}

TEST(SimtRnnState, BadLengthsAreClampedAndReported) {
    for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{5}, INT64_MIN, INT64_MAX}) {
        const ReplayStep step;
        step.lengths[0] = bad;
        step.run();
        EXPECT_EQ(step.status[0], cuda::kStatusLength) << bad;
        EXPECT_EQ(step.h_next[0], bad < 0 ? 7.0F : 2.0F) << bad;
        EXPECT_EQ(step.h_next[ReplayStep::kO], 2.0F) << bad;
    }
}

TEST(SimtRnnState, UnknownTypeIsAnError) {
    cuda::StateInArgs args;
    args.common.dtype = DType::kI64;
    EXPECT_THROW(kernels().state_in(args), Error);
}

}  // namespace
}  // namespace carousel::simt
