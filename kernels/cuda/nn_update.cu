// Clipping and the optimiser: ordered global norm, the step's scalars, one pass over all parameters.
//
//   sum_squares -> decide -> (any time later) resolve -> update
//
// All parameters of a model lie in one flat buffer, so each of these is one launch. Everything that
// depends on the step (scale, skip, learning rate, Adam's t, scale of the loss) is device memory.

#include "kernels/cuda/nn_device.cuh"

namespace carousel::CAROUSEL_KERNELS {

namespace {
constexpr unsigned kNormBlock = 256, kDecideBlock = 1024;
constexpr double kNormEps = 1e-6;  // as torch.nn.utils.clip_grad_norm_

/// The factor that takes the scale out of the gradients just measured; sets the scale of the next.
__device__ __forceinline__ double move_loss_scale(LossScale& state, bool finite) {
    state.unscale = 1.0 / state.scale;
    if (!finite) {
        const double lower = state.scale * state.backoff;
        state.scale = lower < state.min_scale ? state.min_scale : lower;
        state.good_steps = 0;
    } else if (++state.good_steps >= state.growth_interval) {
        const double higher = state.scale * state.growth;
        state.scale = higher > state.max_scale ? state.max_scale : higher;
        state.good_steps = 0;
    }
    return state.unscale;
}
}  // namespace

/// partials[c] = sum of squares of chunk c: at most 16 elements per thread in A, the threads in f64.
template <class S, int kVec>
__global__ void __launch_bounds__(kNormBlock) sum_squares_kernel(SquaresArgs args) {
    using A = Arithmetic<S>;
    CAROUSEL_SHARED(double, scratch, 33);
    const S* x = static_cast<const S*>(args.x);
    const std::int64_t chunks = (args.numel + kNormChunk - 1) / kNormChunk;
    for (std::int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
        const std::int64_t begin = chunk * kNormChunk;
        const std::int64_t end = begin + kNormChunk < args.numel ? begin + kNormChunk : args.numel;
        A sum = A(0);
        std::int64_t i = begin + threadIdx.x * kVec;
#pragma unroll 4
        for (; i + kVec <= end; i += kNormBlock * kVec) {
            A a[kVec];
            load_pack<kVec>(x + i, a);
#pragma unroll
            for (int k = 0; k < kVec; ++k) sum = fma_of(a[k], a[k], sum);
        }
        for (; i < end; ++i) {  // the last, partial pack: one thread has it
            const A a = widen(x[i]);
            sum = fma_of(a, a, sum);
        }
        const double total = reduce_block(static_cast<double>(sum), Add{}, scratch);
        if (threadIdx.x == 0) args.partials[chunk] = total;
    }
}

/// Norm and decision; moves the scale of the loss. One block: thread t adds partials t, t+1024, ...
///
///   norm = sqrt(sum) * unscale;  scale = min(1, max_norm / (norm + 1e-6));  skip = not finite
template <int kThreads>
__global__ void __launch_bounds__(kThreads) decide_kernel(DecideArgs args) {
    CAROUSEL_SHARED(double, scratch, 33);
    double sum = 0.0;
    for (std::int64_t i = threadIdx.x; i < args.count; i += kThreads) sum += args.partials[i];
    sum = reduce_block(sum, Add{}, scratch);
    if (threadIdx.x != 0) return;
    double norm = sqrt(sum);
    const bool finite = norm <= 1.7976931348623157e+308;  // false for NaN too
    if (args.loss_scale != nullptr) norm *= move_loss_scale(*args.loss_scale, finite);
    StepControl& control = *args.control;
    control.grad_norm = norm;
    control.skip = finite ? 0 : 1;
    double scale = 1.0;
    if (args.max_norm > 0.0) {
        const double wanted = args.max_norm / (norm + kNormEps);
        scale = wanted < 1.0 ? wanted : 1.0;
    }
    control.scale = scale;
}

/// Scalars of one update, once, by one thread: powers in f64 are dear, and the counters must move when
/// nobody reads them.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) resolve_kernel(ResolveArgs args) {
    if (threadIdx.x != 0) return;
    StepControl& control = *args.control;
    const UpdateArgs& update = args.update;
    UpdateScalars scalars;
    scalars.skip = control.skip;
    scalars.lr = args.lr != nullptr ? *args.lr : update.lr;
    scalars.grad_scale = control.scale;
    if (args.loss_scale != nullptr) scalars.grad_scale *= args.loss_scale->unscale;
    scalars.weight_decay = update.weight_decay;
    if (update.rule == UpdateRule::kAdamW) scalars.weight_decay *= scalars.lr;
    if (update.rule == UpdateRule::kAdam || update.rule == UpdateRule::kAdamW) {
        const auto t = static_cast<double>(control.applied_steps + 1);
        scalars.step_size = scalars.lr / (1.0 - pow(update.beta1, t));
        scalars.inv_sqrt_bias2 = 1.0 / sqrt(1.0 - pow(update.beta2, t));
    }
    if (control.skip != 0) {
        ++control.skipped_steps;
    } else {
        ++control.applied_steps;
    }
    *args.scalars = scalars;
}

namespace {

/// Constants of an update, in the arithmetic of its states.
template <class A>
struct UpdateConstants {
    A lr, scale, clip, decay, momentum, eps, alpha, alpha_rest, beta1_rest, beta2, beta2_rest,
        step_size, inv_sqrt_bias2;
};

/// One element; equations in include/carousel/optimizer.hpp, operation by operation as on the CPU.
template <UpdateRule kRule, class A>
__device__ __forceinline__ void update_element(const UpdateConstants<A>& c, A g, A& p, A& slot0,
                                               A& slot1) {
    g *= c.scale;
    if (c.clip > A(0)) g = clamp_of(c.clip, g);
    if constexpr (kRule == UpdateRule::kAdamW) {
        p = p - c.decay * p;
    } else {
        // Not where decay is 0: 0 * p would turn an infinite p into NaN.
        if (c.decay != A(0)) g = fma_of(c.decay, p, g);
    }
    if constexpr (kRule == UpdateRule::kAdam || kRule == UpdateRule::kAdamW) {
        slot0 = fma_of(c.beta1_rest, g - slot0, slot0);
        slot1 = fma_of(c.beta2_rest, g * g, c.beta2 * slot1);
        p = p - c.step_size * slot0 / fma_of(sqrt_of(slot1), c.inv_sqrt_bias2, c.eps);
    } else if constexpr (kRule == UpdateRule::kRmsprop || kRule == UpdateRule::kRmspropMomentum) {
        slot0 = fma_of(c.alpha_rest, g * g, c.alpha * slot0);
        A u = g / (sqrt_of(slot0) + c.eps);
        if constexpr (kRule == UpdateRule::kRmspropMomentum) {
            u = fma_of(c.momentum, slot1, u);
            slot1 = u;
        }
        p = p - c.lr * u;
    } else {
        if constexpr (kRule == UpdateRule::kSgdMomentum) {
            g = fma_of(c.momentum, slot0, g);
            slot0 = g;
        }
        p = p - c.lr * g;
    }
}

template <UpdateRule kRule>
inline constexpr int kSlots =
    kRule == UpdateRule::kSgd                                            ? 0
    : kRule == UpdateRule::kSgdMomentum || kRule == UpdateRule::kRmsprop ? 1
                                                                         : 2;

}  // namespace

/// One optimiser update of all parameters: each of value, gradient and state is read once and written
/// once. Skips everything if the step's gradient was not finite.
///
/// In       grad [numel] A; scalars of resolve
/// Out      value, slots [numel] A, updated; working [numel] S: value rounded, where S is narrower
template <class S, int kVec, UpdateRule kRule>
__global__ void __launch_bounds__(kFlatBlock) update_kernel(ParamUpdateArgs args) {
    using A = Arithmetic<S>;
    constexpr bool kWorking = sizeof(S) < sizeof(A);
    const UpdateScalars& scalars = *args.scalars;
    if (scalars.skip != 0) return;
    const UpdateArgs& u = args.update;
    const auto constant = [](double x) { return static_cast<A>(x); };
    const UpdateConstants<A> constants = {constant(scalars.lr),
                                          constant(scalars.grad_scale),
                                          constant(u.clip_value),
                                          constant(scalars.weight_decay),
                                          constant(u.momentum),
                                          constant(u.eps),
                                          constant(u.alpha),
                                          constant(1.0 - u.alpha),
                                          constant(1.0 - u.beta1),
                                          constant(u.beta2),
                                          constant(1.0 - u.beta2),
                                          constant(scalars.step_size),
                                          constant(scalars.inv_sqrt_bias2)};
    A* value = static_cast<A*>(u.value);
    A* slot0 = static_cast<A*>(u.slot0);
    A* slot1 = static_cast<A*>(u.slot1);
    const A* grad = static_cast<const A*>(u.grad);
    S* working = static_cast<S*>(args.working);
    for_packs<kVec>(args.numel, [&](std::int64_t i, auto lanes) {
        constexpr int kLanes = decltype(lanes)::value;
        A g[kLanes], p[kLanes], a[kLanes] = {}, b[kLanes] = {};
        load_pack<kLanes>(grad + i, g);
        load_pack<kLanes>(value + i, p);
        if constexpr (kSlots < kRule >> 0) load_pack<kLanes>(slot0 + i, a);
        if constexpr (kSlots < kRule >> 1) load_pack<kLanes>(slot1 + i, b);
#pragma unroll
        for (int k = 0; k < kLanes; ++k) update_element<kRule>(constants, g[k], p[k], a[k], b[k]);
        store_pack<kLanes>(value + i, p);
        if constexpr (kSlots < kRule >> 0) store_pack<kLanes>(slot0 + i, a);
        if constexpr (kSlots < kRule >> 1) store_pack<kLanes>(slot1 + i, b);
        if constexpr (kWorking) store_pack<kLanes>(working + i, p);
    });
}

// --- launchers

namespace {

template <class S, UpdateRule kRule>
Launch update_launch(const ParamUpdateArgs& args) {
    using A = Arithmetic<S>;
    // Four of f32, two of f64: what 16 bytes of the widest operand hold.
    constexpr int kVec = kPackSize<A>;
    const UpdateArgs& u = args.update;
    const bool packed =
        packs_fit(u.value, u.grad, u.slot0, u.slot1) && aligned_to(kVec * sizeof(S), args.working);
    return make_launch("update",
                       packed ? &update_kernel<S, kVec, kRule> : &update_kernel<S, 1, kRule>, args,
                       flat_grid(blocks_for(args.numel, packed ? kVec : 1)), {kFlatBlock, 1, 1});
}

}  // namespace

Launch sum_squares(const SquaresArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        std::int64_t blocks = blocks_for(args.numel, kNormChunk);
        blocks = blocks < 1 ? 1 : blocks > kMaxFlatBlocks ? kMaxFlatBlocks : blocks;
        return make_launch(
            "sum_squares",
            packs_fit(args.x) ? &sum_squares_kernel<S, kPackSize<S>> : &sum_squares_kernel<S, 1>,
            args, {static_cast<unsigned>(blocks), 1, 1}, {kNormBlock, 1, 1});
    });
}

Launch decide(const DecideArgs& args) {
    return make_launch("decide", &decide_kernel<kDecideBlock>, args, {1, 1, 1},
                       {kDecideBlock, 1, 1});
}

Launch resolve(const ResolveArgs& args) {
    return make_launch("resolve", &resolve_kernel<32>, args, {1, 1, 1}, {32, 1, 1});
}

Launch update(const ParamUpdateArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        switch (args.update.rule) {
            case UpdateRule::kSgdMomentum:
                return update_launch<S, UpdateRule::kSgdMomentum>(args);
            case UpdateRule::kRmsprop:
                return update_launch<S, UpdateRule::kRmsprop>(args);
            case UpdateRule::kRmspropMomentum:
                return update_launch<S, UpdateRule::kRmspropMomentum>(args);
            case UpdateRule::kAdam:
                return update_launch<S, UpdateRule::kAdam>(args);
            case UpdateRule::kAdamW:
                return update_launch<S, UpdateRule::kAdamW>(args);
            default:
                return update_launch<S, UpdateRule::kSgd>(args);
        }
    });
}

}  // namespace carousel::CAROUSEL_KERNELS
