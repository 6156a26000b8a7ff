#pragma once

// Software twins of the instructions in kernels/cuda/ptx.cuh, with the same names and meaning, from a
// reading of the PTX ISA. Results of an mma are rounded once, from sums in double precision; a card
// rounds in an order of its own.

#include <bit>
#include <cstdint>
#include <cstring>

#include "simt/device_shim.hpp"
#include "simt/ptx_runtime.hpp"

namespace carousel::simt {

/// d += a b of a whole warp; fragments as the PTX ISA lays them out.
struct MmaPayload {
    float* d;
    const std::uint32_t* a;
    const std::uint32_t* b;
};
template <class Element>
void mma_body(void* const payloads[32], unsigned) {
    const auto element = [](std::uint32_t word, int part) {
        const auto bits = static_cast<std::uint16_t>(word >> (16 * part));
        return static_cast<double>(Element::to_float(bits));
    };
    double a[16][16], b[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        const auto* payload = static_cast<const MmaPayload*>(payloads[lane]);
        const int group = lane / 4, pair = lane % 4 * 2;
        for (int part = 0; part < 2; ++part) {
            for (int i = 0; i < 4; ++i) {
                a[group + i % 2 * 8][pair + part + i / 2 * 8] = element(payload->a[i], part);
            }
            for (int i = 0; i < 2; ++i) {
                b[pair + part + i * 8][group] = element(payload->b[i], part);
            }
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        const auto* payload = static_cast<const MmaPayload*>(payloads[lane]);
        for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            double sum = payload->d[i];
            for (int k = 0; k < 16; ++k) {
                sum += a[row][k] * b[k][column];
            }
            payload->d[i] = static_cast<float>(sum);
        }
    }
}
struct Bf16Bits {
    static float to_float(std::uint16_t bits) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
};
struct F16Bits {
    static float to_float(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
};

struct MatrixPayload {
    std::uint16_t row[8];
    std::uint32_t* r;
    int matrices;
    bool transposed;
};
inline void load_matrix_body(void* const payloads[32], unsigned) {
    for (int lane = 0; lane < 32; ++lane) {
        const auto* mine = static_cast<const MatrixPayload*>(payloads[lane]);
        for (int matrix = 0; matrix < mine->matrices; ++matrix) {
            std::uint32_t word = 0;
            for (int part = 0; part < 2; ++part) {
                int row = lane / 4, column = lane % 4 * 2 + part;
                if (mine->transposed) {
                    std::swap(row, column);
                }
                const auto* owner = static_cast<const MatrixPayload*>(payloads[matrix * 8 + row]);
                word |= static_cast<std::uint32_t>(owner->row[column]) << (16 * part);
            }
            mine->r[matrix] = word;
        }
    }
}
CAROUSEL_SIMT_PLAIN inline void load_matrix(std::uint32_t* r, int matrices, bool transposed,
                                            const void* row, SourceLocation at) {
    static constexpr WarpOperation kOperation{"ldmatrix", &load_matrix_body, false, true, true};
    MatrixPayload payload{{}, r, matrices, transposed};
    const auto address = reinterpret_cast<std::uintptr_t>(row);
    if (lane_id() < static_cast<unsigned>(8 * matrices)) {
        if (address % 16 != 0) {
            fail("ldmatrix: a row that is not aligned to 16 bytes", at);
        }
        device_access(address, 16, false, at);
        std::memcpy(payload.row, row, sizeof(payload.row));
    }
    warp_collective(kOperation, 0xFFFFFFFFU, &payload, at);
}

}  // namespace carousel::simt

namespace carousel::cuda_simt::ptx {

using simt::Scope;
using SharedAddress = std::uintptr_t;

#define CAROUSEL_TWIN_AT simt::SourceLocation at = simt::SourceLocation::current()

template <Scope kScope, class T>
T load_relaxed(const T* address, CAROUSEL_TWIN_AT) {
    return simt::strong_load(address, simt::Order::kRelaxed, kScope, at);
}
template <Scope kScope, class T>
T load_acquire(const T* address, CAROUSEL_TWIN_AT) {
    return simt::strong_load(address, simt::Order::kAcquire, kScope, at);
}
template <Scope kScope, class T>
void store_relaxed(T* address, std::type_identity_t<T> value, CAROUSEL_TWIN_AT) {
    simt::strong_store(address, value, simt::Order::kRelaxed, kScope, at);
}
template <Scope kScope, class T>
void store_release(T* address, std::type_identity_t<T> value, CAROUSEL_TWIN_AT) {
    simt::strong_store(address, value, simt::Order::kRelease, kScope, at);
}
#define CAROUSEL_TWIN_ADD(name, order)                                                         \
    template <Scope kScope>                                                                    \
    std::uint32_t name(std::uint32_t* address, std::uint32_t value, CAROUSEL_TWIN_AT) {        \
        return simt::atomic_update(                                                            \
            address, [&](std::uint32_t before) { return before + value; }, simt::Order::order, \
            kScope, at);                                                                       \
    }
CAROUSEL_TWIN_ADD(add_relaxed, kRelaxed)
CAROUSEL_TWIN_ADD(add_release, kRelease)
CAROUSEL_TWIN_ADD(add_acq_rel, kAcquireRelease)
#undef CAROUSEL_TWIN_ADD
inline uint4 load_relaxed_16(const uint4* address, CAROUSEL_TWIN_AT) {
    return simt::strong_load(address, simt::Order::kRelaxed, Scope::kDevice, at);
}
inline void store_relaxed_16(uint4* address, uint4 value, CAROUSEL_TWIN_AT) {
    simt::strong_store(address, value, simt::Order::kRelaxed, Scope::kDevice, at);
}

template <Scope kScope>
void fence_acq_rel() {
    simt::fence(kScope);
}
inline void fence_proxy_async() { simt::proxy_fence(); }
inline void fence_mbarrier_init() { simt::mbarrier_init_fence(); }

inline void bar_sync(unsigned id, unsigned count, CAROUSEL_TWIN_AT) {
    simt::barrier(id, count, true, 0, at);
}
inline void bar_arrive(unsigned id, unsigned count, CAROUSEL_TWIN_AT) {
    simt::barrier(id, count, false, 0, at);
}

inline unsigned cluster_rank() { return simt::cluster_rank(); }
inline unsigned cluster_size() { return simt::cluster_size(); }
inline void cluster_arrive(CAROUSEL_TWIN_AT) { simt::cluster_arrive(true, at); }
inline void cluster_arrive_relaxed(CAROUSEL_TWIN_AT) { simt::cluster_arrive(false, at); }
inline void cluster_wait(CAROUSEL_TWIN_AT) { simt::cluster_wait(at); }
inline SharedAddress shared_address(const void* p) { return reinterpret_cast<SharedAddress>(p); }
inline SharedAddress map_to_rank(SharedAddress address, unsigned rank, CAROUSEL_TWIN_AT) {
    return simt::map_to_rank(address, rank, at);
}
CAROUSEL_SIMT_PLAIN inline std::uint32_t load_cluster(SharedAddress address, CAROUSEL_TWIN_AT) {
    simt::device_access(address, sizeof(std::uint32_t), false, at);
    return *reinterpret_cast<const std::uint32_t*>(address);
}
CAROUSEL_SIMT_PLAIN inline void store_cluster(SharedAddress address, std::uint32_t value,
                                              CAROUSEL_TWIN_AT) {
    simt::device_access(address, sizeof(std::uint32_t), true, at);
    *reinterpret_cast<std::uint32_t*>(address) = value;
}

inline void mbarrier_init(std::uint64_t* barrier, unsigned arrivals, CAROUSEL_TWIN_AT) {
    simt::mbarrier_init(shared_address(barrier), arrivals, at);
}
inline void mbarrier_invalidate(std::uint64_t* barrier, CAROUSEL_TWIN_AT) {
    simt::mbarrier_invalidate(shared_address(barrier), at);
}
inline void mbarrier_arrive(std::uint64_t* barrier, CAROUSEL_TWIN_AT) {
    simt::mbarrier_arrive(shared_address(barrier), 0, Scope::kBlock, at);
}
inline void mbarrier_arrive_expect(std::uint64_t* barrier, unsigned bytes, CAROUSEL_TWIN_AT) {
    simt::mbarrier_arrive(shared_address(barrier), bytes, Scope::kBlock, at);
}
template <Scope kScope>
void mbarrier_arrive_remote(SharedAddress barrier, CAROUSEL_TWIN_AT) {
    static_assert(kScope == Scope::kBlock || kScope == Scope::kCluster);
    simt::mbarrier_arrive(barrier, 0, kScope, at);
}
template <Scope kScope>
bool mbarrier_try_wait(std::uint64_t* barrier, unsigned parity, CAROUSEL_TWIN_AT) {
    static_assert(kScope == Scope::kBlock || kScope == Scope::kCluster);
    return simt::mbarrier_try_wait(shared_address(barrier), parity, kScope, at);
}
template <Scope kScope>
void mbarrier_wait(std::uint64_t* barrier, unsigned parity, CAROUSEL_TWIN_AT) {
    while (!mbarrier_try_wait<kScope>(barrier, parity, at)) {
    }
}

inline void store_async(SharedAddress to, std::uint32_t value, SharedAddress barrier,
                        CAROUSEL_TWIN_AT) {
    simt::store_async(to, &value, sizeof(value), barrier, at);
}
inline void store_async_16(SharedAddress to, uint4 value, SharedAddress barrier, CAROUSEL_TWIN_AT) {
    simt::store_async(to, &value, sizeof(value), barrier, at);
}
inline void bulk_load(void* to, const void* from, unsigned bytes, std::uint64_t* barrier,
                      CAROUSEL_TWIN_AT) {
    simt::bulk_copy(shared_address(to), shared_address(from), bytes, shared_address(barrier), at);
}
inline void bulk_push(SharedAddress to, const void* from, unsigned bytes, SharedAddress barrier,
                      CAROUSEL_TWIN_AT) {
    simt::bulk_copy(to, shared_address(from), bytes, barrier, at);
}
inline void bulk_store(void* to, const void* from, unsigned bytes, CAROUSEL_TWIN_AT) {
    simt::bulk_store(shared_address(to), shared_address(from), bytes, at);
}
inline void bulk_commit() { simt::bulk_commit(); }
template <int kPending>
void bulk_wait() {
    simt::bulk_wait(kPending);
}

template <int kBytes>
void copy_async(void* to, const void* from, unsigned valid = kBytes, CAROUSEL_TWIN_AT) {
    static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
    simt::copy_async(shared_address(to), shared_address(from), kBytes, valid, at);
}
inline void copy_async_commit() { simt::copy_async_commit(); }
template <int kPending>
void copy_async_wait() {
    simt::copy_async_wait(kPending);
}

inline void load_matrix_x4(std::uint32_t (&r)[4], const void* row, CAROUSEL_TWIN_AT) {
    simt::load_matrix(r, 4, false, row, at);
}
inline void load_matrix_x2(std::uint32_t (&r)[2], const void* row, CAROUSEL_TWIN_AT) {
    simt::load_matrix(r, 2, false, row, at);
}
inline void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* row, CAROUSEL_TWIN_AT) {
    simt::load_matrix(r, 4, true, row, at);
}
inline void load_matrix_x2_transposed(std::uint32_t (&r)[2], const void* row, CAROUSEL_TWIN_AT) {
    simt::load_matrix(r, 2, true, row, at);
}
inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                     CAROUSEL_TWIN_AT) {
    static constexpr simt::WarpOperation kOperation{
        "mma.m16n8k16.bf16", &simt::mma_body<simt::Bf16Bits>, false, true, true};
    simt::MmaPayload payload{d, a, b};
    simt::warp_collective(kOperation, 0xFFFFFFFFU, &payload, at);
}
inline void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                    CAROUSEL_TWIN_AT) {
    static constexpr simt::WarpOperation kOperation{
        "mma.m16n8k16.f16", &simt::mma_body<simt::F16Bits>, false, true, true};
    simt::MmaPayload payload{d, a, b};
    simt::warp_collective(kOperation, 0xFFFFFFFFU, &payload, at);
}
inline std::uint64_t global_timer_ns(CAROUSEL_TWIN_AT) {
    simt::pause(at);
    return simt::clock_ns();
}

#undef CAROUSEL_TWIN_AT

}  // namespace carousel::cuda_simt::ptx
