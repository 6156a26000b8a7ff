#include <gtest/gtest.h>

#include <thread>

#include "tests/support/compare.hpp"

// Threads: the same bits on every repeat, right results for every team size, different plans at
// the same time.

namespace carousel::test {
namespace {

const char* const kCells[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};

TEST(RnnThreads, RepeatsAreBitwiseEqual) {
    for (const char* cell : kCells) {
        for (int threads = 1; threads <= 4; ++threads) {
            const ShapeLine line = parse_shape_line(
                std::string(cell) + " L2 D2 T6 N9 I20 H37 lengths reset dropout=0.3 f32 threads=" +
                std::to_string(threads));
            SCOPED_TRACE(line.text);
            const RnnData data = make_rnn_data(line);
            RnnRun run(line, data);
            const NamedTensors first = run.training_and_backward();
            for (int repeat = 0; repeat < 5; ++repeat) {
                expect_same_bits(run.training_and_backward(), first);
            }
            RnnRun another(line, data);  // other addresses, another pool
            expect_same_bits(another.training_and_backward(), first);
        }
    }
}

TEST(RnnThreads, EveryTeamSizeMatchesTheReference) {
    for (const char* cell : kCells) {
        ShapeLine line =
            parse_shape_line(std::string(cell) + " L2 D2 T5 N7 I13 H29 lengths reset f64");
        const RnnData data = make_rnn_data(line);
        const NamedTensors expected = reference_all(data);
        for (line.threads = 1; line.threads <= 4; ++line.threads) {
            SCOPED_TRACE(line.text + " threads=" + std::to_string(line.threads));
            RnnRun run(line, data);
            EXPECT_EQ(run.plan.options().num_threads, line.threads);
            expect_close(run.training_and_backward(), expected, tolerance(DType::kF64, 5));
        }
    }
}

TEST(RnnThreads, ThreadCountIsResolved) {
    const ShapeLine line = parse_shape_line("lstm T4 N3 I5 H8 threads=0 f32");
    RnnRun run(line, make_rnn_data(line));
    EXPECT_GE(run.plan.options().num_threads, 1);
    EXPECT_EQ(run.plan.options().algorithm, Algorithm::kStepwise);
}

TEST(RnnThreads, PlansMayShareAPool) {
    const auto pool = std::make_shared<ThreadPool>(3);
    for (const char* text : {"lstm L2 T5 N6 I7 H21 f32", "gru D2 T4 N3 I9 H33 f32"}) {
        ShapeLine line = parse_shape_line(text);
        const RnnData data = make_rnn_data(line);
        line.threads = 3;
        RnnRun own(line, data);
        RnnRun sharing(line, data);
        RnnPlanOptions options = own.options;
        options.num_threads = 1;  // ignored beside a pool
        options.pool = pool;
        sharing.replan(options);
        EXPECT_EQ(sharing.plan.options().num_threads, 3);
        expect_same_bits(sharing.training_and_backward(), own.training_and_backward());
    }
}

/// Two plans with one pool, each used by its own thread: they take turns on the pool.
TEST(RnnThreads, PlansOfOnePoolRunConcurrently) {
    const auto pool = std::make_shared<ThreadPool>(2);
    const ShapeLine line = parse_shape_line("gru L2 T6 N5 I8 H24 lengths f32 threads=2");
    const RnnData data = make_rnn_data(line);
    const NamedTensors expected = RnnRun(line, data).training_and_backward();
    const auto work = [&] {
        RnnRun run(line, data);
        RnnPlanOptions options = run.options;
        options.pool = pool;
        run.replan(options);
        for (int repeat = 0; repeat < 20; ++repeat) {
            expect_same_bits(run.training_and_backward(), expected);
        }
    };
    std::thread other(work);
    work();
    other.join();
}

/// Four threads, each with plans of its own and its own pool, against results made alone.
TEST(RnnThreads, DifferentPlansRunConcurrently) {
    const char* const texts[] = {"lstm L2 D2 T6 N5 I8 H24 lengths f32 threads=2",
                                 "gru L2 T9 N3 I8 H40 reset dropout=0.4 f32 threads=3",
                                 "rnn_tanh D2 T5 N8 I6 H17 f64 threads=1",
                                 "gru_reset_before T7 N4 I5 H30 lengths reset f64 threads=2"};
    std::vector<NamedTensors> expected;
    for (const char* text : texts) {
        const ShapeLine line = parse_shape_line(text);
        expected.push_back(RnnRun(line, make_rnn_data(line)).training_and_backward());
    }
    std::vector<std::thread> team;
    for (std::size_t member = 0; member < 4; ++member) {
        team.emplace_back([&, member] {
            const ShapeLine line = parse_shape_line(texts[member]);
            const RnnData data = make_rnn_data(line);
            for (int repeat = 0; repeat < 10; ++repeat) {
                RnnRun run(line, data);
                expect_same_bits(run.training_and_backward(), expected[member]);
            }
        });
    }
    for (std::thread& member : team) member.join();
}

}  // namespace
}  // namespace carousel::test
