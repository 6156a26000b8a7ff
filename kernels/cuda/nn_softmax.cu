// Softmax cross-entropy, forward and backward, and the sum of a batch's losses.

#include "kernels/cuda/nn_device.cuh"

namespace carousel::CAROUSEL_KERNELS {

namespace {
// A warp per row up to this many classes, a block beyond: a warp then takes 32 turns of one pack.
constexpr std::int64_t kWarpClasses = 1024;
constexpr unsigned kWarpRows = 8;  // rows per block, a warp each
constexpr unsigned kRowBlock = 256;
constexpr unsigned kSumBlock = 1024;

/// The lowest finite number: exp(kLowest - z) is 0 for every z above it, and no inf - inf arises.
template <class A>
struct Lowest;
template <>
struct Lowest<float> {
    static constexpr float value = -3.402823466e+38F;
};
template <>
struct Lowest<double> {
    static constexpr double value = -1.7976931348623157e+308;
};

/// op over the threads of a row: a warp, or the block.
template <bool kWarpRow, class T, class Op>
__device__ __forceinline__ T reduce_row(T value, Op op, T* scratch) {
    if constexpr (kWarpRow) {
        static_cast<void>(scratch);
        return reduce_warp(value, op);
    } else {
        return reduce_block(value, op, scratch);
    }
}
}  // namespace

/// Loss and gradient of each row; probabilities are never stored.
///
///   pass 1: z = logits + bias; running maximum m and sum of exp(z - m), rescaled when m moves
///   pass 2: dlogits = scale * (exp(z - m) / sum - [j = target])
///
/// In       logits [rows,classes] S; bias [classes] S or null; targets [rows]: -1 masks a row,
///          anything else out of range too, and sets kStatusTarget
/// Out      dlogits, may be logits: every thread reads an element before it writes that one;
///          row_losses [rows] f64
/// Repeat   bitwise; the shape alone decides the order of the sums.
template <class S, int kVec, bool kWarpRow>
__global__ void __launch_bounds__(kRowBlock, 4) softmax_xent_kernel(CrossEntropyArgs args) {
    using A = Arithmetic<S>;
    CAROUSEL_SHARED(A, scratch, 33);
    const S* bias = static_cast<const S*>(args.bias);
    const std::int64_t step = (kWarpRow ? 32 : kRowBlock) * kVec;
    const std::int64_t first = threadIdx.x * kVec;
    const std::int64_t row_step = static_cast<std::int64_t>(gridDim.x) * (kWarpRow ? kWarpRows : 1);
    const double loss_scale = args.loss_scale != nullptr ? args.loss_scale->scale : 1.0;
    const A scale = static_cast<A>(args.scale * loss_scale);
    for (std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * (kWarpRow ? kWarpRows : 1) +
                          (kWarpRow ? threadIdx.y : 0);
         r < args.rows; r += row_step) {
        const S* logits = static_cast<const S*>(args.logits) + r * args.classes;
        S* dlogits =
            args.dlogits == nullptr ? nullptr : static_cast<S*>(args.dlogits) + r * args.classes;
        const std::int64_t target = args.targets[r];
        const bool counts = target >= 0 && target < args.classes;
        if (!counts) {
            if (threadIdx.x == 0) {
                if (target != -1) atomicOr(args.status, kStatusTarget);
                args.row_losses[r] = 0.0;
            }
            A zeros[kVec] = {};
            for (std::int64_t j = first; dlogits != nullptr && j < args.classes; j += step) {
                store_pack<kVec>(dlogits + j, zeros);
            }
            continue;
        }
        const auto load = [&](std::int64_t j, A(&z)[kVec]) {
            load_pack<kVec>(logits + j, z);
            if (bias == nullptr) return;
            A b[kVec];
            load_pack<kVec>(bias + j, b);
#pragma unroll
            for (int k = 0; k < kVec; ++k) z[k] += b[k];
        };
        A target_logit = A(0);
        if (threadIdx.x == 0) {
            target_logit = widen(logits[target]) + (bias != nullptr ? widen(bias[target]) : A(0));
        }
        A m = Lowest<A>::value, sum = A(0);
#pragma unroll 1
        for (std::int64_t j = first; j < args.classes; j += step) {
            A z[kVec];
            load(j, z);
            A largest = z[0];
#pragma unroll
            for (int k = 1; k < kVec; ++k) largest = z[k] > largest ? z[k] : largest;
            if (largest > m) {
                sum *= exp_of(m - largest);
                m = largest;
            }
#pragma unroll
            for (int k = 0; k < kVec; ++k) sum += exp_of(z[k] - m);
        }
        const A row_max = reduce_row<kWarpRow>(m, Max{}, scratch);
        sum *= exp_of(m - row_max);
        sum = reduce_row<kWarpRow>(sum, Add{}, scratch);
        if constexpr (kWarpRow)
            __syncwarp();  // the target's logit is read before it is overwritten
        if (threadIdx.x == 0) {
            args.row_losses[r] = log(static_cast<double>(sum)) + static_cast<double>(row_max) -
                                 static_cast<double>(target_logit);
        }
        if (dlogits == nullptr) continue;
        const A factor = scale / sum;
#pragma unroll 1
        for (std::int64_t j = first; j < args.classes; j += step) {
            A z[kVec];
            load(j, z);
#pragma unroll
            for (int k = 0; k < kVec; ++k) {
                z[k] = factor * exp_of(z[k] - row_max) - (j + k == target ? scale : A(0));
            }
            store_pack<kVec>(dlogits + j, z);
        }
    }
}

/// record += sum of row_losses in a fixed order, number of rows that count; one block.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) sum_losses_kernel(SumLossesArgs args) {
    CAROUSEL_SHARED(double, scratch, 33);
    CAROUSEL_SHARED(long long, count_scratch, 33);
    double sum = 0.0;
    long long count = 0;
    for (std::int64_t r = threadIdx.x; r < args.rows; r += kThreads) {
        sum += args.row_losses[r];
        const std::int64_t target = args.targets[r];
        count += target >= 0 && target < args.classes ? 1 : 0;
    }
    sum = reduce_block(sum, Add{}, scratch);
    count = reduce_block(count, Add{}, count_scratch);
    if (threadIdx.x != 0) return;
    const bool adds = args.accumulate != 0;
    args.record->loss_sum = (adds ? args.record->loss_sum : 0.0) + sum;
    args.record->count = (adds ? args.record->count : 0) + count;
    args.record->status = *args.status;
}

// --- launchers

namespace {

template <class S, int kVec>
Launch softmax_launch(const CrossEntropyArgs& args) {
    const bool warp_row = args.classes <= kWarpClasses;
    const std::int64_t blocks = warp_row ? blocks_for(args.rows, kWarpRows) : args.rows;
    const std::int64_t used = blocks < 1 ? 1 : blocks > kMaxFlatBlocks ? kMaxFlatBlocks : blocks;
    return make_launch(
        "softmax_xent",
        warp_row ? &softmax_xent_kernel<S, kVec, true> : &softmax_xent_kernel<S, kVec, false>, args,
        {static_cast<unsigned>(used), 1, 1},
        warp_row ? Dim3{32, kWarpRows, 1} : Dim3{kRowBlock, 1, 1});
}

}  // namespace

Launch softmax_xent(const CrossEntropyArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        const bool packed =
            packs_fit(args.logits, args.bias, args.dlogits) && args.classes % kPackSize<S> == 0;
        return packed ? softmax_launch<S, kPackSize<S>>(args) : softmax_launch<S, 1>(args);
    });
}

Launch sum_losses(const SumLossesArgs& args) {
    return make_launch("sum_losses", &sum_losses_kernel<kSumBlock>, args, {1, 1, 1},
                       {kSumBlock, 1, 1});
}

}  // namespace carousel::CAROUSEL_KERNELS
