#include <cmath>
#include <limits>

#include "simt/nn_data.hpp"

namespace carousel::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::int64_t count(std::size_t n) { return static_cast<std::int64_t>(n); }

/// The scalars of a step on the device, and the launches that write them.
struct Step {
    simt::DeviceBuffer<StepControl> control{std::vector<StepControl>{StepControl()}, "control"};
    simt::DeviceBuffer<LossScale> loss_scale{std::vector<LossScale>{LossScale()}, "loss scale"};
    simt::DeviceBuffer<cuda::UpdateScalars> scalars{1, "scalars"};
    bool scaled = false;

    void measure(DType dtype, const void* grad, std::size_t n, double max_norm,
                 const simt::Options& options) {
        const auto chunks = (n + kNormChunk - 1) / kNormChunk;
        const simt::DeviceBuffer<double> partials(chunks, "partials");
        if (n > 0) run(nn().sum_squares({dtype, grad, count(n), partials.data()}), options);
        run(nn().decide({partials.data(), count(chunks), max_norm, control.data(),
                         scaled ? loss_scale.data() : nullptr}),
            options);
    }
    void resolve(const UpdateArgs& update, const double* lr, const simt::Options& options) {
        run(nn().resolve(
                {update, lr, control.data(), scaled ? loss_scale.data() : nullptr, scalars.data()}),
            options);
    }
};

TEST(SimtNnUpdate, NormOfAnyLength) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t n : {1, 5, 33, 4096, 4097, 13001}) {
            const auto x = rounded(numbers(n, 1), dtype);
            const NnTensor grad(dtype, x, "grad", offset);
            Step step;
            step.measure(dtype, grad.data(), n, 0.5, options);
            long double squares = 0.0L;  // its own rounding must not count
            for (const long double value : x) squares += value * value;
            const auto norm = static_cast<double>(std::sqrt(squares));
            const double wide = unit_roundoff(wide_dtype(dtype));
            const StepControl& control = step.control[0];
            EXPECT_NEAR(control.grad_norm, norm, 16.0 * wide * norm) << n;
            EXPECT_DOUBLE_EQ(control.scale, std::min(1.0, 0.5 / (control.grad_norm + 1e-6)));
            EXPECT_EQ(control.skip, 0);
        }
    });
}

TEST(SimtNnUpdate, ManyPartialsAreAddedOnce) {
    const simt::DeviceBuffer<double> partials(std::vector<double>(3001, 4.0), "partials");
    for (const simt::Options& options : nn_schedules()) {
        Step step;
        run(nn().decide({partials.data(), 3001, 0.0, step.control.data(), nullptr}), options);
        EXPECT_DOUBLE_EQ(step.control[0].grad_norm, std::sqrt(4.0 * 3001));
        EXPECT_EQ(step.control[0].scale, 1.0);
    }
}

TEST(SimtNnUpdate, NonFiniteGradientsSkipAndDoNotCount) {
    const double inf = std::numeric_limits<double>::infinity();
    for (const double bad : {kNan, inf, -inf}) {
        std::vector<double> x(100, 0.5);
        x[77] = bad;
        const NnTensor grad(DType::kF32, x, "grad");
        Step step;
        step.measure(DType::kF32, grad.data(), 100, 1.0, simt::Options());
        EXPECT_EQ(step.control[0].skip, 1);
        UpdateArgs update;
        update.rule = UpdateRule::kAdam;
        step.resolve(update, nullptr, simt::Options());
        EXPECT_EQ(step.scalars[0].skip, 1);
        EXPECT_EQ(step.control[0].applied_steps, 0);
        EXPECT_EQ(step.control[0].skipped_steps, 1);
    }
}

TEST(SimtNnUpdate, ScalarsCountUpdatesAndReadTheLearningRateFromTheDevice) {
    const simt::DeviceBuffer<double> lr(std::vector<double>{0.01}, "lr");
    const NnTensor grad(DType::kF64, std::vector<double>{1.0, 1.0}, "grad");
    UpdateArgs update;
    update.rule = UpdateRule::kAdamW;
    update.beta1 = 0.9;
    update.beta2 = 0.99;
    update.weight_decay = 0.1;
    update.lr = 77.0;
    Step step;
    for (int t = 1; t <= 3; ++t) {
        lr[0] = 0.01 * t;  // as between replays
        step.measure(DType::kF64, grad.data(), 2, 0.0, simt::Options());
        step.resolve(update, lr.data(), simt::Options());
        const cuda::UpdateScalars& scalars = step.scalars[0];
        EXPECT_DOUBLE_EQ(scalars.lr, 0.01 * t);
        EXPECT_DOUBLE_EQ(scalars.step_size, 0.01 * t / (1.0 - std::pow(0.9, t)));
        EXPECT_DOUBLE_EQ(scalars.inv_sqrt_bias2, 1.0 / std::sqrt(1.0 - std::pow(0.99, t)));
        EXPECT_DOUBLE_EQ(scalars.weight_decay, 0.001 * t);
        EXPECT_EQ(step.control[0].applied_steps, t);
    }
    step.resolve(update, nullptr, simt::Options());
    EXPECT_EQ(step.scalars[0].lr, 77.0);
}

TEST(SimtNnUpdate, LossScaleFallsGrowsAndLeavesTheNormUnscaled) {
    Step step;
    step.scaled = true;
    step.loss_scale[0].growth_interval = 2;
    const NnTensor good(DType::kF16, std::vector<double>{3.0, 4.0}, "good");
    const NnTensor bad(DType::kF16, std::vector<double>{3.0, kNan}, "bad");
    UpdateArgs update;
    const auto measured = [&](const NnTensor& grad) {
        step.measure(DType::kF16, grad.data(), 2, 0.0, simt::Options());
        step.resolve(update, nullptr, simt::Options());
        return step.control[0].grad_norm;
    };
    EXPECT_DOUBLE_EQ(measured(good), 5.0 / 65536.0);
    EXPECT_DOUBLE_EQ(step.scalars[0].grad_scale, 1.0 / 65536.0);
    measured(bad);
    EXPECT_EQ(step.scalars[0].skip, 1);
    EXPECT_EQ(step.loss_scale[0].scale, 32768.0);
    EXPECT_EQ(step.loss_scale[0].good_steps, 0);
    EXPECT_DOUBLE_EQ(measured(good), 5.0 / 32768.0);
    EXPECT_EQ(step.loss_scale[0].scale, 32768.0);
    EXPECT_DOUBLE_EQ(measured(good), 5.0 / 32768.0);  // the second in a row: the next one is larger
    EXPECT_EQ(step.loss_scale[0].scale, 65536.0);
    EXPECT_DOUBLE_EQ(step.scalars[0].grad_scale, 1.0 / 32768.0);
    step.loss_scale[0].scale = step.loss_scale[0].min_scale;
    measured(bad);
    EXPECT_EQ(step.loss_scale[0].scale, step.loss_scale[0].min_scale);
}

/// The update of include/carousel/optimizer.hpp, in double.
struct Reference {
    UpdateArgs args;
    std::vector<double> p, slot0, slot1;
    int t = 0;

    void step(const std::vector<double>& grad, double scale) {
        ++t;
        const bool adam = args.rule == UpdateRule::kAdam || args.rule == UpdateRule::kAdamW;
        for (std::size_t i = 0; i < p.size(); ++i) {
            double g = grad[i] * scale;
            if (args.clip_value > 0.0) g = std::min(args.clip_value, std::max(-args.clip_value, g));
            if (args.rule == UpdateRule::kAdamW) {
                p[i] -= args.lr * args.weight_decay * p[i];
            } else {
                g += args.weight_decay * p[i];
            }
            if (adam) {
                slot0[i] = args.beta1 * slot0[i] + (1.0 - args.beta1) * g;
                slot1[i] = args.beta2 * slot1[i] + (1.0 - args.beta2) * g * g;
                const double m = slot0[i] / (1.0 - std::pow(args.beta1, t));
                const double v = slot1[i] / (1.0 - std::pow(args.beta2, t));
                p[i] -= args.lr * m / (std::sqrt(v) + args.eps);
            } else if (args.rule == UpdateRule::kRmsprop ||
                       args.rule == UpdateRule::kRmspropMomentum) {
                slot0[i] = args.alpha * slot0[i] + (1.0 - args.alpha) * g * g;
                double u = g / (std::sqrt(slot0[i]) + args.eps);
                if (args.rule == UpdateRule::kRmspropMomentum) {
                    u += args.momentum * slot1[i];
                    slot1[i] = u;
                }
                p[i] -= args.lr * u;
            } else {
                if (args.rule == UpdateRule::kSgdMomentum) {
                    g += args.momentum * slot0[i];
                    slot0[i] = g;
                }
                p[i] -= args.lr * g;
            }
        }
    }
};

UpdateArgs options_of(UpdateRule rule, bool decays_and_clips) {
    UpdateArgs args;
    args.rule = rule;
    args.lr = 0.02;
    args.momentum = 0.8;
    args.alpha = 0.95;
    args.beta1 = 0.85;
    args.beta2 = 0.97;
    args.eps = 1e-3;
    if (decays_and_clips) {
        args.weight_decay = 0.1;
        args.clip_value = 0.05;
    }
    return args;
}

/// Three updates with a skipped one between them, against the reference.
void check_update(UpdateRule rule, bool decays_and_clips, DType dtype, std::size_t n,
                  std::size_t offset, const simt::Options& options) {
    SCOPED_TRACE("rule " + std::to_string(static_cast<int>(rule)) + ", n " + std::to_string(n) +
                 (decays_and_clips ? ", decay and clip" : ""));
    const DType wide = wide_dtype(dtype);
    const std::vector<double> initial = rounded(numbers(n, 1), wide), zeros(n, 0.0);
    const NnTensor value(wide, initial, "value", offset),
        working(dtype, initial, "working", offset);
    const NnTensor slot0(wide, zeros, "slot0", offset), slot1(wide, zeros, "slot1", offset);
    cuda::ParamUpdateArgs args;
    args.dtype = dtype;
    args.update = options_of(rule, decays_and_clips);
    Reference reference{args.update, initial, zeros, zeros};
    const bool has0 = rule != UpdateRule::kSgd;
    const bool has1 = has0 && rule != UpdateRule::kSgdMomentum && rule != UpdateRule::kRmsprop;
    args.update.value = value.data();
    args.update.slot0 = has0 ? slot0.data() : nullptr;
    args.update.slot1 = has1 ? slot1.data() : nullptr;
    args.working = wide == dtype ? nullptr : working.data();
    args.numel = count(n);
    Step step;
    args.scalars = step.scalars.data();
    for (int t = 0; t < 4; ++t) {
        std::vector<double> g = rounded(numbers(n, 10 + static_cast<std::uint64_t>(t)), wide);
        const bool skipped = t == 1;
        if (skipped) g[n - 1] = kNan;
        const NnTensor grad(wide, g, "grad", offset);
        args.update.grad = grad.data();
        step.measure(wide, grad.data(), n, 0.7, options);
        step.resolve(args.update, nullptr, options);
        const std::vector<double> before = value.read();
        run(nn().update(args), options);
        if (skipped) {
            expect_equal(value.read(), before, "value of a skipped step");
        } else {
            reference.step(g, step.control[0].scale);
        }
    }
    EXPECT_EQ(step.control[0].applied_steps, 3);
    EXPECT_EQ(step.control[0].skipped_steps, 1);
    const double limit = 64.0 * unit_roundoff(wide);
    expect_near(value.read(), reference.p, limit, "value");
    if (has0) expect_near(slot0.read(), reference.slot0, limit, "slot0");
    if (has1) expect_near(slot1.read(), reference.slot1, limit, "slot1");
    if (wide != dtype) expect_equal(working.read(), rounded(value.read(), dtype), "working");
}

TEST(SimtNnUpdate, EveryRuleMatchesItsEquations) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const UpdateRule rule :
             {UpdateRule::kSgd, UpdateRule::kSgdMomentum, UpdateRule::kRmsprop,
              UpdateRule::kRmspropMomentum, UpdateRule::kAdam, UpdateRule::kAdamW}) {
            check_update(rule, false, dtype, 1, offset, options);
            check_update(rule, false, dtype, 37, offset, options);
            check_update(rule, true, dtype, 1027, offset, options);
        }
    });
}

TEST(SimtNnUpdate, NoDecayLeavesInfiniteWeightsAlone) {
    const NnTensor value(DType::kF32, std::vector<double>{HUGE_VAL, 1.0}, "value");
    const NnTensor grad(DType::kF32, std::vector<double>{1.0, 1.0}, "grad");
    cuda::ParamUpdateArgs args;
    args.update = options_of(UpdateRule::kSgd, false);
    args.update.value = value.data();
    args.update.grad = grad.data();
    args.numel = 2;
    Step step;
    args.scalars = step.scalars.data();
    step.measure(DType::kF32, grad.data(), 2, 0.0, simt::Options());
    step.resolve(args.update, nullptr, simt::Options());
    run(nn().update(args), simt::Options());
    EXPECT_TRUE(std::isinf(value.read()[0]));
}

}  // namespace
}  // namespace carousel::test
