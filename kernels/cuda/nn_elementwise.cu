// Element-wise operations on flat buffers: axpy, scale, clamp, casts, dropout.
//
// All are bound by memory: a thread moves packs of 16 bytes where every address is aligned to that,
// single elements otherwise, and a launch has at most 16 blocks per SM, which loop.

#include "kernels/cuda/nn_device.cuh"
#include "kernels/cuda/nn_philox.cuh"

namespace carousel::CAROUSEL_KERNELS {

/// y += alpha x.
template <class S, int kVec>
__global__ void __launch_bounds__(kFlatBlock) axpy_kernel(AxpyArgs args) {
    using A = Arithmetic<S>;
    const S* x = static_cast<const S*>(args.x);
    S* y = static_cast<S*>(args.y);
    const A alpha = static_cast<A>(args.alpha);
    for_packs<kVec>(args.numel, [&](std::int64_t i, auto lanes) {
        constexpr int kLanes = decltype(lanes)::value;
        A a[kLanes], b[kLanes];
        load_pack<kLanes>(x + i, a);
        load_pack<kLanes>(y + i, b);
#pragma unroll
        for (int k = 0; k < kLanes; ++k) b[k] = fma_of(alpha, a[k], b[k]);
        store_pack<kLanes>(y + i, b);
    });
}

/// x *= alpha, or a factor in device memory.
template <class S, int kVec>
__global__ void __launch_bounds__(kFlatBlock) scale_kernel(ScaleArgs args) {
    using A = Arithmetic<S>;
    S* x = static_cast<S*>(args.x);
    const A alpha = static_cast<A>(args.factor != nullptr ? *args.factor : args.alpha);
    for_packs<kVec>(args.numel, [&](std::int64_t i, auto lanes) {
        constexpr int kLanes = decltype(lanes)::value;
        A a[kLanes];
        load_pack<kLanes>(x + i, a);
#pragma unroll
        for (int k = 0; k < kLanes; ++k) a[k] *= alpha;
        store_pack<kLanes>(x + i, a);
    });
}

/// The coefficients have been applied: the next reader finds 1. A launch of its own, behind those
/// whose blocks read them.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) reset_scale_kernel(ResetScaleArgs args) {
    if (threadIdx.x != 0) return;
    args.control->scale = 1.0;
    if (args.loss_scale != nullptr) args.loss_scale->unscale = 1.0;
}

/// x = min(limit, max(-limit, x)).
template <class S, int kVec>
__global__ void __launch_bounds__(kFlatBlock) clamp_kernel(ClampArgs args) {
    using A = Arithmetic<S>;
    S* x = static_cast<S*>(args.x);
    const A limit = static_cast<A>(args.limit);
    for_packs<kVec>(args.numel, [&](std::int64_t i, auto lanes) {
        constexpr int kLanes = decltype(lanes)::value;
        A a[kLanes];
        load_pack<kLanes>(x + i, a);
#pragma unroll
        for (int k = 0; k < kLanes; ++k) a[k] = clamp_of(limit, a[k]);
        store_pack<kLanes>(x + i, a);
    });
}

/// to = from. f64 rounds to a 16-bit type through f32, as the CPU's conversions do.
template <class From, class To, int kVec>
__global__ void __launch_bounds__(kFlatBlock) cast_kernel(CastArgs args) {
    const From* from = static_cast<const From*>(args.from);
    To* to = static_cast<To*>(args.to);
    for_packs<kVec>(args.numel, [&](std::int64_t i, auto lanes) {
        constexpr int kLanes = decltype(lanes)::value;
        Arithmetic<From> a[kLanes];
        Arithmetic<To> b[kLanes];
        load_pack<kLanes>(from + i, a);
#pragma unroll
        for (int k = 0; k < kLanes; ++k) b[k] = static_cast<Arithmetic<To>>(a[k]);
        store_pack<kLanes>(to + i, b);
    });
}

/// y = x * mask / (1-p). A thread draws one Philox block, the mask of four neighbours, at a time.
template <class S, int kVec>
__global__ void __launch_bounds__(kFlatBlock) dropout_kernel(DropoutArgs args) {
    using A = Arithmetic<S>;
    const S* x = static_cast<const S*>(args.x);
    S* y = static_cast<S*>(args.y);
    const std::uint64_t seed = args.key != nullptr ? args.key[0] : args.seed;
    const std::uint64_t step = args.key != nullptr ? args.key[1] : args.step;
    const A keep = static_cast<A>(1.0 / (1.0 - args.p));
    const auto threshold = static_cast<std::uint64_t>(args.p * 4294967296.0);
    const std::int64_t blocks = (args.numel + 3) / 4;
    for (std::int64_t block = flat_thread(); block < blocks; block += flat_threads()) {
        const PhiloxWords words =
            dropout_words(seed, step, args.layer, static_cast<std::uint64_t>(block));
        const std::int64_t first = block * 4;
        if (kVec == 4 && first + 4 <= args.numel) {
            A a[4];
            load_pack<4>(x + first, a);
#pragma unroll
            for (int k = 0; k < 4; ++k) a[k] *= words.w[k] < threshold ? A(0) : keep;
            store_pack<4>(y + first, a);
        } else {
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                if (first + k >= args.numel) continue;
                const A factor = words.w[k] < threshold ? A(0) : keep;
                y[first + k] = narrow<S>(widen(x[first + k]) * factor);
            }
        }
    }
}

// --- launchers

namespace {

/// A flat launch of `packed` (kernel over packs) or `single`, by alignment.
template <class S, class Args>
Launch flat_launch(const char* name, void (*packed)(Args), void (*single)(Args), const Args& args,
                   bool aligned) {
    const std::int64_t lanes = aligned ? kPackSize<S> : 1;
    return make_launch(name, aligned ? packed : single, args,
                       flat_grid(blocks_for(args.numel, lanes)), {kFlatBlock, 1, 1});
}

template <class From, class To>
Launch cast_launch(const CastArgs& args) {
    // The wider of the two decides how many elements 16 bytes hold.
    constexpr int kVec = kPackSize<From> < kPackSize<To> ? kPackSize<From> : kPackSize<To>;
    const bool aligned = packs_fit(args.from, args.to);
    const std::int64_t lanes = aligned ? kVec : 1;
    return make_launch("cast", aligned ? &cast_kernel<From, To, kVec> : &cast_kernel<From, To, 1>,
                       args, flat_grid(blocks_for(args.numel, lanes)), {kFlatBlock, 1, 1});
}

}  // namespace

Launch axpy(const AxpyArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        return flat_launch<S>("axpy", &axpy_kernel<S, kPackSize<S>>, &axpy_kernel<S, 1>, args,
                              packs_fit(args.x, args.y));
    });
}

Launch scale(const ScaleArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        return flat_launch<S>("scale", &scale_kernel<S, kPackSize<S>>, &scale_kernel<S, 1>, args,
                              packs_fit(args.x));
    });
}

Launch reset_scale(const ResetScaleArgs& args) {
    return make_launch("reset_scale", &reset_scale_kernel<32>, args, {1, 1, 1}, {32, 1, 1});
}

Launch clamp(const ClampArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        return flat_launch<S>("clamp", &clamp_kernel<S, kPackSize<S>>, &clamp_kernel<S, 1>, args,
                              packs_fit(args.x));
    });
}

Launch cast(const CastArgs& args) {
    return for_dtype(args.from_dtype, [&](auto from) {
        using From = typename decltype(from)::type;
        return for_dtype(args.to_dtype, [&](auto to) {
            return cast_launch<From, typename decltype(to)::type>(args);
        });
    });
}

Launch dropout(const DropoutArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        const bool aligned = aligned_to(4 * sizeof(S), args.x, args.y);
        return make_launch("dropout", aligned ? &dropout_kernel<S, 4> : &dropout_kernel<S, 1>, args,
                           flat_grid(blocks_for(args.numel, 4)), {kFlatBlock, 1, 1});
    });
}

}  // namespace carousel::CAROUSEL_KERNELS
