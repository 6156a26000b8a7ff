#pragma once

#include "kernels/cpu/nn_rows.hpp"
#include "kernels/nn_args.hpp"

namespace carousel::cpu {
namespace {

/// One optimiser update of elements [begin, end); equations in include/carousel/optimizer.hpp. One
/// pass: each of value, gradient and state is read once and written once.
template <class T, UpdateRule kRule>
void update_rule(const UpdateArgs& args, std::int64_t begin, std::int64_t end) {
    using V = Vec<T>;
    constexpr bool kAdam = kRule == UpdateRule::kAdam || kRule == UpdateRule::kAdamW;
    constexpr bool kRmsprop =
        kRule == UpdateRule::kRmsprop || kRule == UpdateRule::kRmspropMomentum;
    T* value = static_cast<T*>(args.value);
    const T* grad = static_cast<const T*>(args.grad);
    T* slot0 = static_cast<T*>(args.slot0);
    T* slot1 = static_cast<T*>(args.slot1);
    const auto constant = [](double x) { return V(static_cast<T>(x)); };
    const V lr = constant(args.lr), grad_scale = constant(args.scale);
    const V limit = constant(args.clip_value), decay = constant(args.weight_decay);
    const V momentum = constant(args.momentum), eps = constant(args.eps);
    const V alpha = constant(args.alpha), one_minus_alpha = constant(1.0 - args.alpha);
    const V beta1_rest = constant(1.0 - args.beta1);
    const V beta2 = constant(args.beta2), beta2_rest = constant(1.0 - args.beta2);
    const V step_size = constant(args.step_size), inv_sqrt_bias2 = constant(args.inv_sqrt_bias2);
    const bool clips = args.clip_value > 0.0, decays = args.weight_decay != 0.0;

    for_vectors<T>(begin, end, [&](std::int64_t i, int lanes) {
        V p = load_lanes(value + i, lanes);
        V g = load_lanes(grad + i, lanes) * grad_scale;
        if (clips) g = clamp_vector(limit, g);
        if (decays) {
            if constexpr (kRule == UpdateRule::kAdamW) {
                p = p - decay * p;
            } else {
                g = fma(decay, p, g);
            }
        }
        if constexpr (kAdam) {
            const V old = load_lanes(slot0 + i, lanes);
            const V m = fma(beta1_rest, g - old, old);
            const V v = fma(beta2_rest, g * g, beta2 * load_lanes(slot1 + i, lanes));
            store_lanes(slot0 + i, m, lanes);
            store_lanes(slot1 + i, v, lanes);
            p = p - step_size * m / fma(sqrt(v), inv_sqrt_bias2, eps);
        } else if constexpr (kRmsprop) {
            const V s = fma(one_minus_alpha, g * g, alpha * load_lanes(slot0 + i, lanes));
            store_lanes(slot0 + i, s, lanes);
            V u = g / (sqrt(s) + eps);
            if constexpr (kRule == UpdateRule::kRmspropMomentum) {
                u = fma(momentum, load_lanes(slot1 + i, lanes), u);
                store_lanes(slot1 + i, u, lanes);
            }
            p = p - lr * u;
        } else {
            if constexpr (kRule == UpdateRule::kSgdMomentum) {
                g = fma(momentum, load_lanes(slot0 + i, lanes), g);
                store_lanes(slot0 + i, g, lanes);
            }
            p = p - lr * g;
        }
        store_lanes(value + i, p, lanes);
    });
}

template <class T>
void update(const UpdateArgs& args, std::int64_t begin, std::int64_t end) {
    switch (args.rule) {
        case UpdateRule::kSgd:
            return update_rule<T, UpdateRule::kSgd>(args, begin, end);
        case UpdateRule::kSgdMomentum:
            return update_rule<T, UpdateRule::kSgdMomentum>(args, begin, end);
        case UpdateRule::kRmsprop:
            return update_rule<T, UpdateRule::kRmsprop>(args, begin, end);
        case UpdateRule::kRmspropMomentum:
            return update_rule<T, UpdateRule::kRmspropMomentum>(args, begin, end);
        case UpdateRule::kAdam:
            return update_rule<T, UpdateRule::kAdam>(args, begin, end);
        case UpdateRule::kAdamW:
            return update_rule<T, UpdateRule::kAdamW>(args, begin, end);
    }
}

}  // namespace
}  // namespace carousel::cpu
