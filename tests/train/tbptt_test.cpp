#include "carousel/tbptt.hpp"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "carousel/module.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/train/train_support.hpp"

namespace carousel::test {
namespace {

TEST(Tbptt, ReadsAndWritesItsFlag) {
    EXPECT_EQ(to_string(tbptt_parse("16,64")), "16,64");
    EXPECT_EQ(to_string(tbptt_parse("random:50")), "random:50");
    const TbpttOptions by_default = tbptt_resolve(TbpttOptions{}, 40);
    EXPECT_EQ(by_default.k1, 40);
    EXPECT_EQ(by_default.k2, 40);
    expect_error(ErrorCode::kInvalidArgument, "k1", [] { tbptt_parse("8,4"); });
    expect_error(ErrorCode::kInvalidArgument, "k1", [] { tbptt_parse("0,4"); });
    expect_error(ErrorCode::kInvalidArgument, "mean", [] { tbptt_parse("random:1"); });
    expect_error(ErrorCode::kInvalidArgument, "random", [] { tbptt_parse("17"); });
}

TEST(Tbptt, FixedWindowsGrowToK2AndStartWhereStateWasKept) {
    const TbpttOptions options = tbptt_parse("2,5");
    std::int64_t position = 0, kept = 0;
    for (const std::int64_t expected_begin : {0, 0, 1, 3, 5}) {
        const TbpttWindow window = tbptt_window(options, 0, position, 2);
        EXPECT_EQ(window.begin, expected_begin);
        EXPECT_EQ(window.begin, kept);
        EXPECT_EQ(window.loss_begin, position);
        EXPECT_EQ(window.end, position + 2);
        kept = window.next_begin;
        position += 2;
    }
}

TEST(Tbptt, SegmentLengthsAreGeometricWithTheGivenMean) {
    const TbpttOptions options = tbptt_resolve(tbptt_parse("random:24"), 64);
    ASSERT_EQ(options.chunk, 3);
    const double c = tbptt_cut_probability(options);
    EXPECT_DOUBLE_EQ(c, 0.125);
    constexpr int kDraws = 100000, kBins = 20;
    std::vector<double> counts(kBins + 1, 0.0);
    double sum = 0.0;
    for (std::uint64_t i = 0; i < kDraws; ++i) {
        const std::int64_t chunks = tbptt_segment_chunks(options, 42, i);
        ASSERT_GE(chunks, 1);
        ASSERT_EQ(chunks, tbptt_segment_chunks(options, 42, i));
        sum += static_cast<double>(chunks);
        counts[static_cast<std::size_t>(std::min<std::int64_t>(chunks, kBins + 1) - 1)] += 1.0;
    }
    // Mean 1/c with standard deviation sqrt(1-c)/c.
    EXPECT_NEAR(sum / kDraws, 8.0, 4.0 * std::sqrt(1.0 - c) / c / std::sqrt(kDraws));
    double chi2 = 0.0;
    for (int k = 0; k <= kBins; ++k) {
        const double p = k < kBins ? c * std::pow(1.0 - c, k) : std::pow(1.0 - c, kBins);
        chi2 += std::pow(counts[static_cast<std::size_t>(k)] - kDraws * p, 2) / (kDraws * p);
    }
    EXPECT_LT(chi2, 52.4);  // 20 degrees of freedom, p = 1e-4
}

/// h_t = w h_{t-1} + x_t with positive numbers, where ReLU is the identity; x_t = 1 + t/10.
class LinearRecurrence {
public:
    LinearRecurrence(double w, std::int64_t steps, std::int64_t chunk)
        : chunk_(chunk),
          params_(ModuleContext(DType::kF64, {}, std::make_shared<ThreadPool>(1))),
          rnn_(params_, "rnn", spec(), chunk, 1),
          x_(static_cast<std::size_t>(steps)),
          y_(x_.size()),
          states_(x_.size() + 1, 0.0) {
        params_.allocate();
        static_cast<double*>(params_.value(0).data)[0] = 1.0;
        static_cast<double*>(params_.value(1).data)[0] = w;
        for (std::size_t t = 0; t < x_.size(); ++t) x_[t] = 1.0 + 0.1 * static_cast<double>(t);
        for (std::size_t i = 0; i < num_chunks(); ++i) {
            RnnForwardArgs args;
            args.seq_len = chunk_;
            args.batch_size = 1;
            args.x = view(&x_[first(i)], chunk_);
            args.y = view(&y_[first(i)], chunk_);
            args.hx = view(&states_[i], 1);
            args.hy = view(&states_[i + 1], 1);
            rnn_.forward_training(args, i);
        }
    }

    /// d loss / d w of loss = sum of dy_t h_t, chunk by chunk; the gradient of the state is scaled
    /// where it crosses from one chunk to the one before, 0 = cut.
    double gradient(std::vector<double> dy, const std::vector<double>& boundary_scale) {
        double carried = 0.0, dhx = 0.0;
        for (std::size_t i = num_chunks(); i-- > 0;) {
            RnnBackwardArgs args;
            args.seq_len = chunk_;
            args.batch_size = 1;
            args.x = view(&x_[first(i)], chunk_);
            args.y = view(&y_[first(i)], chunk_);
            args.hx = view(&states_[i], 1);
            args.dy = view(&dy[first(i)], chunk_);
            args.dhy = view(&carried, 1);
            args.dhx = view(&dhx, 1);
            args.accumulate = i + 1 < num_chunks();
            rnn_.backward(args, i);
            carried = i > 0 ? dhx * boundary_scale[i - 1] : 0.0;
        }
        return *static_cast<const double*>(params_.grad(1).data);
    }
    /// h_t; h(-1) = 0.
    double hidden(std::int64_t t) const { return t < 0 ? 0.0 : y_[static_cast<std::size_t>(t)]; }
    std::size_t num_chunks() const { return x_.size() / static_cast<std::size_t>(chunk_); }

private:
    static RnnSpec spec() {
        RnnSpec spec;
        spec.cell = Cell::kRnnRelu;
        spec.input_size = 1;
        spec.hidden_size = 1;
        spec.bias = BiasMode::kNone;
        return spec;
    }
    static TensorView view(double* data, std::int64_t steps) {
        return TensorView(data, DType::kF64, {steps, 1, 1});
    }
    std::size_t first(std::size_t chunk) const { return chunk * static_cast<std::size_t>(chunk_); }

    std::int64_t chunk_;
    ParameterSet params_;
    Rnn rnn_;
    std::vector<double> x_, y_, states_;
};

TEST(Tbptt, TruncationGivesThePartialGeometricSum) {
    constexpr std::int64_t kSteps = 24;
    std::vector<double> dy(kSteps, 0.0);
    dy.back() = 1.0;  // loss = h_T
    for (const double w : {0.5, 0.9, 1.1}) {
        for (const std::int64_t k : {1, 2, 3, 4, 6, 8, 12, 24}) {
            LinearRecurrence recurrence(w, kSteps, k);
            const double gradient = recurrence.gradient(
                dy, std::vector<double>(static_cast<std::size_t>(kSteps / k), 0.0));
            // dh_T/dw over the last k steps = sum_{i<k} w^i h_{T-1-i}
            double expected = 0.0;
            for (std::int64_t i = 0; i < k; ++i) {
                expected += std::pow(w, static_cast<double>(i)) * recurrence.hidden(kSteps - 2 - i);
            }
            EXPECT_NEAR(gradient, expected, 1e-12 * std::abs(expected) + 1e-14)
                << "w " << w << " k " << k;
            // Nothing cut: full backpropagation, whatever the chunks.
            const double whole = recurrence.gradient(
                dy, std::vector<double>(static_cast<std::size_t>(kSteps / k), 1.0));
            double full = 0.0;
            for (std::int64_t i = 0; i < kSteps; ++i) {
                full += std::pow(w, static_cast<double>(i)) * recurrence.hidden(kSteps - 2 - i);
            }
            EXPECT_NEAR(whole, full, 1e-12 * full);
        }
    }
}

TEST(Tbptt, RandomTruncationIsUnbiased) {
    // Losses at all steps; cuts drawn as training draws them: segment after segment.
    constexpr std::int64_t kSteps = 60;
    TbpttOptions options = tbptt_parse("random:8");
    options.chunk = 2;
    const double scale = tbptt_boundary_scale(options);
    LinearRecurrence recurrence(0.9, kSteps, options.chunk);
    const std::vector<double> dy(kSteps, 1.0);
    const std::size_t boundaries = kSteps / 2 - 1;
    const double full = recurrence.gradient(dy, std::vector<double>(boundaries, 1.0));
    double sum = 0.0, squares = 0.0, naive = 0.0;
    constexpr int kRuns = 4000;
    std::uint64_t segment = 0;
    for (int run = 0; run < kRuns; ++run) {
        std::vector<double> kept(boundaries, scale), plain(boundaries, 1.0);
        for (std::int64_t end = 0;;) {
            end += tbptt_segment_chunks(options, 9, segment++);
            if (end > static_cast<std::int64_t>(boundaries)) break;
            kept[static_cast<std::size_t>(end - 1)] = plain[static_cast<std::size_t>(end - 1)] =
                0.0;
        }
        const double gradient = recurrence.gradient(dy, kept);
        sum += gradient;
        squares += gradient * gradient;
        if (run < 200) naive += recurrence.gradient(dy, plain) / 200.0;
    }
    const double mean = sum / kRuns;
    const double sigma = std::sqrt((squares / kRuns - mean * mean) / kRuns);
    EXPECT_NEAR(mean, full, 3.0 * sigma);
    EXPECT_LT(sigma, 0.03 * full);
    // The factor matters: without it the mean is far away.
    EXPECT_LT(naive, full - 20.0 * sigma);
}

/// Gradients of a language model over windows of chunks.
struct LmWindow {
    explicit LmWindow(const train::LmConfig& config, std::int64_t max_steps)
        : model(config, max_steps, config.batch_size, nullptr) {
        model.initialize();
    }
    std::vector<double> gradients(const std::vector<train::LmModel::Chunk>& chunks,
                                  train::LmState& state, double boundary_scale = 1.0) {
        train::LmModel::WindowOptions options;
        options.boundary_scale = boundary_scale;
        options.loss_scale = 0.05;
        options.keep_after = chunks.size();
        loss = model.train_window(chunks, options, state).loss_sum;
        return flat_grads<double>(model);
    }
    train::LmModel model;
    double loss = 0.0;
};

void expect_all_near(const std::vector<double>& actual, const std::vector<double>& expected,
                     double limit) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], limit) << i;
}

TEST(Tbptt, ExpectationOverAllCutsIsTheFullGradient) {
    // Four chunks of two steps: eight patterns of cuts, each weighted with its probability. This is
    // exact, where drawing patterns could only be statistical.
    train::LmConfig config = small_lm(Cell::kLstm);
    const auto tokens = some_tokens(8 * 3 + 3, 7);
    const double c = 0.3;
    LmWindow window(config, 2);
    const auto chunk = [&](std::size_t i) {
        return train::LmModel::Chunk{tokens.data() + i * 6, tokens.data() + i * 6 + 3, 2};
    };
    train::LmState state(config, 3);
    const auto full = window.gradients({chunk(0), chunk(1), chunk(2), chunk(3)}, state);
    std::vector<double> mean(full.size(), 0.0);
    for (unsigned cuts = 0; cuts < 8; ++cuts) {
        double probability = 1.0;
        for (unsigned b = 0; b < 3; ++b) probability *= (cuts >> b & 1u) != 0 ? c : 1.0 - c;
        train::LmState carried(config, 3);
        std::vector<train::LmModel::Chunk> segment;
        for (unsigned i = 0; i < 4; ++i) {
            segment.push_back(chunk(i));
            if (i < 3 && (cuts >> i & 1u) == 0) continue;
            const auto part = window.gradients(segment, carried, 1.0 / (1.0 - c));
            for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += probability * part[j];
            segment.clear();
        }
    }
    expect_all_near(mean, full, 1e-14);
}

TEST(Tbptt, ChunksOfAWindowGiveTheGradientOfTheWhole) {
    for (const Cell cell : {Cell::kLstm, Cell::kGru, Cell::kRnnTanh}) {
        const train::LmConfig config = small_lm(cell);
        const auto tokens = some_tokens(6 * 3 + 3, 7);
        const auto chunk = [&](std::int64_t first, std::int64_t steps) {
            return train::LmModel::Chunk{tokens.data() + first * 3, tokens.data() + first * 3 + 3,
                                         steps};
        };
        LmWindow window(config, 6);
        train::LmState a(config, 3), b(config, 3);
        const auto whole = window.gradients({chunk(0, 6)}, a);
        const double loss = window.loss;
        const auto parts = window.gradients({chunk(0, 1), chunk(1, 3), chunk(4, 2)}, b);
        EXPECT_NEAR(window.loss, loss, 1e-12);
        expect_all_near(parts, whole, 1e-14);
    }
}

TEST(Tbptt, TrainerRunsHistoryFromTheRightStateThroughSeveralEpochs) {
    // With a rate too small to change any weight, each update must have the gradient of: state by
    // running from the start of the stream, history without losses, then the new steps.
    for (const char* flag : {"2,5", "3,4", "2,2", "1,7", "4,9"}) {
        SCOPED_TRACE(flag);
        train::LmConfig config = small_lm(Cell::kLstm);
        config.tbptt = tbptt_parse(flag);
        config.optimizer.kind = OptimizerKind::kSgd;
        config.lr = 1e-30;
        const auto tokens = some_tokens(3 * 13 + 1, 7);
        train::LmTrainer trainer(config);
        data::SequentialBatcher batcher(tokens.data(), static_cast<std::int64_t>(tokens.size()), 3,
                                        6);
        LmWindow reference(config, 16);
        std::int64_t position = 0;
        for (int update = 0; update < 17; ++update) {
            const auto result = trainer.step(batcher);
            const TbpttWindow window = tbptt_window(config.tbptt, 0, position, result.steps);
            std::vector<std::int32_t> in(13 * 3), out(13 * 3);
            batcher.read(0, 13, in.data(), out.data());
            train::LmState state(config, 3);
            if (window.begin > 0) {
                reference.model.evaluate({in.data(), out.data(), window.begin}, 3, state);
            }
            std::vector<train::LmModel::Chunk> chunks;
            if (window.loss_begin > window.begin) {
                chunks.push_back(
                    {in.data() + window.begin * 3, nullptr, window.loss_begin - window.begin});
            }
            chunks.push_back({in.data() + position * 3, out.data() + position * 3, result.steps});
            auto expected = reference.gradients(chunks, state);
            for (double& g : expected) g /= 0.05 * static_cast<double>(result.tokens);
            EXPECT_NEAR(result.loss_sum, reference.loss, 1e-12);
            expect_all_near(flat_grads<double>(trainer.model()), expected, 1e-13);
            position = window.end == 13 ? 0 : window.end;
        }
    }
}

TEST(Tbptt, RandomSegmentsCoverTheStreamOnceAndStopAtItsEnd) {
    train::LmConfig config = small_lm(Cell::kGru);
    config.tbptt = tbptt_parse("random:8");
    const auto tokens = some_tokens(3 * 101 + 1, 7);
    train::LmTrainer trainer(config);
    data::SequentialBatcher batcher(tokens.data(), static_cast<std::int64_t>(tokens.size()), 3, 6);
    std::int64_t steps = 0;
    while (batcher.cursor().epoch == 0) steps += trainer.step(batcher).steps;
    EXPECT_EQ(steps, 101);
    EXPECT_EQ(batcher.cursor().position, 0);
}

TEST(Tbptt, RandomBatchesCannotLookBeyondAWindow) {
    train::LmConfig config = small_lm(Cell::kGru);
    const auto tokens = some_tokens(400, 7);
    data::RandomBatcher batcher(tokens.data(), 400, 3, 6, 1);
    for (const char* flag : {"random:8", "2,5"}) {
        config.tbptt = tbptt_parse(flag);
        train::LmTrainer trainer(config);
        expect_error(ErrorCode::kInvalidArgument, "sequential", [&] { trainer.step(batcher); });
    }
}

}  // namespace
}  // namespace carousel::test
