#include <algorithm>
#include <cstdlib>
#include <string>
#include <tuple>
#include <vector>

#include "carousel/error.hpp"
#include "tests/gpu/card.hpp"
#include "tests/support/device_pass.hpp"

// Whole passes on a card: against the independent reference in double precision, and against the CPU
// backend. The same checks as tests/simt/rnn_pass_test.cpp, on the machine's own arithmetic.

namespace carousel::test {
namespace {

// --- every option in every element type

using CellAndDType = std::tuple<Cell, DType>;

class GpuRnnPass : public OnCardWith<CellAndDType> {};

TEST_P(GpuRnnPass, EveryOptionMatchesTheOracle) {
    const auto [cell, dtype] = GetParam();
    std::vector<ShapeLine> lines;
    for (const ShapeLine& line : option_lines(cell)) {
        const ShapeLine typed = with_dtype(line, dtype);
        const auto same = [&](const ShapeLine& other) { return other.text == typed.text; };
        if (std::none_of(lines.begin(), lines.end(), same)) lines.push_back(typed);
    }
    check_device_lines(lines, kCard);
}

INSTANTIATE_TEST_SUITE_P(Cells, GpuRnnPass,
                         testing::Combine(testing::Values(Cell::kRnnTanh, Cell::kRnnRelu,
                                                          Cell::kLstm, Cell::kGru,
                                                          Cell::kGruResetBefore),
                                          testing::Values(DType::kF64, DType::kF32, DType::kTf32,
                                                          DType::kBf16, DType::kF16)),
                         [](const auto& tested) {
                             return std::string(cell_name(std::get<0>(tested.param))) + "_" +
                                    dtype_name(std::get<1>(tested.param));
                         });

// --- the same numbers as on the CPU

class GpuRnnAndCpu : public OnCardWith<CellAndDType> {};

TEST_P(GpuRnnAndCpu, AgreeOnEveryOption) {
    const auto [cell, dtype] = GetParam();
    for (const ShapeLine& option : option_lines(cell)) {
        const ShapeLine line = with_dtype(option, dtype);
        SCOPED_TRACE(line.text);
        const RnnData data = make_rnn_data_with_dropout(line);
        RnnRun on_cpu(line, data), on_card(line, data, kCard);
        expect_close(on_card.training_and_backward(), on_cpu.training_and_backward(),
                     device_tolerance(dtype, line.seq_len));
    }
}

INSTANTIATE_TEST_SUITE_P(Cells, GpuRnnAndCpu,
                         testing::Combine(testing::Values(Cell::kRnnTanh, Cell::kRnnRelu,
                                                          Cell::kLstm, Cell::kGru,
                                                          Cell::kGruResetBefore),
                                          testing::Values(DType::kF64, DType::kF32)),
                         [](const auto& tested) {
                             return std::string(cell_name(std::get<0>(tested.param))) + "_" +
                                    dtype_name(std::get<1>(tested.param));
                         });

// --- sizes

class GpuRnnSizes : public OnCard {};

TEST_F(GpuRnnSizes, AFewStepsOfOneLine) {
    check_device_lines({parse_shape_line("lstm T5 N4 I6 H8 L2 f32")}, kCard);
}

TEST_F(GpuRnnSizes, LinesOfTheSizesFile) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
        std::vector<ShapeLine> lines;
        for (const ShapeLine& line : load_shape_file("rnn_sizes.txt")) {
            lines.push_back(with_dtype(line, dtype));
        }
        check_device_lines(lines, kCard);
    }
}

// Products large enough for the algorithms that real layers get, and more blocks than a card has
// multiprocessors.
TEST_F(GpuRnnSizes, LayersOfModels) {
    std::vector<ShapeLine> lines;
    for (const char* text : {"lstm T3 N64 I128 H512 ", "gru T4 N64 I64 H256 L2 D2 lengths ",
                             "lstm T3 N20 I200 H650 reset ", "gru_reset_before T3 N16 I64 H512 ",
                             "rnn_tanh T4 N200 I64 H320 L2 "}) {
        for (const char* dtype : {"f32", "tf32", "bf16", "f16"}) {
            lines.push_back(parse_shape_line(std::string(text) + dtype));
        }
    }
    check_device_lines(lines, kCard);
}

// --- extents beyond 65,535, the limit of two of a grid's three axes

class GpuRnnHuge : public OnCard {};

void check_extent(const std::string& text) {
    const ShapeLine line = parse_shape_line(text);
    SCOPED_TRACE(text);
    const RnnData data = make_rnn_data(line);
    RnnRun run(line, data, kCard);
    // Gradients of weights are sums over steps and sequences.
    const std::int64_t terms = std::max(line.seq_len, line.batch_size);
    expect_close(run.training_and_backward(), reference_all(data),
                 tolerance(line.spec.dtype, terms));
}

TEST_F(GpuRnnHuge, SeventyThousandSteps) {
    check_extent("lstm T70000 N1 I2 H3 f64");
    check_extent("gru T70000 N2 I2 H2 D2 lengths reset f64");
    check_extent("rnn_tanh T70000 N1 I1 H2 f32");
}

TEST_F(GpuRnnHuge, SeventyThousandSequences) {
    check_extent("lstm T2 N70000 I2 H3 f64");
    check_extent("lstm T2 N70000 I2 H5 P3 L2 f64");
    check_extent("gru_reset_before T2 N70000 I2 H2 D2 lengths reset f64");
    check_extent("rnn_tanh T2 N70000 I1 H2 f32");
}

// --- repeats

class GpuRnnRepeat : public OnCard {};

TEST_F(GpuRnnRepeat, SameBitsRunToRun) {
    for (const char* text :
         {"lstm T40 N33 I70 H100 L3 dropout=0.2 lengths ", "gru T30 N16 I64 H128 L2 D2 reset ",
          "gru_reset_before T20 N7 I9 H65 L2 ", "rnn_relu T50 N64 I32 H96 L4 "}) {
        for (const char* dtype : {"f64", "f32", "tf32", "bf16", "f16"}) {
            const ShapeLine line = parse_shape_line(std::string(text) + dtype);
            const RnnData data = make_rnn_data_with_dropout(line);
            for (const Algorithm algorithm : device_algorithms(line.spec)) {
                SCOPED_TRACE(line.text + ", " + algorithm_name(algorithm));
                RnnRun run(line, data, kCard, algorithm), other(line, data, kCard, algorithm);
                const NamedTensors first = run.training_and_backward();
                expect_same_bits(run.training_and_backward(), first);
                // At other addresses.
                expect_same_bits(other.training_and_backward(), first);
            }
        }
    }
}

TEST_F(GpuRnnRepeat, PackedWeightsGiveTheSameBits) {
    for (const char* text : {"lstm T12 N4 I6 H10 L3 f32 dropout=0.2 seed9",
                             "gru T20 N32 I64 H128 L2 D2 bf16", "lstm T9 N8 I16 H32 P24 L2 f16"}) {
        SCOPED_TRACE(text);
        const ShapeLine line = parse_shape_line(text);
        ShapeLine packed_line = line;
        packed_line.packed = true;
        const RnnData data = make_rnn_data_with_dropout(line);
        RnnRun run(line, data, kCard), packed(packed_line, data, kCard);
        expect_same_bits(packed.training_and_backward(), run.training_and_backward());
    }
}

// --- data that only the kernels see

class GpuRnnMask : public OnCard {};

TEST_F(GpuRnnMask, LengthOutOfRangeIsReportedNotFollowed) {
    const ShapeLine line = parse_shape_line("lstm T4 N3 I5 H6 lengths f32");
    RnnRun run(line, make_rnn_data_with_dropout(line), kCard);
    const std::vector<std::int64_t> lengths = {2, 9, -1};
    copy_to_device(const_cast<std::int64_t*>(run.forward_args.mask.lengths), lengths.data(),
                   lengths.size() * sizeof(std::int64_t), kCard);
    forward_training(run.plan, run.forward_args);
    try {
        synchronize(kCard);
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("length"), std::string::npos) << error.what();
    }
    EXPECT_NO_THROW(synchronize(kCard));
}

class GpuRnnLine : public OnCard {};

TEST_F(GpuRnnLine, OfEnvironment) {
    const char* text = std::getenv("CAROUSEL_SHAPE");
    if (text == nullptr) GTEST_SKIP() << "set CAROUSEL_SHAPE to a shape line to run it alone";
    check_device_lines({parse_shape_line(text)}, kCard);
}

}  // namespace
}  // namespace carousel::test
