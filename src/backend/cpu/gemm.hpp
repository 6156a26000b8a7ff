#pragma once

#include <cstdint>

#include "carousel/device.hpp"

namespace carousel::cpu {

/// C[m,n] = alpha * op(A)[m,k] * op(B)[k,n] + beta * C, row-major; op transposes where asked.
/// beta == 0 never reads C.
template <class T>
struct Gemm {
    bool trans_a = false, trans_b = false;
    std::int64_t m = 0, n = 0, k = 0;
    T alpha = T(1);
    const T* a = nullptr;
    std::int64_t lda = 0;  ///< row stride of A as stored ([m,k], or [k,m] if trans_a)
    const T* b = nullptr;
    std::int64_t ldb = 0;
    T beta = T(0);
    T* c = nullptr;
    std::int64_t ldc = 0;
};

/// The whole product on the calling thread: oneDNN sgemm for f32 (its OpenMP team held at one thread
/// for the call), Eigen for f64. Both may allocate transient packing buffers; where oneDNN gets none,
/// gemm_loops does its work.
void gemm_serial(const Gemm<float>& gemm) noexcept;
void gemm_serial(const Gemm<double>& gemm) noexcept;

/// The same by plain loops, which allocate nothing and take many times as long.
template <class T>
void gemm_loops(const Gemm<T>& gemm) noexcept;

/// The share of member `tid` of `num_threads`: a slice of rows or columns of C. Called by all
/// members inside one parallel region; no barrier inside. Bits depend on num_threads only.
template <class T>
void gemm_team(const Gemm<T>& gemm, int tid, int num_threads) noexcept;

/// All of it, on the pool.
template <class T>
void gemm(ThreadPool& pool, const Gemm<T>& gemm) noexcept;

}  // namespace carousel::cpu
