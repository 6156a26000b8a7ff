#include <gtest/gtest.h>

#include "tests/support/compare.hpp"

// Where tensors lie must not change what is computed: strides, aliases, plans larger than the run,
// packed weights.

namespace carousel::test {
namespace {

const char* const kCells[] = {"rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"};

ShapeLine cell_line(const std::string& cell, const std::string& rest) {
    return parse_shape_line(cell + " " + rest);
}

NamedTensors run_line(const ShapeLine& line, const RnnData& data) {
    return RnnRun(line, data).training_and_backward();
}

TEST(RnnMemory, BatchFirstMatchesTimeMajor) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        ShapeLine line = cell_line(cell, "L2 D2 T7 N5 I6 H9 lengths reset f32");
        const RnnData data = make_rnn_data(line);
        const NamedTensors time_major = run_line(line, data);
        line.batch_first = true;
        expect_same_bits(run_line(line, data), time_major);
    }
}

/// x, y, dy and dx as parts of wider memory: only the last dimension must be dense.
TEST(RnnMemory, StridedSequences) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 T5 N3 I4 H6 f32");
        const RnnData data = make_rnn_data(line);
        const NamedTensors dense = run_line(line, data);
        RnnRun run(line, data);
        std::vector<std::vector<float>> memory;
        const auto widen = [&](const HostTensor& tensor) {
            const std::int64_t T = 5, N = 3, F = tensor.numel() / (T * N);
            memory.emplace_back(static_cast<std::size_t>(T * (N + 2) * (F + 3)), -7.0F);
            TensorView view(memory.back().data(), DType::kF32, {T, N, F});
            view.strides = {(N + 2) * (F + 3), F + 3, 1, 0};
            for (std::int64_t e = 0; e < tensor.numel(); ++e) {
                const std::int64_t at = e / F / N * view.strides[0] + e / F % N * view.strides[1];
                memory.back()[static_cast<std::size_t>(at + e % F)] =
                    static_cast<float>(tensor.element(e));
            }
            return view;
        };
        // Values of a wide view; what lies between its rows must be untouched.
        const auto narrow = [&](const TensorView& view) {
            const float* first = static_cast<const float*>(view.data);
            const std::int64_t F = view.shape[2];
            std::vector<double> values;
            for (std::int64_t at = 0; at < 5 * view.strides[0]; ++at) {
                const std::int64_t n = at % view.strides[0] / view.strides[1];
                const bool mine = n < 3 && at % view.strides[1] < F;
                if (mine) values.push_back(static_cast<double>(first[at]));
                EXPECT_TRUE(mine || first[at] == -7.0F) << "written between rows";
            }
            return values;
        };
        memory.reserve(4);
        run.forward_args.x = run.backward_args.x = widen(run.x);
        const TensorView y = widen(run.y);
        run.forward_args.y = y;
        run.backward_args.y = y;
        run.backward_args.dy = widen(run.dy);
        const TensorView dx = widen(run.dx);
        run.backward_args.dx = dx;
        // Products over rows at other strides may sum in another order.
        const double limit = tolerance(DType::kF32, 5);
        run.training();
        EXPECT_LE(relative_error(narrow(y), dense.at("y")), limit);
        run.backward();
        NamedTensors gradients = run.backward_results();
        gradients["dx"] = narrow(dx);
        NamedTensors expected = dense;
        for (const char* name : {"y", "hy", "cy", "layer_outputs", "cell_states", "gates"}) {
            expected.erase(name);
        }
        expect_close(gradients, expected, limit);
    }
}

TEST(RnnMemory, FinalStatesMayOverwriteInitialOnes) {
    for (const char* cell : kCells) {
        for (const char* words : {"L2 D2 T5 N4 I3 H6 f32", "L2 T5 N4 I3 H6 lengths reset f32"}) {
            SCOPED_TRACE(std::string(cell) + " " + words);
            const ShapeLine line = cell_line(cell, words);
            const RnnData data = make_rnn_data(line);
            RnnRun apart(line, data);
            apart.inference();
            RnnRun aliased(line, data);
            aliased.forward_args.hy = aliased.hx.view();
            aliased.forward_args.cy = aliased.cx.view();
            aliased.inference();
            EXPECT_EQ(aliased.hx.bytes(), apart.hy.bytes());
            EXPECT_EQ(aliased.cx.bytes(), apart.cy.bytes());
            EXPECT_EQ(aliased.y.bytes(), apart.y.bytes());
        }
    }
}

TEST(RnnMemory, RunsBelowThePlannedSizes) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        ShapeLine line = cell_line(cell, "L2 D2 T4 N3 I5 H7 lengths reset f64");
        const RnnData data = make_rnn_data(line);
        const NamedTensors reference = reference_all(data);
        line.planned_seq_len = 33;
        line.planned_batch_size = 21;
        expect_close(run_line(line, data), reference, tolerance(DType::kF64, 4));
    }
}

/// One plan, many sizes: a large run leaves nothing behind that a small one could read.
TEST(RnnMemory, OnePlanServesManySizes) {
    const char* const sizes[] = {"T9 N8", "T2 N3", "T9 N1", "T1 N8", "T5 N5", "T9 N8"};
    const RnnPlanOptions planned = [] {
        RnnPlanOptions options;
        options.seq_len = 9;
        options.batch_size = 8;
        options.num_threads = 2;
        return options;
    }();
    const ShapeLine first = parse_shape_line("gru L2 D2 I4 H6 T9 N8 threads=2 f64");
    RnnPlan plan = RnnPlan::create(first.spec, planned);
    for (const char* size : sizes) {
        SCOPED_TRACE(size);
        const ShapeLine line = cell_line("gru", std::string("L2 D2 I4 H6 f64 ") + size);
        const RnnData data = make_rnn_data(line);
        RnnRun run(line, data);
        run.workspace = AlignedBytes(plan.workspace_bytes());
        run.reserve = AlignedBytes(plan.reserve_bytes());
        run.forward_args.workspace = run.backward_args.workspace = run.workspace.data();
        run.forward_args.reserve = run.reserve.data();
        run.backward_args.reserve = run.reserve.data();
        run.forward_args.workspace_bytes = run.backward_args.workspace_bytes = run.workspace.size();
        run.forward_args.reserve_bytes = run.backward_args.reserve_bytes = run.reserve.size();
        forward_training(plan, run.forward_args);
        NamedTensors results = run.forward_results();
        carousel::backward(plan, run.backward_args);
        results.merge(run.backward_results());
        expect_close(results, reference_all(data), tolerance(DType::kF64, 9));
    }
}

TEST(RnnMemory, PackedWeightsMatchPlainOnes) {
    for (const char* cell : kCells) {
        for (const char* words : {"L2 D2 T5 N4 I6 H19 lengths f32",
                                  "L2 T3 N1 I40 H70 threads=2 f32", "L2 T3 N33 I40 H70 f64"}) {
            SCOPED_TRACE(std::string(cell) + " " + words);
            ShapeLine line = cell_line(cell, words);
            const RnnData data = make_rnn_data(line);
            const NamedTensors plain = run_line(line, data);
            line.packed = true;
            expect_same_bits(run_line(line, data), plain);
        }
    }
}

TEST(RnnMemory, PackedWeightsServePlansOfOtherSizesAndModes) {
    const ShapeLine line = parse_shape_line("lstm L2 T6 N5 I7 H11 packed f32");
    RnnRun first(line, make_rnn_data(line));
    ShapeLine other = parse_shape_line("lstm L2 T3 N2 I7 H11 dropout=0.5 f32");
    const RnnData data = make_rnn_data(other);
    RnnRun plain(other, data);
    RnnRun shared(other, data);
    for (std::size_t s = 0; s < shared.weights.size(); ++s) {  // the same weights in both
        plain.weights[s].w_ih.set(first.weights[s].w_ih.get());
        plain.weights[s].w_hh.set(first.weights[s].w_hh.get());
        plain.weights[s].b_ih.set(first.weights[s].b_ih.get());
        plain.weights[s].b_hh.set(first.weights[s].b_hh.get());
    }
    shared.forward_args.params = shared.backward_args.params = nullptr;
    shared.forward_args.packed = shared.backward_args.packed = first.packed.get();
    expect_same_bits(shared.training_and_backward(), plain.training_and_backward());
}

TEST(RnnMemory, PackedWeightsDoNotFollowLaterChanges) {
    const ShapeLine line = parse_shape_line("gru T4 N3 I5 H8 packed f32");
    RnnRun run(line, make_rnn_data(line));
    run.inference();
    const std::vector<std::byte> before = run.y.bytes();
    run.weights[0].w_hh.fill(0.0);
    run.weights[0].b_ih.fill(5.0);
    run.inference();
    EXPECT_EQ(run.y.bytes(), before);
    EXPECT_GT(run.packed->bytes(), 0U);
}

TEST(RnnMemory, OptionalOutputsDoNotChangeTheOthers) {
    for (const char* cell : kCells) {
        SCOPED_TRACE(cell);
        const ShapeLine line = cell_line(cell, "L2 D2 T5 N4 I6 H9 lengths f32");
        const RnnData data = make_rnn_data(line);
        RnnRun all(line, data);
        all.inference();
        RnnRun bare(line, data);
        bare.forward_args.hy = bare.forward_args.cy = TensorView();
        bare.forward_args.layer_outputs = bare.forward_args.cell_states = TensorView();
        bare.forward_args.gates = TensorView();
        bare.inference();
        EXPECT_EQ(bare.y.bytes(), all.y.bytes());
    }
}

}  // namespace
}  // namespace carousel::test
