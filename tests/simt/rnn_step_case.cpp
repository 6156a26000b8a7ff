#include "simt/rnn_step_case.hpp"

#include <gtest/gtest.h>

#include "src/backend/dropout_mask.hpp"

namespace carousel::simt {
namespace {

constexpr std::uint64_t kSeed = 0x123456789ABCDEFULL, kStep = 0x300000007ULL;

UnitCell unit_cell(Cell cell) {
    switch (cell) {
        case Cell::kRnnTanh:
            return UnitCell::kTanh;
        case Cell::kRnnRelu:
            return UnitCell::kRelu;
        case Cell::kLstm:
            return UnitCell::kLstm;
        case Cell::kGru:
            return UnitCell::kGruResetAfter;
        case Cell::kGruResetBefore:
            break;
    }
    return UnitCell::kGruResetBefore;
}

}  // namespace

std::string StepCase::text() const {
    std::string out = std::string(cell_name(cell)) + " " + dtype_name(dtype) + " T" +
                      std::to_string(T) + " N" + std::to_string(N) + " H" + std::to_string(H) +
                      " P" + std::to_string(P) + " biases" + std::to_string(biases);
    for (const Position& at : parts) out += " t" + std::to_string(at.t) + (at.reverse ? "r" : "f");
    const auto flag = [&](bool on, const char* name) { out += on ? std::string(" ") + name : ""; };
    flag(lengths, "lengths");
    flag(reset, "reset");
    flag(drops, "dropout");
    flag(in_place, "in-place");
    flag(extras, "extras");
    return out + " late" + std::to_string(layout.late) + " gap" + std::to_string(layout.gap);
}

std::vector<Position> positions(std::int64_t T) {
    std::vector<Position> out;
    for (const bool reverse : {false, true}) {
        out.push_back({0, reverse});
        if (T > 2) out.push_back({T / 2, reverse});
        if (T > 1) out.push_back({T - 1, reverse});
    }
    return out;
}

std::vector<StepCase> step_cases(Cell cell, DType dtype) {
    std::vector<StepCase> out;
    std::uint64_t i = 0;
    for (const std::int64_t H : {1, 5, 33, 64, 100}) {
        for (const std::int64_t N : {1, 3, 17}) {
            for (const bool aligned : {true, false}) {
                StepCase c;
                c.cell = cell;
                c.dtype = dtype;
                c.H = H;
                c.N = N;
                // Strides of the options are coprime or differ, so that pairs of values meet.
                constexpr std::int64_t kSteps[] = {7, 1, 2};
                c.T = kSteps[i % 3];
                const std::vector<Position> all = positions(c.T);
                c.parts = {all[i % all.size()]};
                if (H * N < 1000) c.parts.push_back(all[(i + 3) % all.size()]);
                if (cell == Cell::kLstm && H > 1 && i % 5 >= 3) c.P = H == 5 ? 3 : H / 2;
                c.lengths = i / 2 % 2 == 0;
                c.reset = i % 3 != 1;
                c.drops = i % 4 < 2;
                c.in_place = i % 7 < 3;
                c.extras = i % 5 < 3;
                c.biases = static_cast<int>(i / 3 % 3);
                c.layout.late = aligned ? Layout::kNone : Layout::kAll;
                c.layout.gap = i % 2 == 0 ? 8 : 3;
                c.seed = 100 + i;
                out.push_back(c);
                ++i;
            }
        }
    }
    return out;
}

Values::Values(const Rows& tensor) : columns(tensor.columns()) {
    for (std::int64_t row = 0; row < tensor.rows(); ++row)
        for (std::int64_t column = 0; column < columns; ++column)
            values.push_back(tensor.get(row, column));
}

StepWorld::StepWorld(const StepCase& of)
    : step(of),
      unit(unit_cell(of.cell)),
      stored(of.dtype),
      sums(of.dtype == DType::kF64 ? DType::kF64 : DType::kF32),
      tensors(of.layout, of.seed),
      lengths_(static_cast<std::size_t>(of.N), "lengths"),
      reset_(static_cast<std::size_t>(of.T * of.N), "reset"),
      key_(std::vector<std::uint64_t>{kSeed, kStep}, "dropout key"),
      status_(std::vector<std::uint32_t>{0}, "status") {
    rules.T = step.T;
    rules.N = step.N;
    if (step.lengths) {
        for (std::int64_t n = 0; n < step.N; ++n) {
            // Row 1 is empty, row 2 is full, the others are anything.
            const std::int64_t any = tensors.below(step.T + 1);
            rules.lengths.push_back(n == 1 ? 0 : n == 2 ? step.T : any);
        }
        lengths_.write(rules.lengths);
        common.lengths = lengths_.data();
    }
    if (step.reset) {
        for (std::int64_t e = 0; e < step.T * step.N; ++e)
            rules.reset.push_back(tensors.below(2) == 0 ? 0 : 1);
        reset_.write(rules.reset);
        common.reset = reset_.data();
    }
    common.cell = step.cell;
    common.dtype = step.dtype;
    common.seq_len = step.T;
    common.batch_size = step.N;
    common.hidden_size = step.H;
    common.output_size = step.output_size();
    common.status = status_.data();
    common.y_columns = 2 * step.output_size();
    common.num_parts = static_cast<int>(step.parts.size());
    if (!step.drops) return;
    common.dropout = kDropout;
    common.dropout_key = key_.data();
    const auto draw = [&](auto* multipliers, std::int64_t count) {
        fill_dropout_mask(DropoutKey{kSeed, kStep, kLayer}, kDropout, 0, count, multipliers);
    };
    const std::int64_t count = step.T * step.N * common.y_columns;
    mask_.resize(static_cast<std::size_t>(count));
    if (sums == DType::kF64) {
        draw(mask_.data(), count);
    } else {
        std::vector<float> multipliers(mask_.size());
        draw(multipliers.data(), count);
        mask_.assign(multipliers.begin(), multipliers.end());
    }
}

double StepWorld::mask(const Position& at, std::int64_t n, std::int64_t j) const {
    if (mask_.empty()) return 1.0;
    const std::int64_t element = (at.t * step.N + n) * common.y_columns + mask_column(at) + j;
    return mask_[static_cast<std::size_t>(element)];
}

void run_checked(const cuda::Launch& plan, const Options& options) {
    const Report report = launch(plan, options);
    EXPECT_EQ(report.races, 0U) << plan.kernel << ": " << report.text();
    EXPECT_EQ(report.uninitialised, 0U) << plan.kernel << ": " << report.text();
}

}  // namespace carousel::simt
