#include "src/backend/cpu/gemm.hpp"

#include <dnnl.h>

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "src/backend/cpu/thread_pool.hpp"

// From the OpenMP runtime that oneDNN was built with; Carousel itself uses no OpenMP.
extern "C" void omp_set_num_threads(int);
extern "C" int omp_get_max_threads(void);

namespace carousel::cpu {

namespace {

/// Holds the calling thread's OpenMP team at one thread, and gives back what the caller had set.
class SingleOmpThread {
public:
    SingleOmpThread() noexcept : before_(omp_get_max_threads()) {
        if (before_ != 1) omp_set_num_threads(1);
    }
    ~SingleOmpThread() {
        if (before_ != 1) omp_set_num_threads(before_);
    }
    SingleOmpThread(const SingleOmpThread&) = delete;
    SingleOmpThread& operator=(const SingleOmpThread&) = delete;

private:
    int before_;
};

}  // namespace

template <class T>
void gemm_loops(const Gemm<T>& g) noexcept {
    const std::int64_t a_row = g.trans_a ? 1 : g.lda, a_term = g.trans_a ? g.lda : 1;
    const std::int64_t b_term = g.trans_b ? 1 : g.ldb, b_column = g.trans_b ? g.ldb : 1;
    for (std::int64_t row = 0; row < g.m; ++row) {
        for (std::int64_t column = 0; column < g.n; ++column) {
            T sum(0);
            for (std::int64_t term = 0; term < g.k; ++term) {
                sum += g.a[row * a_row + term * a_term] * g.b[term * b_term + column * b_column];
            }
            T& c = g.c[row * g.ldc + column];
            c = g.alpha * sum + (g.beta == T(0) ? T(0) : g.beta * c);
        }
    }
}

void gemm_serial(const Gemm<float>& g) noexcept {
    if (g.m <= 0 || g.n <= 0) return;
    if (g.k > 0) {
        const SingleOmpThread guard;
        const dnnl_status_t status =
            dnnl_sgemm(g.trans_a ? 'T' : 'N', g.trans_b ? 'T' : 'N', g.m, g.n, g.k, g.alpha, g.a,
                       g.lda, g.b, g.ldb, g.beta, g.c, g.ldc);
        if (status == dnnl_success) return;
        // Its packing buffers found no memory.
    }
    gemm_loops(g);
}

void gemm_serial(const Gemm<double>& g) noexcept {
    if (g.m <= 0 || g.n <= 0) return;
    using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using Stride = Eigen::OuterStride<>;
    Eigen::Map<Matrix, 0, Stride> c(g.c, g.m, g.n, Stride(g.ldc));
    if (g.beta == 0.0) {
        c.setZero();
    } else if (g.beta != 1.0) {
        c *= g.beta;
    }
    if (g.k <= 0) return;
    const Eigen::Map<const Matrix, 0, Stride> a(g.a, g.trans_a ? g.k : g.m, g.trans_a ? g.m : g.k,
                                                Stride(g.lda));
    const Eigen::Map<const Matrix, 0, Stride> b(g.b, g.trans_b ? g.n : g.k, g.trans_b ? g.k : g.n,
                                                Stride(g.ldb));
    if (g.trans_a && g.trans_b) {
        c.noalias() += g.alpha * a.transpose() * b.transpose();
    } else if (g.trans_a) {
        c.noalias() += g.alpha * a.transpose() * b;
    } else if (g.trans_b) {
        c.noalias() += g.alpha * a * b.transpose();
    } else {
        c.noalias() += g.alpha * a * b;
    }
}

template <class T>
void gemm_team(const Gemm<T>& g, int tid, int num_threads) noexcept {
    Gemm<T> part = g;
    // Columns of C are the vector dimension of the micro-kernels: split rows while every member keeps
    // enough of them to pay for packing B, else columns.
    constexpr std::int64_t kRowGrain = 8, kColumnGrain = 48, kRowsPerThread = 48;
    if (g.m >= g.n || g.m >= kRowsPerThread * 8 * num_threads || g.n < 2 * kColumnGrain) {
        const Span rows = split_evenly(g.m, tid, num_threads, kRowGrain);
        part.m = rows.size();
        part.a += g.trans_a ? rows.begin : rows.begin * g.lda;
        part.c += rows.begin * g.ldc;
    } else {
        const Span columns = split_evenly(g.n, tid, num_threads, kColumnGrain);
        part.n = columns.size();
        part.b += g.trans_b ? columns.begin * g.ldb : columns.begin;
        part.c += columns.begin;
    }
    gemm_serial(part);
}

template <class T>
void gemm(ThreadPool& pool, const Gemm<T>& g) noexcept {
    const int num_threads = pool.num_threads();
    // Below this a fork costs more than it saves (a region is about 1 us when the team is awake).
    if (num_threads == 1 ||
        static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k) < 3e4) {
        gemm_serial(g);
        return;
    }
    pool.impl().run([&](int tid) { gemm_team(g, tid, num_threads); });
}

template void gemm_loops(const Gemm<float>&) noexcept;
template void gemm_loops(const Gemm<double>&) noexcept;
template void gemm_team(const Gemm<float>&, int, int) noexcept;
template void gemm_team(const Gemm<double>&, int, int) noexcept;
template void gemm(ThreadPool&, const Gemm<float>&) noexcept;
template void gemm(ThreadPool&, const Gemm<double>&) noexcept;

}  // namespace carousel::cpu
