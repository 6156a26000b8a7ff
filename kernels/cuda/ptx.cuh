#pragma once

// Every PTX instruction that the kernels write by hand, as a thin function each. Under CAROUSEL_SIMT
// the same names come from the executor's exact twins (simt/ptx_twin.hpp); both are held together by
// the conformance kernels of conformance.cu. The switch is CAROUSEL_SIMT and not __CUDA_ARCH__: nvcc's
// host pass must parse this branch, too.
//
//   Scope            who must see a strong access: block (.cta), cluster, device (.gpu), system
//   SharedAddress    shared memory of this block or, mapped, of another block of the cluster
//   mbarrier         8 bytes of shared memory, aligned to 8; a phase completes when all arrivals and
//                    all expected bytes have come
//
// What an mma's lanes hold, bulk copies' alignment (16 bytes, sizes in 16s) and the rules of fences
// and proxies are those of the PTX ISA, sections "mma.m16n8k16", "cp.async.bulk", "Memory Consistency
// Model". Clusters, st.async and bulk copies need sm_90.

#include "kernels/cuda/device.cuh"

#if defined(CAROUSEL_SIMT)

#include "simt/ptx_twin.hpp"

#else

// Instructions of sm_90 in the code for older cards, which never launch a kernel that has them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define CAROUSEL_PTX_SM90(...) __trap()
#else
#define CAROUSEL_PTX_SM90(...) asm volatile(__VA_ARGS__)
#endif

namespace carousel::cuda::ptx {

enum class Scope { kBlock, kCluster, kDevice, kSystem };
using SharedAddress = std::uint32_t;

// Strong loads and stores of 4- and 8-byte unsigned values in global memory.

#define CAROUSEL_PTX_FOR_SCOPE(scope, statement)           \
    do {                                                   \
        if constexpr ((scope) == Scope::kBlock) {          \
            statement("cta");                              \
        } else if constexpr ((scope) == Scope::kCluster) { \
            statement("cluster");                          \
        } else if constexpr ((scope) == Scope::kDevice) {  \
            statement("gpu");                              \
        } else {                                           \
            statement("sys");                              \
        }                                                  \
    } while (false)

#define CAROUSEL_PTX_LOAD(name, order)                                            \
    template <Scope kScope>                                                       \
    __device__ __forceinline__ std::uint32_t name(const std::uint32_t* address) { \
        std::uint32_t value;                                                      \
        CAROUSEL_PTX_FOR_SCOPE(kScope, CAROUSEL_PTX_LOAD_32_##order);             \
        return value;                                                             \
    }                                                                             \
    template <Scope kScope>                                                       \
    __device__ __forceinline__ std::uint64_t name(const std::uint64_t* address) { \
        std::uint64_t value;                                                      \
        CAROUSEL_PTX_FOR_SCOPE(kScope, CAROUSEL_PTX_LOAD_64_##order);             \
        return value;                                                             \
    }
#define CAROUSEL_PTX_LOAD_TEXT(instruction, result)       \
    asm volatile(instruction " %0, [%1];"                 \
                 : result(value)                          \
                 : "l"(__cvta_generic_to_global(address)) \
                 : "memory")
#define CAROUSEL_PTX_LOAD_32_relaxed(scope) \
    CAROUSEL_PTX_LOAD_TEXT("ld.relaxed." scope ".global.u32", "=r")
#define CAROUSEL_PTX_LOAD_32_acquire(scope) \
    CAROUSEL_PTX_LOAD_TEXT("ld.acquire." scope ".global.u32", "=r")
#define CAROUSEL_PTX_LOAD_64_relaxed(scope) \
    CAROUSEL_PTX_LOAD_TEXT("ld.relaxed." scope ".global.u64", "=l")
#define CAROUSEL_PTX_LOAD_64_acquire(scope) \
    CAROUSEL_PTX_LOAD_TEXT("ld.acquire." scope ".global.u64", "=l")
CAROUSEL_PTX_LOAD(load_relaxed, relaxed)
CAROUSEL_PTX_LOAD(load_acquire, acquire)

#define CAROUSEL_PTX_STORE(name, order)                                                 \
    template <Scope kScope>                                                             \
    __device__ __forceinline__ void name(std::uint32_t* address, std::uint32_t value) { \
        CAROUSEL_PTX_FOR_SCOPE(kScope, CAROUSEL_PTX_STORE_32_##order);                  \
    }                                                                                   \
    template <Scope kScope>                                                             \
    __device__ __forceinline__ void name(std::uint64_t* address, std::uint64_t value) { \
        CAROUSEL_PTX_FOR_SCOPE(kScope, CAROUSEL_PTX_STORE_64_##order);                  \
    }
#define CAROUSEL_PTX_STORE_TEXT(instruction, operand)                                              \
    asm volatile(instruction " [%0], %1;" ::"l"(__cvta_generic_to_global(address)), operand(value) \
                 : "memory")
#define CAROUSEL_PTX_STORE_32_relaxed(scope) \
    CAROUSEL_PTX_STORE_TEXT("st.relaxed." scope ".global.u32", "r")
#define CAROUSEL_PTX_STORE_32_release(scope) \
    CAROUSEL_PTX_STORE_TEXT("st.release." scope ".global.u32", "r")
#define CAROUSEL_PTX_STORE_64_relaxed(scope) \
    CAROUSEL_PTX_STORE_TEXT("st.relaxed." scope ".global.u64", "l")
#define CAROUSEL_PTX_STORE_64_release(scope) \
    CAROUSEL_PTX_STORE_TEXT("st.release." scope ".global.u64", "l")
CAROUSEL_PTX_STORE(store_relaxed, relaxed)
CAROUSEL_PTX_STORE(store_release, release)

/// Adds, and returns the value before.
#define CAROUSEL_PTX_ADD(name, order)                                                            \
    template <Scope kScope>                                                                      \
    __device__ __forceinline__ std::uint32_t name(std::uint32_t* address, std::uint32_t value) { \
        std::uint32_t before;                                                                    \
        CAROUSEL_PTX_FOR_SCOPE(kScope, CAROUSEL_PTX_ADD_##order);                                \
        return before;                                                                           \
    }
#define CAROUSEL_PTX_ADD_TEXT(order, scope)                              \
    asm volatile("atom." order "." scope ".global.add.u32 %0, [%1], %2;" \
                 : "=r"(before)                                          \
                 : "l"(__cvta_generic_to_global(address)), "r"(value)    \
                 : "memory")
#define CAROUSEL_PTX_ADD_relaxed(scope) CAROUSEL_PTX_ADD_TEXT("relaxed", scope)
#define CAROUSEL_PTX_ADD_release(scope) CAROUSEL_PTX_ADD_TEXT("release", scope)
#define CAROUSEL_PTX_ADD_acq_rel(scope) CAROUSEL_PTX_ADD_TEXT("acq_rel", scope)
CAROUSEL_PTX_ADD(add_relaxed, relaxed)
CAROUSEL_PTX_ADD(add_release, release)
CAROUSEL_PTX_ADD(add_acq_rel, acq_rel)

/// 16 bytes at once at device scope; each of the four values is strong by itself.
__device__ __forceinline__ uint4 load_relaxed_16(const uint4* address) {
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(__cvta_generic_to_global(address))
                 : "memory");
    return v;
}
__device__ __forceinline__ void store_relaxed_16(uint4* address, uint4 v) {
    asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(
                     __cvta_generic_to_global(address)),
                 "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

// Fences.

template <Scope kScope>
__device__ __forceinline__ void fence_acq_rel() {
#define CAROUSEL_PTX_FENCE(scope) asm volatile("fence.acq_rel." scope ";" ::: "memory")
    CAROUSEL_PTX_FOR_SCOPE(kScope, CAROUSEL_PTX_FENCE);
#undef CAROUSEL_PTX_FENCE
}
/// Between generic accesses to this block's shared memory and those of bulk copies and warpgroup
/// products to the same. Not for global memory: a fence of both waits for all of the thread's
/// stores, as one of device scope does.
__device__ __forceinline__ void fence_proxy_async() {
    CAROUSEL_PTX_SM90("fence.proxy.async.shared::cta;" ::: "memory");
}
/// After mbarrier_init, before a relaxed cluster barrier that publishes it.
__device__ __forceinline__ void fence_mbarrier_init() {
    CAROUSEL_PTX_SM90("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Named barriers of the block; `count` threads, a multiple of 32.

__device__ __forceinline__ void bar_sync(unsigned id, unsigned count) {
    asm volatile("barrier.cta.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
__device__ __forceinline__ void bar_arrive(unsigned id, unsigned count) {
    asm volatile("barrier.cta.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}

// Clusters.

__device__ __forceinline__ unsigned cluster_rank() {
    unsigned rank = 0;
    CAROUSEL_PTX_SM90("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ __forceinline__ unsigned cluster_size() {
    unsigned size = 0;
    CAROUSEL_PTX_SM90("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}
__device__ __forceinline__ void cluster_arrive() {
    CAROUSEL_PTX_SM90("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_arrive_relaxed() {
    CAROUSEL_PTX_SM90("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
    CAROUSEL_PTX_SM90("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ SharedAddress shared_address(const void* p) {
    return static_cast<SharedAddress>(__cvta_generic_to_shared(p));
}
/// The same place in the shared memory of block `rank` of the cluster.
__device__ __forceinline__ SharedAddress map_to_rank(SharedAddress address, unsigned rank) {
    SharedAddress mapped = 0;
    CAROUSEL_PTX_SM90("mapa.shared::cluster.u32 %0, %1, %2;"
                      : "=r"(mapped)
                      : "r"(address), "r"(rank));
    return mapped;
}
__device__ __forceinline__ std::uint32_t load_cluster(SharedAddress address) {
    std::uint32_t value = 0;
    CAROUSEL_PTX_SM90("ld.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
    return value;
}
__device__ __forceinline__ void store_cluster(SharedAddress address, std::uint32_t value) {
    CAROUSEL_PTX_SM90("st.shared::cluster.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

// mbarriers.

__device__ __forceinline__ void mbarrier_init(std::uint64_t* barrier, unsigned arrivals) {
    CAROUSEL_PTX_SM90("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                      "r"(arrivals)
                      : "memory");
}
__device__ __forceinline__ void mbarrier_invalidate(std::uint64_t* barrier) {
    CAROUSEL_PTX_SM90("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(barrier))
                      : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(std::uint64_t* barrier) {
    CAROUSEL_PTX_SM90(
        "mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
        : "memory");
}
/// Arrives, and makes the phase wait for `bytes` more.
__device__ __forceinline__ void mbarrier_arrive_expect(std::uint64_t* barrier, unsigned bytes) {
    CAROUSEL_PTX_SM90("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(
                          shared_address(barrier)),
                      "r"(bytes)
                      : "memory");
}
/// Arrives at a barrier of any block of the cluster; `kScope` must be the cluster for another block's
/// threads to see what was written before.
template <Scope kScope>
__device__ __forceinline__ void mbarrier_arrive_remote(SharedAddress barrier) {
    static_assert(kScope == Scope::kBlock || kScope == Scope::kCluster);
    if constexpr (kScope == Scope::kCluster) {
        CAROUSEL_PTX_SM90(
            "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier)
            : "memory");
    } else {
        CAROUSEL_PTX_SM90("mbarrier.arrive.release.cta.shared::cluster.b64 _, [%0];" ::"r"(barrier)
                          : "memory");
    }
}
/// Whether the phase of this parity has completed; may wait a while for it. A fresh barrier is in
/// phase 0, so waiting for parity 1 returns at once.
template <Scope kScope>
__device__ __forceinline__ bool mbarrier_try_wait(std::uint64_t* barrier, unsigned parity) {
    static_assert(kScope == Scope::kBlock || kScope == Scope::kCluster);
    std::uint32_t done = 0;
    if constexpr (kScope == Scope::kCluster) {
        CAROUSEL_PTX_SM90(
            "{\n.reg .pred p;\n"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
            "selp.u32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    } else {
        CAROUSEL_PTX_SM90(
            "{\n.reg .pred p;\n"
            "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
            "selp.u32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
    }
    return done != 0;
}
template <Scope kScope>
__device__ __forceinline__ void mbarrier_wait(std::uint64_t* barrier, unsigned parity) {
    while (!mbarrier_try_wait<kScope>(barrier, parity)) {
    }
}

// Stores and copies that complete later.

/// Writes to shared memory of the cluster, and completes as many bytes on that block's barrier.
__device__ __forceinline__ void store_async(SharedAddress to, std::uint32_t value,
                                            SharedAddress barrier) {
    CAROUSEL_PTX_SM90(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(to),
        "r"(value), "r"(barrier)
        : "memory");
}
__device__ __forceinline__ void store_async_16(SharedAddress to, uint4 v, SharedAddress barrier) {
    CAROUSEL_PTX_SM90(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, "
        "[%5];" ::"r"(to),
        "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier)
        : "memory");
}
/// Global to this block's shared memory; completes on `barrier`.
__device__ __forceinline__ void bulk_load(void* to, const void* from, unsigned bytes,
                                          std::uint64_t* barrier) {
    CAROUSEL_PTX_SM90(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
        "[%3];" ::"r"(shared_address(to)),
        "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
}
/// This block's shared memory to that of another of the cluster; completes on a barrier over there.
__device__ __forceinline__ void bulk_push(SharedAddress to, const void* from, unsigned bytes,
                                          SharedAddress barrier) {
    CAROUSEL_PTX_SM90(
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, "
        "[%3];" ::"r"(to),
        "r"(shared_address(from)), "r"(bytes), "r"(barrier)
        : "memory");
}
/// Shared to global memory, in groups of the thread.
__device__ __forceinline__ void bulk_store(void* to, const void* from, unsigned bytes) {
    CAROUSEL_PTX_SM90("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(
                          __cvta_generic_to_global(to)),
                      "r"(shared_address(from)), "r"(bytes)
                      : "memory");
}
__device__ __forceinline__ void bulk_commit() {
    CAROUSEL_PTX_SM90("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until at most `kPending` groups are not complete.
template <int kPending>
__device__ __forceinline__ void bulk_wait() {
    CAROUSEL_PTX_SM90("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

/// `kBytes` (4, 8 or 16) from global to shared memory, of which `valid` are read and the rest zero.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* to, const void* from, unsigned valid = kBytes) {
    static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
    if constexpr (kBytes == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                     "l"(__cvta_generic_to_global(from)), "r"(valid)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)),
                     "l"(__cvta_generic_to_global(from)), "n"(kBytes), "r"(valid)
                     : "memory");
    }
}
__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Matrix fragments.

/// Four 8x8 matrices of 16-bit elements; lane l names row l%8 of matrix l/8.
__device__ __forceinline__ void load_matrix_x4(std::uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void load_matrix_x2(std::uint32_t (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}
/// Each matrix transposed on its way.
__device__ __forceinline__ void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void load_matrix_x2_transposed(std::uint32_t (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

/// d += a b, m16n8k16, f32 sums.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4],
                                         const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_f16(float (&d)[4], const std::uint32_t (&a)[4],
                                        const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// The card's clock in nanoseconds, for spins that must end.
__device__ __forceinline__ std::uint64_t global_timer_ns() {
    std::uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    return now;
}

#undef CAROUSEL_PTX_SM90
#undef CAROUSEL_PTX_FOR_SCOPE
#undef CAROUSEL_PTX_LOAD
#undef CAROUSEL_PTX_LOAD_TEXT
#undef CAROUSEL_PTX_LOAD_32_relaxed
#undef CAROUSEL_PTX_LOAD_32_acquire
#undef CAROUSEL_PTX_LOAD_64_relaxed
#undef CAROUSEL_PTX_LOAD_64_acquire
#undef CAROUSEL_PTX_STORE
#undef CAROUSEL_PTX_STORE_TEXT
#undef CAROUSEL_PTX_STORE_32_relaxed
#undef CAROUSEL_PTX_STORE_32_release
#undef CAROUSEL_PTX_STORE_64_relaxed
#undef CAROUSEL_PTX_STORE_64_release
#undef CAROUSEL_PTX_ADD
#undef CAROUSEL_PTX_ADD_TEXT
#undef CAROUSEL_PTX_ADD_relaxed
#undef CAROUSEL_PTX_ADD_release
#undef CAROUSEL_PTX_ADD_acq_rel

}  // namespace carousel::cuda::ptx

#endif
