// Backward cell and projection kernels against one step in double precision: gate gradients, what
// reaches the states before the step, and the sums that steps leave behind.

#include <gtest/gtest.h>

#include <cmath>

#include "simt/rnn_step_case.hpp"

namespace carousel::simt {
namespace {

const cuda::RnnLaunchers& kernels() { return cuda_simt::rnn_launchers(); }

/// One part of a backward step: its tensors, and what those that are read and written held before.
struct BackwardPart {
    Position at;
    Rows *dy = nullptr, *dh_state = nullptr, *norm = nullptr, *dh = nullptr, *dp = nullptr;
    Rows *gates = nullptr, *c_prev = nullptr, *c = nullptr, *dc = nullptr, *h_in = nullptr;
    Rows *drh = nullptr, *dgates = nullptr, *db = nullptr;
    Values dh_state0, dc0, db0;

    BackwardPart(StepWorld& w, const Position& position);
    cuda::GradIn grad_in(const StepWorld& w) const;
    cuda::CellBackwardPart cell_args(const StepWorld& w) const;
    cuda::ProjectBackwardPart project_args(const StepWorld& w) const;
    double total(const StepWorld& w, std::int64_t n, std::int64_t j) const;
    void expect_cell(const StepWorld& w) const;
    void expect_projection(const StepWorld& w) const;
    void expect_norm(const StepWorld& w) const;
};

cuda::StepGeometry geometry(const StepWorld& w, std::int64_t columns) {
    return kernels().geometry(w.step.dtype, w.step.N, columns);
}

BackwardPart::BackwardPart(StepWorld& w, const Position& position) : at(position) {
    const StepCase& s = w.step;
    const std::int64_t N = s.N, H = s.H, O = s.output_size();
    const std::int64_t slots = unit_gate_slots(w.unit), grads = unit_grad_slots(w.unit);
    Tensors& make = w.tensors;
    if (s.extras || s.drops) {
        dy = &make.strided(w.stored, N, O, "dy");
        for (std::int64_t n = 0; n < N; ++n)  // rows that are not valid hold NaN
            for (std::int64_t j = 0; w.rules.valid(at.t, n) && j < O; ++j)
                dy->set(n, j, make.uniform(-1, 1));
    }
    dh_state = &make.fill(make.dense(w.sums, N, O, "dh_state"), -1, 1);
    if (s.extras) {
        const cuda::StepGeometry grid = geometry(w, O);
        norm = &make.dense(w.sums, 1, grid.row_blocks * grid.column_blocks, "norm_partials");
    }
    gates = &make.strided(w.stored, N, slots * H, "gates");
    for (std::int64_t n = 0; n < N; ++n)
        for (std::int64_t j = 0; w.rules.valid(at.t, n) && j < slots * H; ++j)
            gates->set(n, j, make.uniform(-1, 1));
    if (w.unit == UnitCell::kLstm) {
        if (!w.rules.is_first(at.t, at.reverse))
            c_prev = &make.fill(make.dense(w.sums, N, H, "c_prev"), -1, 1);
        c = &make.fill(make.dense(w.sums, N, H, "c"), -1, 1);
        dc = &make.fill(make.dense(w.sums, N, H, "dc"), -1, 1);
        dc0 = Values(*dc);
    } else {
        h_in = &make.fill(make.dense(w.stored, N, H, "h_in"), -1, 1);
    }
    if (w.unit == UnitCell::kGruResetBefore)
        drh = &make.fill(make.dense(w.sums, N, H, "drh"), -1, 1);
    dgates = &make.strided(w.stored, N, grads * H, "dgates");
    if (s.biases > 0) {
        const std::int64_t row_blocks = geometry(w, H).row_blocks;
        db = &make.fill(make.dense(w.sums, row_blocks, grads * H, "db_partials"), -1, 1);
        db0 = Values(*db);
    }
    if (s.P > 0) {
        dp = &make.dense(w.stored, N, O, "dp");
        dh = &make.fill(make.dense(w.sums, N, H, "dh"), -1, 1);
    }
    dh_state0 = Values(*dh_state);
}

cuda::GradIn BackwardPart::grad_in(const StepWorld& w) const {
    cuda::GradIn in;
    in.dy = address(dy);
    in.dy_stride = stride(dy);
    in.dh_state = address(dh_state);
    in.mask_column = w.mask_column(at);
    in.mask_layer = StepWorld::kLayer;
    in.drops = w.step.drops ? 1 : 0;
    in.norm_partials = address(norm);
    return in;
}

cuda::CellBackwardPart BackwardPart::cell_args(const StepWorld& w) const {
    cuda::CellBackwardPart part;
    part.t = at.t;
    part.reverse = at.reverse ? 1 : 0;
    part.last = w.rules.is_last(at.t, at.reverse) ? 1 : 0;
    if (w.step.P == 0) part.in = grad_in(w);
    part.dh = address(dh);
    part.gates = address(gates);
    part.gates_stride = stride(gates);
    part.c_prev = address(c_prev);
    part.c = address(c);
    part.h_in = address(h_in);
    part.dc = address(dc);
    part.drh = address(drh);
    part.dgates = address(dgates);
    part.dgates_stride = stride(dgates);
    part.db_partials = address(db);
    return part;
}

cuda::ProjectBackwardPart BackwardPart::project_args(const StepWorld& w) const {
    cuda::ProjectBackwardPart part;
    part.t = at.t;
    part.reverse = at.reverse ? 1 : 0;
    part.last = w.rules.is_last(at.t, at.reverse) ? 1 : 0;
    part.in = grad_in(w);
    part.dp = address(dp);
    return part;
}

/// dL/dh_t of a valid row, as it arrives at the step.
double BackwardPart::total(const StepWorld& w, std::int64_t n, std::int64_t j) const {
    const double later = w.rules.cut_after(at.t, at.reverse, n) ? 0.0 : dh_state0.at(n, j);
    return later + (dy == nullptr ? 0.0 : dy->get(n, j) * w.mask(at, n, j));
}

void BackwardPart::expect_cell(const StepWorld& w) const {
    const std::int64_t H = w.step.H, grads = unit_grad_slots(w.unit);
    const int slots = unit_gate_slots(w.unit);
    const bool projected = w.step.P > 0;
    std::vector<double> sums(static_cast<std::size_t>(grads * H), 0.0);
    std::optional<Expectation> to_dc, to_state;
    Expectation to_dgates(*dgates);
    if (dc != nullptr) to_dc.emplace(*dc);
    if (!projected) to_state.emplace(*dh_state);
    for (std::int64_t n = 0; n < w.step.N; ++n) {
        const bool valid = w.rules.valid(at.t, n);
        const bool after = w.rules.cut_after(at.t, at.reverse, n);
        const bool before = w.rules.cut_before(at.t, at.reverse, n);
        for (std::int64_t j = 0; j < H; ++j) {
            double g[4] = {};
            for (int slot = 0; slot < slots; ++slot) g[slot] = gates->get(n, slot * H + j);
            const UnitBackward unit = unit_backward(
                w.unit, g, h_in == nullptr ? 0.0 : h_in->get(n, j),
                c_prev == nullptr || before ? 0.0 : c_prev->get(n, j),
                c == nullptr ? 0.0 : c->get(n, j), projected ? dh->get(n, j) : total(w, n, j),
                dc == nullptr || after ? 0.0 : dc0.at(n, j), drh == nullptr ? 0.0 : drh->get(n, j));
            for (std::int64_t slot = 0; slot < grads; ++slot) {
                to_dgates(n, slot * H + j, valid ? unit.dgates[slot] : 0.0);
                if (valid) sums[static_cast<std::size_t>(slot * H + j)] += unit.dgates[slot];
            }
            if (dc != nullptr) (*to_dc)(n, j, valid ? unit.dc_in : dc0.at(n, j));
            if (!projected) (*to_state)(n, j, valid ? unit.dh_in : dh_state0.at(n, j));
        }
    }
    if (db == nullptr) return;
    // The blocks' shares of rows are the kernel's choice; their sum is not.
    for (std::int64_t e = 0; e < grads * H; ++e) {
        double found = 0.0, expected = sums[static_cast<std::size_t>(e)];
        for (std::int64_t block = 0; block < db->rows(); ++block) {
            found += db->get(block, e);
            expected += db0.at(block, e);
        }
        ASSERT_NEAR(found, expected, 8 * tolerance(w.sums) * (1 + std::abs(expected)))
            << "db_partials, column " << e;
    }
}

void BackwardPart::expect_projection(const StepWorld& w) const {
    Expectation to_dp(*dp), to_state(*dh_state);
    for (std::int64_t n = 0; n < w.step.N; ++n) {
        const bool valid = w.rules.valid(at.t, n);
        for (std::int64_t j = 0; j < w.step.P; ++j) {
            to_dp(n, j, valid ? total(w, n, j) : 0.0);
            to_state(n, j, valid ? 0.0 : dh_state0.at(n, j));
        }
    }
}

void BackwardPart::expect_norm(const StepWorld& w) const {
    if (norm == nullptr) return;
    double found = 0.0, expected = 0.0;
    for (std::int64_t block = 0; block < norm->columns(); ++block) found += norm->get(0, block);
    for (std::int64_t n = 0; n < w.step.N; ++n)
        for (std::int64_t j = 0; w.rules.valid(at.t, n) && j < w.step.output_size(); ++j)
            expected += total(w, n, j) * total(w, n, j);
    EXPECT_NEAR(found, expected, 8 * tolerance(w.sums) * (1 + expected));
}

/// A step that was run, and what it takes to run it.
struct BackwardRun {
    StepWorld w;
    std::vector<BackwardPart> parts;
    std::vector<cuda::Launch> launches;

    explicit BackwardRun(const StepCase& step) : w(step) {
        for (const Position& at : step.parts) parts.emplace_back(w, at);
        cuda::CellBackwardArgs args;
        args.common = w.common;
        cuda::ProjectBackwardArgs project;
        project.common = w.common;
        for (std::size_t p = 0; p < parts.size(); ++p) {
            args.parts[p] = parts[p].cell_args(w);
            project.parts[p] = parts[p].project_args(w);
        }
        if (step.P > 0) launches.push_back(kernels().project_backward(project));
        launches.push_back(kernels().cell_backward(args));
        if (step.cell == Cell::kGruResetBefore)
            launches.push_back(kernels().cell_backward_second(args));
    }
    int vector() const {
        int least = 4;
        for (const cuda::Launch& launch : launches) least = std::min(least, vector_of(launch));
        return least;
    }
    void run(const Options& options) const {
        for (const cuda::Launch& launch : launches) run_checked(launch, options);
    }
};

int check_backward(const StepCase& step, const Options& options, int expected_vector = 0) {
    SCOPED_TRACE(step.text());
    const BackwardRun run(step);
    EXPECT_TRUE(expected_vector == 0 || run.vector() == expected_vector)
        << "units per thread: " << run.vector();
    run.run(options);
    for (const BackwardPart& part : run.parts) {
        part.expect_cell(run.w);
        if (step.P > 0) part.expect_projection(run.w);
        part.expect_norm(run.w);
    }
    EXPECT_EQ(run.w.status(), 0U);
    run.w.tensors.expect_gaps_untouched();
    return run.w.tensors.count();
}

constexpr Cell kCells[] = {Cell::kRnnTanh, Cell::kRnnRelu, Cell::kLstm, Cell::kGru,
                           Cell::kGruResetBefore};
constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kTf32, DType::kBf16, DType::kF16};

void check_all(Cell cell) {
    for (const DType dtype : kTypes) {
        for (const StepCase& step : step_cases(cell, dtype)) {
            for (const Options& options : schedules(3)) check_backward(step, options);
            if (::testing::Test::HasFailure()) return;
        }
    }
}

TEST(SimtRnnBackward, RnnTanhEveryShapeAndType) { check_all(Cell::kRnnTanh); }
TEST(SimtRnnBackward, RnnReluEveryShapeAndType) { check_all(Cell::kRnnRelu); }
TEST(SimtRnnBackward, LstmEveryShapeAndType) { check_all(Cell::kLstm); }
TEST(SimtRnnBackward, GruEveryShapeAndType) { check_all(Cell::kGru); }
TEST(SimtRnnBackward, GruResetBeforeEveryShapeAndType) { check_all(Cell::kGruResetBefore); }

StepCase full_case(Cell cell, DType dtype) {
    StepCase step;
    step.cell = cell;
    step.dtype = dtype;
    step.H = 64;
    step.N = 17;
    step.parts = {{3, false}, {6, false}, {0, true}};
    step.lengths = step.reset = step.drops = true;
    step.layout.gap = 8;
    return step;
}

TEST(SimtRnnBackward, ThreeSchedulesAndRaces) {
    for (const Cell cell : kCells) {
        for (Options options : schedules(3)) {
            options.races = can_check_races();
            StepCase step = full_case(cell, DType::kF32);
            check_backward(step, options, 4);
            step.layout.late = Layout::kAll;
            step.P = cell == Cell::kLstm ? 20 : 0;
            check_backward(step, options, 1);
        }
    }
}

/// One tensor at a time is one element late: that tensor alone makes the access scalar, unless it
/// holds partial sums, which are never accessed in vectors.
TEST(SimtRnnBackward, AnyLateTensorMakesAccessScalar) {
    for (const Cell cell : kCells) {
        for (const DType dtype : {DType::kF64, DType::kBf16}) {
            for (const std::int64_t P : {0, 32}) {
                if (P > 0 && cell != Cell::kLstm) continue;
                StepCase step = full_case(cell, dtype);
                step.N = 1;
                step.H = 36;
                step.parts.resize(1);
                step.P = P;
                const int whole = dtype == DType::kF64 ? 2 : 4;
                const int count = check_backward(step, schedules(1)[0], whole);
                int scalar = 0;
                for (step.layout.late = 0; step.layout.late < count; ++step.layout.late) {
                    check_backward(step, schedules(1)[0]);
                    scalar += BackwardRun(step).vector() == 1 ? 1 : 0;
                }
                EXPECT_EQ(scalar, count - 2) << step.text();  // norm_partials and db_partials
                step.layout = {Layout::kNone, 1};             // a stride alone
                check_backward(step, schedules(1)[0], 1);
            }
        }
    }
}

/// Layout and order of the sums are those of the sizes: the same bits whatever the alignment.
TEST(SimtRnnBackward, SumsDoNotDependOnAlignment) {
    for (const Cell cell : kCells) {
        for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16}) {
            for (const std::int64_t N : {1, 17, 300, 1100}) {  // every height of block, and strides
                StepCase step = full_case(cell, dtype);
                step.N = N;
                step.H = 36;
                step.parts.resize(1);
                const BackwardRun whole(step);
                step.layout.late = Layout::kAll;
                const BackwardRun late(step);
                ASSERT_GT(whole.vector(), late.vector());
                whole.run(schedules(1)[0]);
                late.run(schedules(2)[1]);
                const auto equal = [&](const Rows& a, const Rows& b) {
                    for (std::int64_t r = 0; r < a.rows(); ++r)
                        for (std::int64_t j = 0; j < a.columns(); ++j)
                            if (a.get(r, j) != b.get(r, j)) return false;
                    return true;
                };
                EXPECT_TRUE(equal(*whole.parts[0].db, *late.parts[0].db)) << step.text();
                EXPECT_TRUE(equal(*whole.parts[0].norm, *late.parts[0].norm)) << step.text();
                whole.parts[0].expect_cell(whole.w);
                whole.parts[0].expect_norm(whole.w);
            }
        }
    }
}

/// Bounds that workspace is planned with hold, and the launch is what geometry() said.
TEST(SimtRnnBackward, GeometryKeepsItsPromises) {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBf16}) {
        for (const std::int64_t N : {1, 4, 5, 32, 33, 64, 128, 256, 257, 1000, 70000}) {
            for (const std::int64_t H : {1, 31, 32, 33, 64, 512, 70000}) {
                const cuda::StepGeometry grid = kernels().geometry(dtype, N, H);
                EXPECT_LE(grid.row_blocks, cuda::kMaxRowBlocks);
                EXPECT_LE(grid.row_blocks * grid.column_blocks, cuda::max_norm_blocks(H));
                EXPECT_GE(grid.column_blocks * cuda::kStepUnits, H);
                EXPECT_LE(grid.block_x * grid.block_y, 1024U);
                EXPECT_EQ(grid.block_x * grid.block_y % 32, 0U);
                cuda::CellBackwardArgs args;
                args.common.dtype = dtype;
                args.common.batch_size = N;
                args.common.hidden_size = args.common.output_size = H;
                args.common.num_parts = 1;
                const cuda::Launch launch = kernels().cell_backward(args);
                EXPECT_EQ(launch.grid.x, grid.column_blocks);
                EXPECT_EQ(launch.grid.y, grid.row_blocks);
                EXPECT_EQ(launch.block.y, grid.block_y);
            }
        }
    }
    // One step of the size the kernels are made for has a block for nearly every multiprocessor.
    const cuda::StepGeometry grid = kernels().geometry(DType::kBf16, 64, 512);
    EXPECT_EQ(grid.row_blocks * grid.column_blocks, 128);
}

TEST(SimtRnnBackward, RowsBeyondTheGrid) {
    StepCase step;
    step.cell = Cell::kRnnTanh;
    step.T = 1;
    step.N = 70000;
    step.H = 1;
    check_backward(step, schedules(1)[0]);
    step.N = 1;
    step.H = 70000;
    check_backward(step, schedules(1)[0]);
}

}  // namespace
}  // namespace carousel::simt
