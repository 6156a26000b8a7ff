#include "carousel/optimizer.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/support/rnn_data.hpp"
#include "tests/train/golden_optimizers.hpp"

namespace carousel::test {
namespace {

ModuleContext context_of(DType dtype, int threads = 2) {
    return ModuleContext(dtype, {}, std::make_shared<ThreadPool>(threads));
}

struct Golden {
    OptimizerOptions options;
    double lr;
    const double (&expected)[6];
};

OptimizerOptions options_of(OptimizerKind kind, double momentum = 0.0, double decay = 0.0) {
    OptimizerOptions options;
    options.kind = kind;
    options.momentum = momentum;
    options.weight_decay = decay;
    return options;
}

std::vector<Golden> golden_cases() {
    OptimizerOptions rmsprop = options_of(OptimizerKind::kRmsprop);
    rmsprop.alpha = 0.95;
    OptimizerOptions rmsprop_momentum = options_of(OptimizerKind::kRmsprop, 0.5);
    rmsprop_momentum.alpha = 0.9;
    OptimizerOptions adam_decay = options_of(OptimizerKind::kAdam, 0.0, 0.1);
    adam_decay.beta1 = 0.8;
    adam_decay.beta2 = 0.95;
    return {{options_of(OptimizerKind::kSgd), 0.1, kGoldenSgd},
            {options_of(OptimizerKind::kSgd, 0.9, 0.01), 0.1, kGoldenSgdMomentumDecay},
            {rmsprop, 0.01, kGoldenRmsprop},
            {rmsprop_momentum, 0.01, kGoldenRmspropMomentum},
            {options_of(OptimizerKind::kAdam), 0.01, kGoldenAdam},
            {adam_decay, 0.01, kGoldenAdamDecay},
            {options_of(OptimizerKind::kAdamW, 0.0, 0.1), 0.01, kGoldenAdamw}};
}

/// A set of one tensor, tiled from the golden numbers so that whole vectors, tails and several
/// threads take part.
template <class T>
void check_golden(const Golden& golden, double limit) {
    const std::int64_t n = 6 * 6001 + 3;
    ParameterSet params(context_of(sizeof(T) == 4 ? DType::kF32 : DType::kF64));
    params.add("p", {n});
    params.allocate();
    GradClip clip(params, 0.0);
    Optimizer optimizer(params, clip, golden.options);
    T* value = static_cast<T*>(params.value(0).data);
    T* grad = static_cast<T*>(params.grad(0).data);
    for (std::int64_t i = 0; i < n; ++i) value[i] = static_cast<T>(kGoldenStart[i % 6]);
    for (const auto& step : kGoldenGrads) {
        for (std::int64_t i = 0; i < n; ++i) grad[i] = static_cast<T>(step[i % 6]);
        clip.measure();
        optimizer.step(golden.lr);
    }
    EXPECT_EQ(optimizer.applied_steps(), 5);
    for (std::int64_t i = 0; i < n; ++i) {
        ASSERT_NEAR(static_cast<double>(value[i]), golden.expected[i % 6], limit) << i;
    }
}

TEST(Optimizer, MatchesTorch) {
    for (const Golden& golden : golden_cases()) {
        SCOPED_TRACE(optimizer_name(golden.options.kind));
        check_golden<double>(golden, 1e-13);
        check_golden<float>(golden, 2e-6);
    }
}

TEST(Optimizer, SkipsANonFiniteGradientAndDoesNotCountIt) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        ParameterSet params(context_of(DType::kF64));
        params.add("p", {5});
        params.allocate();
        GradClip clip(params, 1.0);
        Optimizer optimizer(params, clip, options_of(OptimizerKind::kAdam));
        double* value = static_cast<double*>(params.value(0).data);
        double* grad = static_cast<double*>(params.grad(0).data);
        for (int i = 0; i < 5; ++i) value[i] = grad[i] = 0.5 + i;
        clip.measure();
        optimizer.step(0.1);
        const std::vector<double> before(value, value + 5);
        const auto state = optimizer.state();
        const double moment = *static_cast<const double*>(state[0].view.data);
        grad[3] = bad;
        clip.measure();
        EXPECT_TRUE(clip.read().skipped);
        optimizer.step(0.1);
        EXPECT_EQ(std::vector<double>(value, value + 5), before);
        EXPECT_EQ(*static_cast<const double*>(state[0].view.data), moment);
        EXPECT_EQ(optimizer.applied_steps(), 1);
        grad[3] = 1.0;
        clip.measure();
        EXPECT_FALSE(clip.read().skipped);
        optimizer.step(0.1);
        EXPECT_EQ(optimizer.applied_steps(), 2);
        EXPECT_NE(std::vector<double>(value, value + 5), before);
    }
}

/// An embedding and a dense tensor; the gradient of the embedding by backward of some rows.
struct SparseSet {
    explicit SparseSet(int threads)
        : params(context_of(DType::kF32, threads)), table(params, "e", 40, 12) {
        dense = params.add("dense", {5000});
        params.allocate();
        const auto values = random_values(1, params.numel(), 1.0);
        float* flat = static_cast<float*>(params.flat_values());
        for (std::size_t i = 0; i < values.size(); ++i) flat[i] = static_cast<float>(values[i]);
    }
    void fill_grads(std::uint64_t seed) {
        const auto dy = random_values(seed, 7 * 12, 1.0), rest = random_values(seed + 1, 5000, 1.0);
        const std::vector<float> rows(dy.begin(), dy.end());
        std::vector<std::int32_t> ids;
        for (std::int32_t i = 0; i < 7; ++i)
            ids.push_back(static_cast<std::int32_t>(seed % 5) + 5 * (i % 6));
        table.backward(ids.data(), 7, rows.data());
        float* grad = static_cast<float*>(params.grad(dense).data);
        for (std::size_t i = 0; i < rest.size(); ++i) grad[i] = static_cast<float>(rest[i]);
    }
    double norm_by_definition() const {
        const float* grad = static_cast<const float*>(params.flat_grads());
        double sum = 0.0;
        for (std::int64_t i = 0; i < params.numel(); ++i) {
            sum += static_cast<double>(grad[i]) * static_cast<double>(grad[i]);
        }
        return std::sqrt(sum);
    }
    ParameterSet params;
    Embedding table;
    std::size_t dense = 0;
};

TEST(GradClip, NormCountsEveryElementOnceWithTouchedRowsOnly) {
    for (const int threads : {1, 2, 3}) {
        SparseSet set(threads);
        GradClip clip(set.params, 2.0);
        for (const std::uint64_t seed : {10u, 23u, 31u}) {
            set.fill_grads(seed);
            clip.measure();
            const double norm = set.norm_by_definition();
            EXPECT_NEAR(clip.read().norm, norm, 1e-5 * norm);
            EXPECT_DOUBLE_EQ(clip.read().scale, std::min(1.0, 2.0 / (clip.read().norm + 1e-6)));
        }
    }
}

TEST(GradClip, ScalesAllByTheSameFactorAndLeavesSmallOnesAlone) {
    SparseSet set(2);
    set.fill_grads(10);
    const float* grad = static_cast<const float*>(set.params.flat_grads());
    const std::vector<float> before(grad, grad + set.params.numel());
    const double norm = set.norm_by_definition();
    GradClip loose(set.params, 2.0 * norm);
    loose.measure();
    loose.apply();
    EXPECT_EQ(std::vector<float>(grad, grad + set.params.numel()), before);
    GradClip tight(set.params, 0.5 * norm);
    tight.measure();
    const double scale = tight.read().scale;
    EXPECT_NEAR(scale, 0.5, 1e-5);
    tight.apply();
    for (std::size_t i = 0; i < before.size(); ++i) {
        ASSERT_FLOAT_EQ(grad[i], before[i] * static_cast<float>(scale)) << i;
    }
    EXPECT_NEAR(set.norm_by_definition(), 0.5 * norm, 1e-5 * norm);
}

TEST(GradClip, ClampsElements) {
    ParameterSet params(context_of(DType::kF32));
    params.add("p", {4});
    params.allocate();
    float* grad = static_cast<float*>(params.grad(0).data);
    const float values[4] = {-7.0f, 0.25f, 6.0f, -0.5f};
    std::memcpy(grad, values, sizeof(values));
    clip_grad_value(params, 5.0);
    EXPECT_EQ(std::vector<float>(grad, grad + 4), (std::vector<float>{-5.0f, 0.25f, 5.0f, -0.5f}));
    // The same inside an update, on the scaled gradient, without touching the gradient itself.
    OptimizerOptions options = options_of(OptimizerKind::kSgd);
    options.clip_value = 0.3;
    GradClip clip(params, 0.0);
    Optimizer optimizer(params, clip, options);
    clip.measure();
    optimizer.step(1.0);
    const float* value = static_cast<const float*>(params.value(0).data);
    EXPECT_EQ(std::vector<float>(value, value + 4),
              (std::vector<float>{0.3f, -0.25f, -0.3f, 0.3f}));
    EXPECT_EQ(grad[0], -5.0f);
    expect_error(ErrorCode::kInvalidArgument, "limit", [&] { clip_grad_value(params, 0.0); });
}

TEST(Optimizer, SgdOnTouchedRowsEqualsTheDenseUpdate) {
    SparseSet sparse(2), dense(2);
    dense.params.touched_rows().push_back({dense.dense, 5000, {0}});  // two tables: dense path
    GradClip clip_sparse(sparse.params, 1.0), clip_dense(dense.params, 1.0);
    Optimizer a(sparse.params, clip_sparse, options_of(OptimizerKind::kSgd));
    Optimizer b(dense.params, clip_dense, options_of(OptimizerKind::kSgd));
    for (const std::uint64_t seed : {10u, 23u, 31u}) {
        sparse.fill_grads(seed);
        dense.fill_grads(seed);
        clip_sparse.measure();
        clip_dense.measure();
        a.step(0.5);
        b.step(0.5);
    }
    const float* x = static_cast<const float*>(sparse.params.flat_values());
    const float* y = static_cast<const float*>(dense.params.flat_values());
    for (std::int64_t i = 0; i < sparse.params.numel(); ++i) ASSERT_NEAR(x[i], y[i], 1e-6) << i;
}

TEST(Optimizer, NamesABadOption) {
    ParameterSet params(context_of(DType::kF32));
    params.add("p", {4});
    params.allocate();
    GradClip clip(params, 0.0);
    OptimizerOptions options;
    options.beta2 = 1.0;
    expect_error(ErrorCode::kInvalidArgument, "beta2", [&] { Optimizer(params, clip, options); });
    expect_error(ErrorCode::kInvalidArgument, "max_norm", [&] { GradClip(params, -1.0); });
    expect_error(ErrorCode::kInvalidArgument, "adagrad", [] { optimizer_parse("adagrad"); });
}

}  // namespace
}  // namespace carousel::test
