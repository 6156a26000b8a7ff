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

/// What a thread of a block adds to in db: one column, and at most all of its slots, because blocks
/// are whole warps and a warp is as wide as a block's columns.
template <class A, int kSlots>
struct OwnSums {
    A db[kSlots > 0 ? kSlots : 1];
};

/// body(k, slot, unit of the block) for each element of db that is this thread's k-th.
template <int kSlots, class Body>
__device__ __forceinline__ void for_own_sums(const SumTargets& to, const Body& body) {
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
    const unsigned unit = thread % kStepUnits;
    const int warp = static_cast<int>(thread / kStepUnits);
    const int warps = static_cast<int>(blockDim.x * blockDim.y / kStepUnits);
    if (static_cast<std::int64_t>(blockIdx.x) * kStepUnits + unit >= to.columns) return;
#pragma unroll
    for (int k = 0; k < kSlots; ++k) {
        const int slot = warp + k * warps;
        if (slot < kSlots) body(k, slot, unit);
    }
}

/// The running sums that the block will add to. Fetched before its rows: read at the end, one after
/// the other because each store may be the next one's address, they would be what a step waits for.
template <int kSlots, class A>
__device__ __forceinline__ OwnSums<A, kSlots> fetch_sums(const SumTargets& to) {
    OwnSums<A, kSlots> before = {};
    if (to.db == nullptr) return before;
    const A* db = static_cast<const A*>(to.db) + static_cast<std::int64_t>(blockIdx.x) * kStepUnits;
    for_own_sums<kSlots>(
        to, [&](int k, int slot, unsigned unit) { before.db[k] = db[slot * to.columns + unit]; });
    return before;
}

/// Adds the sums of a block's thread rows in the order of the rows, then to what db was before; the
/// norm's columns are added by a tree of one warp. The order depends on sizes alone, not on V. All
/// threads must call.
template <int kSlots, class A, int V>
__device__ __forceinline__ void reduce_block(Pack<A, V>* shared, const StepSums<A, V, kSlots>& sums,
                                             const SumTargets& to,
                                             const OwnSums<A, kSlots>& before) {
    if (to.db == nullptr && to.norm_partials == nullptr) return;  // the same in the whole block
    constexpr int kPacks = kStepUnits / V;
#pragma unroll
    for (int slot = 0; slot <= kSlots; ++slot) {
        shared[(slot * kMaxBlockRows + threadIdx.y) * kPacks + threadIdx.x] =
            slot < kSlots ? sums.db[slot < kSlots ? slot : 0] : sums.norm;
    }
    __syncthreads();
    const A* values = reinterpret_cast<const A*>(shared);
    const auto sum_rows = [&](int slot, unsigned unit) {
        A sum(0);
#pragma unroll 1
        for (unsigned y = 0; y < blockDim.y; y += kMinBlockRows) {
#pragma unroll
            for (unsigned r = 0; r < kMinBlockRows; ++r) {
                sum += values[(slot * kMaxBlockRows + y + r) * kStepUnits + unit];
            }
        }
        return sum;
    };
    if (to.db != nullptr) {
        A* db = static_cast<A*>(to.db) + static_cast<std::int64_t>(blockIdx.x) * kStepUnits;
        for_own_sums<kSlots>(to, [&](int k, int slot, unsigned unit) {
            db[slot * to.columns + unit] = before.db[k] + sum_rows(slot, unit);
        });
    }
    // The smallest block is one warp, so the first one is always whole.
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
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
