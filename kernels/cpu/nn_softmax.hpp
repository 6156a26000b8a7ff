#pragma once

#include <cmath>

#include "kernels/cpu/nn_loops.hpp"
#include "kernels/nn_args.hpp"

namespace carousel::cpu {
namespace {

/// One row of softmax cross-entropy: maximum; exponentials and their sum; gradient. `bias` is added
/// on the fly and `dlogits` (which may be `logits`) holds the exponentials between the last two
/// passes, so that each is computed once.
template <class T, bool kHasBias>
double softmax_xent_row(const T* logits, const T* bias, std::int64_t classes, std::int32_t target,
                        T scale_factor, T* dlogits) {
    constexpr int kLanes = Vec<T>::kLanes;
    const auto value = [&](std::int64_t j, int lanes) {
        const Vec<T> z = load_lanes(logits + j, lanes);
        if constexpr (kHasBias) return z + load_lanes(bias + j, lanes);
        return z;
    };
    const std::int64_t whole = classes / kLanes * kLanes;
    const T target_logit = logits[target] + (kHasBias ? bias[target] : T(0));

    Vec<T> max_lanes(target_logit);
    for (std::int64_t j = 0; j < whole; j += kLanes) max_lanes = max(max_lanes, value(j, kLanes));
    T m = reduce_max(max_lanes);
    for (std::int64_t j = whole; j < classes; ++j) {
        const T z = logits[j] + (kHasBias ? bias[j] : T(0));
        m = z > m ? z : m;
    }

    const Vec<T> shift(m);
    Vec<T> sum_lanes(T(0)), sum_lanes2(T(0));
    std::int64_t j = 0;
    for (; j + 2 * kLanes <= whole; j += 2 * kLanes) {
        const Vec<T> e0 = exp(value(j, kLanes) - shift);
        const Vec<T> e1 = exp(value(j + kLanes, kLanes) - shift);
        sum_lanes += e0;
        sum_lanes2 += e1;
        if (dlogits != nullptr) {
            store(dlogits + j, e0);
            store(dlogits + j + kLanes, e1);
        }
    }
    for (; j < whole; j += kLanes) {
        const Vec<T> e = exp(value(j, kLanes) - shift);
        sum_lanes += e;
        if (dlogits != nullptr) store(dlogits + j, e);
    }
    T sum = reduce_add(sum_lanes + sum_lanes2);
    if (whole < classes) {
        const int rest = static_cast<int>(classes - whole);
        const Vec<T> e = exp(value(whole, rest) - shift);
        T lanes[kLanes];
        store(lanes, e);
        for (int lane = 0; lane < rest; ++lane) sum += lanes[lane];
        if (dlogits != nullptr) store_n(dlogits + whole, e, rest);
    }

    if (dlogits != nullptr) {
        const Vec<T> factor(scale_factor / sum);
        for_vectors<T>(0, classes, [&](std::int64_t i, int lanes) {
            store_lanes(dlogits + i, factor * load_lanes(dlogits + i, lanes), lanes);
        });
        dlogits[target] -= scale_factor;
    }
    return std::log(static_cast<double>(sum)) + static_cast<double>(m) -
           static_cast<double>(target_logit);
}

template <class T>
void softmax_xent(const SoftmaxXentArgs& args, std::int64_t begin, std::int64_t end) {
    const T* bias = static_cast<const T*>(args.bias);
    for (std::int64_t r = begin; r < end; ++r) {
        const T* logits = static_cast<const T*>(args.logits) + r * args.classes;
        T* dlogits =
            args.dlogits != nullptr ? static_cast<T*>(args.dlogits) + r * args.classes : nullptr;
        const std::int32_t target = args.targets[r];
        if (target < 0) {
            args.row_losses[r] = 0.0;
            for (std::int64_t j = 0; dlogits != nullptr && j < args.classes; ++j) dlogits[j] = T(0);
            continue;
        }
        const T factor = static_cast<T>(args.scale);
        args.row_losses[r] =
            bias != nullptr
                ? softmax_xent_row<T, true>(logits, bias, args.classes, target, factor, dlogits)
                : softmax_xent_row<T, false>(logits, bias, args.classes, target, factor, dlogits);
    }
}

}  // namespace
}  // namespace carousel::cpu
