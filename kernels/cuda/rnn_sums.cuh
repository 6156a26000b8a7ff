#pragma once

// Partial sums that a backward step leaves behind: bias gradients by column, the norm of dh by block.

#include "kernels/cuda/rnn_step.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

/// Sums over the rows that one thread has worked on.
template <class A, int V, int kSlots>
struct StepSums {
    Pack<A, V> db[kSlots > 0 ? kSlots : 1];
    Pack<A, V> norm;  ///< of dh^2

    __device__ __forceinline__ StepSums() : norm(zero<A, V>()) {
        for (Pack<A, V>& slot : db) slot = zero<A, V>();
    }
    __device__ __forceinline__ void add_norm(const Pack<A, V>& dh) {
#pragma unroll
        for (int v = 0; v < V; ++v) norm.at[v] += dh.at[v] * dh.at[v];
    }
};

/// Where the sums of a block go. `db` is the address of slot 0 in the block's row.
struct SumTargets {
    void* db = nullptr;
    std::int64_t columns = 0;  ///< of one slot
    void* norm_partials = nullptr;
};

/// Packs of shared memory that reduce_block needs.
template <int V, int kSlots>
inline constexpr int kSumPacks = (kSlots + 1) * kMaxBlockRows* kStepUnits / V;

/// Adds the sums of a block's thread rows in the order of the rows, then to db; the norm's columns are
/// added by a tree of one warp. The order depends on sizes alone, not on V. All threads must call.
template <int kSlots, class A, int V>
__device__ __forceinline__ void reduce_block(Pack<A, V>* shared, const StepSums<A, V, kSlots>& sums,
                                             const SumTargets& to) {
    if (to.db == nullptr && to.norm_partials == nullptr) return;  // the same in the whole block
    constexpr int kPacks = kStepUnits / V;
#pragma unroll
    for (int slot = 0; slot <= kSlots; ++slot) {
        shared[(slot * kMaxBlockRows + threadIdx.y) * kPacks + threadIdx.x] =
            slot < kSlots ? sums.db[slot < kSlots ? slot : 0] : sums.norm;
    }
    __syncthreads();
    const A* values = reinterpret_cast<const A*>(shared);
    const auto sum_rows = [&](int slot, int unit) {
        A sum(0);
        for (unsigned y = 0; y < blockDim.y; ++y) {
            sum += values[(slot * kMaxBlockRows + y) * kStepUnits + unit];
        }
        return sum;
    };
    const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
    if (to.db != nullptr) {
        const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kStepUnits;
        for (int i = thread; i < kSlots * kStepUnits;
             i += static_cast<int>(blockDim.x * blockDim.y)) {
            const std::int64_t unit = first + i % kStepUnits;
            if (unit < to.columns) {
                static_cast<A*>(to.db)[i / kStepUnits * to.columns + unit] +=
                    sum_rows(i / kStepUnits, i % kStepUnits);
            }
        }
    }
    // The smallest block is one warp, so the first one is always whole.
    if (to.norm_partials != nullptr && thread < kStepUnits) {
        A sum = sum_rows(kSlots, thread);
        for (int distance = kStepUnits / 2; distance > 0; distance /= 2) {
            sum += __shfl_xor_sync(0xffffffffU, sum, distance);
        }
        if (thread == 0) {
            static_cast<A*>(
                to.norm_partials)[static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] =
                sum;
        }
    }
}

/// Targets of a cell kernel whose sums fill slots [first_slot, ...) of `grad_slots` in a row.
template <class A>
__device__ __forceinline__ SumTargets cell_targets(const CellBackwardPart& part,
                                                   std::int64_t hidden_size, int grad_slots,
                                                   int first_slot = 0) {
    SumTargets to;
    to.columns = hidden_size;
    if (part.db_partials != nullptr) {
        to.db = static_cast<A*>(part.db_partials) +
                (static_cast<std::int64_t>(blockIdx.y) * grad_slots + first_slot) * hidden_size;
    }
    to.norm_partials = part.in.norm_partials;
    return to;
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
