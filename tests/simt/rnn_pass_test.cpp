#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "simt/simt_device.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/rnn_run.hpp"

// Whole passes of the CUDA backend against the independent reference: the executor that drives a card,
// its plans and the kernels' sources, over a device that runs them on the CPU.

namespace carousel::test {
namespace {

constexpr int kDevice = 61;

/// Norm of the difference over the norm of the oracle's tensor; the oracle gets the rounded operands.
double device_tolerance(DType dtype, std::int64_t seq_len) {
    switch (dtype) {
        case DType::kTf32:
            return 2e-3;
        case DType::kBf16:
        case DType::kF16:
            return 2e-2;
        default:
            return tolerance(dtype, seq_len);
    }
}

std::vector<Algorithm> algorithms(const RnnSpec& spec) {
    if (spec.num_states() == 1) return {Algorithm::kStepwise};
    return {Algorithm::kStepwise, Algorithm::kWavefront};
}

void check_line(const ShapeLine& line, Algorithm algorithm) {
    SCOPED_TRACE(std::string(algorithm_name(algorithm)) + ", " + rerun_command(line));
    const Device device = Device::cuda(kDevice);
    const RnnData data = make_rnn_data_with_dropout(line);
    const double limit = device_tolerance(line.spec.dtype, line.seq_len);

    RnnRun trained(line, data, device, algorithm);
    expect_close(trained.training_and_backward(), reference_all(data), limit);

    RnnRun inferred(line, data, device, algorithm);
    inferred.inference();
    expect_close(inferred.forward_results(), reference_forward(data, false), limit);
}

void check_lines(const std::vector<ShapeLine>& lines) {
    for (const ShapeLine& line : lines) {
        for (const Algorithm algorithm : algorithms(line.spec)) {
            try {
                check_line(line, algorithm);
            } catch (const std::exception& error) {
                ADD_FAILURE() << error.what() << "\n"
                              << algorithm_name(algorithm) << ", " << line.text;
            }
        }
    }
}

std::vector<ShapeLine> lines_of(Cell cell) {
    std::vector<ShapeLine> lines;
    for (const ShapeLine& line : load_shape_file("rnn_options.txt")) {
        if (line.spec.cell == cell) lines.push_back(line);
    }
    return lines;
}

class SimtRnnPass : public testing::TestWithParam<Cell> {};

TEST_P(SimtRnnPass, EveryOptionMatchesTheOracle) {
    const simt::InstalledDevice device(kDevice);
    check_lines(lines_of(GetParam()));
}

TEST_P(SimtRnnPass, EveryDtypeMatchesTheOracle) {
    const simt::InstalledDevice device(kDevice);
    const std::string cell = cell_name(GetParam());
    const std::string projected = GetParam() == Cell::kLstm ? " P5" : "";
    std::vector<ShapeLine> lines;
    for (const char* dtype : {"f64", "f32", "tf32", "bf16", "f16"}) {
        lines.push_back(parse_shape_line(cell + " T9 N5 I6 H8 L2 lengths reset " + dtype));
        lines.push_back(parse_shape_line(cell + " T8 N4 I7 H9 L2 D2 dropout=0.3 seed3 " + dtype));
        lines.push_back(
            parse_shape_line(cell + projected + " T7 N6 I8 H12 L3 batch_first seed5 " + dtype));
    }
    check_lines(lines);
}

INSTANTIATE_TEST_SUITE_P(Cells, SimtRnnPass,
                         testing::Values(Cell::kRnnTanh, Cell::kRnnRelu, Cell::kLstm, Cell::kGru,
                                         Cell::kGruResetBefore),
                         [](const auto& cell) { return std::string(cell_name(cell.param)); });

// Layers on diagonals and directions beside each other, in whatever order events leave free.
TEST(SimtRnnQueues, AnyOrderThatEventsAllowGivesTheSameBits) {
    for (const char* text : {"lstm T21 N3 I5 H8 L3 lengths seed1 f64", "gru T9 N4 I5 H7 L2 D2 f64",
                             "lstm T37 N20 I5 H6 L4 P4 f64 seed2"}) {
        const ShapeLine line = parse_shape_line(text);
        const RnnData data = make_rnn_data_with_dropout(line);
        for (const Algorithm algorithm : {Algorithm::kStepwise, Algorithm::kWavefront}) {
            SCOPED_TRACE(std::string(text) + " " + algorithm_name(algorithm));
            NamedTensors first;
            for (const simt::QueueOrder order :
                 {simt::QueueOrder::kEnqueued, simt::QueueOrder::kSideLate,
                  simt::QueueOrder::kSideEarly, simt::QueueOrder::kRandom}) {
                simt::DeviceOptions options;
                options.order = order;
                const simt::InstalledDevice device(kDevice, options);
                RnnRun run(line, data, device.device(), algorithm);
                const NamedTensors results = run.training_and_backward();
                if (first.empty()) {
                    first = results;
                    expect_close(first, reference_all(data), 1e-12);
                }
                expect_same_bits(results, first);
            }
        }
    }
}

// Weights are packed before, or copied in the run, or read in place: the same numbers.
TEST(SimtRnnPass, SameBitsRunToRunAndWithPackedWeights) {
    const simt::InstalledDevice device(kDevice);
    const ShapeLine line = parse_shape_line("lstm T12 N4 I6 H10 L3 f32 dropout=0.2 seed9");
    ShapeLine packed_line = line;
    packed_line.packed = true;
    const RnnData data = make_rnn_data_with_dropout(line);
    RnnRun run(line, data, device.device());
    RnnRun packed(packed_line, data, device.device());
    const NamedTensors first = run.training_and_backward();
    expect_same_bits(run.training_and_backward(), first);
    expect_same_bits(packed.training_and_backward(), first);
}

TEST(SimtRnnPass, NoAllocationAndNoHostWaitInARun) {
    const simt::InstalledDevice installed(kDevice);
    for (const char* text : {"lstm T12 N4 I6 H10 L3 f32 lengths", "gru T5 N4 I6 H7 D2 L2 f32"}) {
        const ShapeLine line = parse_shape_line(text);
        const RnnData data = make_rnn_data_with_dropout(line);
        RnnRun run(line, data, installed.device());
        run.training_and_backward();
        simt::Device& device = *const_cast<simt::InstalledDevice&>(installed);
        device.reset_counts();
        forward_training(run.plan, run.forward_args);
        backward(run.plan, run.backward_args);
        forward_inference(run.plan, run.forward_args);
        EXPECT_EQ(device.counts().host_waits, 0) << text;
        EXPECT_EQ(device.counts().allocations, 0) << text;
        EXPECT_GT(device.counts().launches, 0) << text;
        synchronize(installed.device());
    }
}

TEST(SimtRnnPass, LineOfEnvironment) {
    const char* text = std::getenv("CAROUSEL_SHAPE");
    if (text == nullptr) GTEST_SKIP() << "set CAROUSEL_SHAPE to a shape line to run it alone";
    const simt::InstalledDevice device(kDevice);
    check_lines({parse_shape_line(text)});
}

TEST(SimtRnnPass, LengthOutOfRangeIsReportedNotFollowed) {
    const simt::InstalledDevice device(kDevice);
    const ShapeLine line = parse_shape_line("lstm T4 N3 I5 H6 lengths f32");
    RnnData data = make_rnn_data_with_dropout(line);
    RnnRun run(line, data, device.device());
    const std::vector<std::int64_t> lengths = {2, 9, -1};
    copy_to_device(const_cast<std::int64_t*>(run.forward_args.mask.lengths), lengths.data(),
                   lengths.size() * sizeof(std::int64_t), device.device());
    forward_training(run.plan, run.forward_args);
    try {
        synchronize(device.device());
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("length"), std::string::npos) << error.what();
    }
    EXPECT_NO_THROW(synchronize(device.device()));
}

}  // namespace
}  // namespace carousel::test
