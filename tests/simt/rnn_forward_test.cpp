// Forward cell and projection kernels against one step in double precision.

#include <gtest/gtest.h>

#include "simt/rnn_step_case.hpp"

namespace carousel::simt {
namespace {

const cuda::RnnLaunchers& kernels() { return cuda_simt::rnn_launchers(); }

/// One part of a forward step: its tensors, and what its operands held before the launch.
struct ForwardPart {
    Position at;
    Rows *h_in = nullptr, *h_next = nullptr, *y = nullptr, *y_out = nullptr, *hy = nullptr;
    Rows *x = nullptr, *h = nullptr, *h_n = nullptr, *b_ih = nullptr, *b_hh = nullptr;
    Rows *c_prev = nullptr, *c = nullptr, *cy = nullptr, *c_out = nullptr;
    Rows *gates = nullptr, *gates_out = nullptr, *aux = nullptr, *projected = nullptr;
    Values x0, h_in0, c_prev0;

    ForwardPart(StepWorld& w, const Position& position);
    cuda::StateOut state_out(const StepWorld& w) const;
    cuda::CellForwardPart cell_args(const StepWorld& w) const;
    void expect_cell(const StepWorld& w) const;
    void expect_state(const StepWorld& w, const Values& state) const;
    Values hidden_states(const StepWorld& w) const;
};

ForwardPart::ForwardPart(StepWorld& w, const Position& position) : at(position) {
    const StepCase& s = w.step;
    const std::int64_t N = s.N, H = s.H, O = s.output_size();
    const std::int64_t G = unit_gates(w.unit), slots = unit_gate_slots(w.unit);
    const bool before = w.unit == UnitCell::kGruResetBefore;
    Tensors& make = w.tensors;
    h_in = &make.fill(make.dense(w.stored, N, O, "h_in"), -1, 1);
    if (!w.rules.is_last(at.t, at.reverse))
        h_next = s.in_place ? h_in : &make.dense(w.stored, N, O, "h_next");
    else
        hy = &make.dense(w.stored, N, O, "hy");
    y = &make.strided(w.stored, N, O, "y");
    if (s.extras) y_out = &make.strided(w.stored, N, O, "y_out");
    if (s.in_place || s.extras) gates = &make.strided(w.stored, N, slots * H, "gates");
    if (s.in_place) {
        x = gates;
    } else {
        x = &make.strided(w.stored, N, G * H, "x_preact");
    }
    for (std::int64_t n = 0; n < N; ++n)  // rows that are not valid hold NaN
        for (std::int64_t j = 0; w.rules.valid(at.t, n) && j < G * H; ++j)
            x->set(n, j, make.uniform(-2, 2));
    h = &make.fill(make.dense(w.sums, N, (before ? 2 : G) * H, "h_preact"), -2, 2);
    if (before) h_n = &make.fill(make.dense(w.sums, N, H, "h_preact_n"), -2, 2);
    if (s.biases > 0) b_ih = &make.fill(make.dense(w.stored, 1, G * H, "b_ih"), -1, 1);
    if (s.biases > 1) b_hh = &make.fill(make.dense(w.stored, 1, G * H, "b_hh"), -1, 1);
    if (s.extras) gates_out = &make.dense(w.stored, N, G * H, "gates_out");
    if (w.unit == UnitCell::kLstm) {
        if (s.in_place || !w.rules.is_first(at.t, at.reverse))
            c_prev = &make.fill(make.dense(w.sums, N, H, "c_prev"), -1, 1);
        c = s.in_place ? c_prev : &make.dense(w.sums, N, H, "c");
        if (w.rules.is_last(at.t, at.reverse)) cy = &make.dense(w.sums, N, H, "cy");
        if (s.extras) c_out = &make.dense(w.sums, N, H, "c_out");
    }
    if (s.P > 0 || before) aux = &make.dense(w.stored, N, H, "aux");
    if (s.P > 0) projected = &make.fill(make.dense(w.sums, N, O, "projected"), -1, 1);
    x0 = Values(*x);
    h_in0 = Values(*h_in);
    if (c_prev != nullptr) c_prev0 = Values(*c_prev);
}

cuda::StateOut ForwardPart::state_out(const StepWorld& w) const {
    cuda::StateOut out;
    out.h_next = address(h_next);
    out.y = address(y);
    out.y_stride = stride(y);
    out.y_out = address(y_out);
    out.y_out_stride = stride(y_out);
    out.hy = address(hy);
    out.mask_column = w.mask_column(at);
    out.mask_layer = StepWorld::kLayer;
    out.drops = w.step.drops ? 1 : 0;
    return out;
}

cuda::CellForwardPart ForwardPart::cell_args(const StepWorld& w) const {
    cuda::CellForwardPart part;
    part.t = at.t;
    part.reverse = at.reverse ? 1 : 0;
    part.x_preact = address(x);
    part.x_preact_stride = stride(x);
    part.h_preact = address(h);
    part.h_preact_n = address(h_n);
    part.b_ih = address(b_ih);
    part.b_hh = address(b_hh);
    part.h_in = address(h_in);
    part.c_prev = address(c_prev);
    part.c = address(c);
    part.cy = address(cy);
    part.c_out = address(c_out);
    part.gates = address(gates);
    part.gates_stride = stride(gates);
    part.gates_out = address(gates_out);
    part.aux = address(aux);
    if (w.step.P == 0) part.out = state_out(w);
    return part;
}

/// The state that a step computes for its valid rows; checks everything else it writes on the way.
Values ForwardPart::hidden_states(const StepWorld& w) const {
    const StepCase& s = w.step;
    const std::int64_t H = s.H, G = unit_gates(w.unit);
    const bool before = w.unit == UnitCell::kGruResetBefore;
    Values states;
    states.columns = H;
    std::optional<Expectation> to_gates, to_gates_out, to_c, to_cy, to_c_out, to_aux;
    if (gates != nullptr) to_gates.emplace(*gates);
    if (gates_out != nullptr) to_gates_out.emplace(*gates_out);
    if (c != nullptr) to_c.emplace(*c);
    if (cy != nullptr) to_cy.emplace(*cy);
    if (c_out != nullptr) to_c_out.emplace(*c_out);
    if (aux != nullptr) to_aux.emplace(*aux);
    for (std::int64_t n = 0; n < s.N; ++n) {
        const bool valid = w.rules.valid(at.t, n);
        for (std::int64_t j = 0; j < H; ++j) {
            const double c_old = c_prev == nullptr ? 0.0 : c_prev0.at(n, j);
            const double c_in = w.rules.cut_before(at.t, at.reverse, n) ? 0.0 : c_old;
            const double old_h = s.P > 0 ? 0.0 : h_in0.at(n, j);
            double xs[4] = {}, hs[4] = {};
            for (std::int64_t g = 0; valid && g < G; ++g) {
                xs[g] = x0.at(n, g * H + j) + (b_ih == nullptr ? 0.0 : b_ih->get(0, g * H + j));
                hs[g] = before && g == 2 ? h_n->get(n, j) : h->get(n, g * H + j);
                hs[g] += b_hh == nullptr ? 0.0 : b_hh->get(0, g * H + j);
            }
            const UnitForward unit = unit_forward(w.unit, xs, hs, old_h, c_in);
            states.values.push_back(unit.h);
            for (int g = 0; gates && valid && g < unit_gate_slots(w.unit); ++g)
                (*to_gates)(n, g * H + j, unit.gates[g]);
            for (int g = 0; gates_out && g < G; ++g)
                (*to_gates_out)(n, g * H + j, valid ? unit.gates[g] : 0.0);
            if (c != nullptr) (*to_c)(n, j, valid ? unit.c : c_old);
            if (cy != nullptr) (*to_cy)(n, j, valid ? unit.c : c_old);
            if (c_out != nullptr) (*to_c_out)(n, j, valid ? unit.c : 0.0);
            if (aux != nullptr) {
                const double kept = before ? unit.gates[0] * old_h : unit.h;
                (*to_aux)(n, j, valid ? kept : 0.0);
            }
        }
    }
    return states;
}

void ForwardPart::expect_state(const StepWorld& w, const Values& state) const {
    std::optional<Expectation> to_next, to_hy, to_y, to_y_out;
    if (h_next != nullptr) to_next.emplace(*h_next);
    if (hy != nullptr) to_hy.emplace(*hy);
    if (y != nullptr) to_y.emplace(*y, 2.0);  // rounded before and after the mask
    if (y_out != nullptr) to_y_out.emplace(*y_out);
    bool masked = true;
    for (std::int64_t n = 0; n < w.step.N; ++n) {
        const bool valid = w.rules.valid(at.t, n);
        const bool cut = w.rules.cut_after(at.t, at.reverse, n);
        for (std::int64_t j = 0; j < w.step.output_size(); ++j) {
            const double h_new = valid ? state.at(n, j) : h_in0.at(n, j);
            if (h_next != nullptr) (*to_next)(n, j, cut ? 0.0 : h_new);
            if (hy != nullptr) (*to_hy)(n, j, h_new);
            if (y_out != nullptr) (*to_y_out)(n, j, valid ? h_new : 0.0);
            if (y != nullptr) (*to_y)(n, j, valid ? h_new * w.mask(at, n, j) : 0.0);
            if (y != nullptr && y_out != nullptr) {  // the mask acts on y as it is stored
                masked = masked &&
                         y->get(n, j) == round_to(w.stored, y_out->get(n, j) * w.mask(at, n, j));
            }
        }
    }
    EXPECT_TRUE(masked) << "y is not y_out through the mask";
}

void ForwardPart::expect_cell(const StepWorld& w) const {
    const Values states = hidden_states(w);
    if (w.step.P == 0) expect_state(w, states);
}

/// Runs and checks a whole case; returns how many tensors it made.
int check_forward(const StepCase& step, const Options& options, int expected_vector = 0) {
    SCOPED_TRACE(step.text());
    StepWorld w(step);
    std::vector<ForwardPart> parts;
    for (const Position& at : step.parts) parts.emplace_back(w, at);
    cuda::CellForwardArgs args;
    args.common = w.common;
    cuda::ProjectForwardArgs project;
    project.common = w.common;
    for (std::size_t p = 0; p < parts.size(); ++p) {
        args.parts[p] = parts[p].cell_args(w);
        project.parts[p] = {parts[p].at.t, parts[p].at.reverse ? 1 : 0, address(parts[p].projected),
                            parts[p].h_in->data(), parts[p].state_out(w)};
    }
    std::vector<cuda::Launch> launches = {kernels().cell_forward(args)};
    if (step.cell == Cell::kGruResetBefore) launches.push_back(kernels().cell_forward_second(args));
    if (step.P > 0) launches.push_back(kernels().project_forward(project));
    int vector = 4;
    for (const cuda::Launch& launch : launches) {
        run_checked(launch, options);
        vector = std::min(vector, vector_of(launch));
    }
    EXPECT_TRUE(expected_vector == 0 || vector == expected_vector)
        << "units per thread: " << vector;
    for (const ForwardPart& part : parts) {
        part.expect_cell(w);
        if (step.P > 0) part.expect_state(w, Values(*part.projected));
    }
    EXPECT_EQ(w.status(), 0U);
    w.tensors.expect_gaps_untouched();
    return w.tensors.count();
}

constexpr Cell kCells[] = {Cell::kRnnTanh, Cell::kRnnRelu, Cell::kLstm, Cell::kGru,
                           Cell::kGruResetBefore};
constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kTf32, DType::kBf16, DType::kF16};

void check_all(Cell cell) {
    for (const DType dtype : kTypes) {
        for (const StepCase& step : step_cases(cell, dtype)) {
            for (const Options& options : schedules(3)) check_forward(step, options);
            if (::testing::Test::HasFailure()) return;
        }
    }
}

TEST(SimtRnnForward, RnnTanhEveryShapeAndType) { check_all(Cell::kRnnTanh); }
TEST(SimtRnnForward, RnnReluEveryShapeAndType) { check_all(Cell::kRnnRelu); }
TEST(SimtRnnForward, LstmEveryShapeAndType) { check_all(Cell::kLstm); }
TEST(SimtRnnForward, GruEveryShapeAndType) { check_all(Cell::kGru); }
TEST(SimtRnnForward, GruResetBeforeEveryShapeAndType) { check_all(Cell::kGruResetBefore); }

StepCase full_case(Cell cell, DType dtype) {
    StepCase step;
    step.cell = cell;
    step.dtype = dtype;
    step.H = 64;
    step.parts = {{3, false}, {6, false}, {0, true}};
    step.lengths = step.reset = step.drops = true;
    step.layout.gap = 8;
    return step;
}

TEST(SimtRnnForward, ThreeSchedulesAndRaces) {
    for (const Cell cell : kCells) {
        for (Options options : schedules(3)) {
            options.races = can_check_races();
            StepCase step = full_case(cell, DType::kF32);
            check_forward(step, options, 4);
            step.P = cell == Cell::kLstm ? 20 : 0;
            step.in_place = true;
            check_forward(step, options);
        }
    }
}

/// One tensor at a time is one element late: that tensor alone makes the access scalar.
TEST(SimtRnnForward, AnyLateTensorMakesAccessScalar) {
    for (const Cell cell : kCells) {
        for (const DType dtype : {DType::kF64, DType::kBf16}) {
            for (const std::int64_t P : {0, 32}) {
                if (P > 0 && cell != Cell::kLstm) continue;
                StepCase step = full_case(cell, dtype);
                step.N = 1;
                step.H = 36;
                step.parts.resize(2);
                step.P = P;
                const int count =
                    check_forward(step, schedules(1)[0], dtype == DType::kF64 ? 2 : 4);
                for (step.layout.late = 0; step.layout.late < count; ++step.layout.late)
                    check_forward(step, schedules(1)[0], 1);
                step.layout = {Layout::kNone, 1};  // a stride alone
                check_forward(step, schedules(1)[0], 1);
            }
        }
    }
}

/// Whether gates are saved does not change the state, not even in the types that round what is saved.
TEST(SimtRnnForward, SavingGatesChangesNothing) {
    for (const Cell cell : kCells) {
        for (const DType dtype : kTypes) {
            std::vector<std::vector<std::uint8_t>> states;
            for (const bool saves : {false, true}) {
                StepCase step = full_case(cell, dtype);
                step.parts.resize(1);
                StepWorld w(step);
                ForwardPart part(w, step.parts[0]);
                cuda::CellForwardArgs args;
                args.common = w.common;
                args.parts[0] = part.cell_args(w);
                if (!saves) args.parts[0].gates = args.parts[0].gates_out = nullptr;
                run_checked(kernels().cell_forward(args), schedules(1)[0]);
                if (cell == Cell::kGruResetBefore)
                    run_checked(kernels().cell_forward_second(args), schedules(1)[0]);
                states.push_back(part.h_next->bytes());
                EXPECT_NE(states.back(), std::vector<std::uint8_t>(states.back().size(), 0xFF));
            }
            EXPECT_EQ(states[0], states[1]) << cell_name(cell) << " " << dtype_name(dtype);
        }
    }
}

/// More rows than a grid has thread rows in its first sweep, and more columns than a block.
TEST(SimtRnnForward, RowsBeyondTheGrid) {
    StepCase step;
    step.cell = Cell::kRnnRelu;
    step.N = 70000;
    step.H = 1;
    step.T = 1;
    step.extras = false;
    const Options options = schedules(1)[0];
    check_forward(step, options);
    step.N = 1;
    step.H = 70000;
    check_forward(step, options);
}

}  // namespace
}  // namespace carousel::simt
