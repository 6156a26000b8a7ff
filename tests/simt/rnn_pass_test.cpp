#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "simt/simt_device.hpp"
#include "tests/support/device_pass.hpp"
#include "tests/support/expect_error.hpp"

// Whole passes of the CUDA backend against the independent reference: the executor that drives a card,
// its plans and the kernels' sources, over a device that runs them on the CPU.

namespace carousel::test {
namespace {

constexpr int kDevice = 61;

class SimtRnnPass : public testing::TestWithParam<Cell> {};

TEST_P(SimtRnnPass, EveryOptionMatchesTheOracle) {
    const simt::InstalledDevice device(kDevice);
    check_device_lines(option_lines(GetParam()), device.device());
}

TEST_P(SimtRnnPass, EveryDtypeMatchesTheOracle) {
    const simt::InstalledDevice device(kDevice);
    check_device_lines(dtype_lines(GetParam()), device.device());
}

// Sizes that tiles, vectors and blocks do not divide, under three orders of threads and of queues.
TEST_P(SimtRnnPass, OddSizesUnderThreeSchedules) {
    const std::vector<simt::Options> orders = simt::schedules(3);
    const simt::QueueOrder queues[] = {simt::QueueOrder::kSideEarly, simt::QueueOrder::kSideLate,
                                       simt::QueueOrder::kRandom};
    std::vector<ShapeLine> lines;
    for (const int H : {1, 5, 33, 64, 100}) {
        for (const int N : {1, 3, 17}) {
            for (const int T : {1, 2, 7}) {
                const std::size_t number = lines.size() + 1;
                const std::string sizes = " T" + std::to_string(T) + " N" + std::to_string(N) +
                                          " I" + std::to_string(H % 7 + 1) + " H" +
                                          std::to_string(H) + " seed" + std::to_string(number);
                const char* rest = number % 2 == 0 ? " L2 lengths f32" : " D2 reset f64";
                lines.push_back(parse_shape_line(cell_name(GetParam()) + sizes + rest));
            }
        }
    }
    for (std::size_t order = 0; order < orders.size(); ++order) {
        simt::DeviceOptions options;
        options.simt = orders[order];
        options.order = queues[order];
        const simt::InstalledDevice device(kDevice, options);
        check_device_lines(lines, device.device());
    }
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

// What a reserve is, only the device knows: it says so at the next wait.
TEST(SimtRnnPass, BackwardReportsAReserveThatNoFittingPassFilled) {
    for (const char* text : {"lstm T6 N4 I3 H5 L3 f32", "gru T4 N3 I3 H4 L2 D2 f64 dropout=0.2",
                             "lstm T3 N3 I5 H6 P4 bf16", "rnn_tanh T1 N1 I1 H1 f32"}) {
        const ShapeLine line = parse_shape_line(text);
        const RnnData data = make_rnn_data_with_dropout(line);
        for (const Algorithm algorithm : device_algorithms(line.spec)) {
            SCOPED_TRACE(std::string(text) + " " + algorithm_name(algorithm));
            const simt::InstalledDevice device(kDevice);
            RnnRun run(line, data, device.device(), algorithm);
            // What a run reads back it waits for, and is told.
            const auto expect_report = [&] {
                expect_error(ErrorCode::kInvalidArgument, "reserve", [&] { run.backward(); });
                EXPECT_NO_THROW(synchronize(device.device())) << "said once";
            };
            run.poison_scratch();  // nothing was saved
            expect_report();
            EXPECT_NO_THROW(run.training_and_backward());
            EXPECT_NO_THROW(run.backward()) << "a second one of the same pass";
            run.inference();  // leaves the reserve alone
            EXPECT_NO_THROW(run.backward());
            // A shorter sequence went through the same plan into it.
            ShapeLine shorter_line = line;
            if (--shorter_line.seq_len > 0) {
                RnnRun shorter(shorter_line, make_rnn_data_with_dropout(shorter_line),
                               device.device(), algorithm);
                shorter.replan(run.options);
                shorter.forward_args.reserve = run.device_reserve.data();
                forward_training(shorter.plan, shorter.forward_args);
                expect_report();
            }
            // A plan for longer sequences lays its reserve out in another way.
            const RnnPlanOptions fitting = run.options;
            RnnPlanOptions longer = fitting;
            longer.seq_len += 1;
            run.replan(longer);
            EXPECT_NO_THROW(run.training_and_backward());
            run.plan = RnnPlan::create(line.spec, fitting);
            expect_report();
        }
    }
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
    check_device_lines({parse_shape_line(text)}, device.device());
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
