#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "carousel/error.hpp"
#include "src/backend/cpu/gemm.hpp"
#include "src/backend/cpu/thread_pool.hpp"
#include "tests/support/rnn_data.hpp"

// The pool and the matrix products that the layer is built on.

namespace carousel::test {
namespace {

/// Without a pool: the plain loops.
template <class T>
void check_gemm(ThreadPool* pool, bool trans_a, bool trans_b, std::int64_t m, std::int64_t n,
                std::int64_t k, double beta) {
    SCOPED_TRACE(testing::Message()
                 << "trans " << trans_a << trans_b << " m" << m << " n" << n << " k" << k
                 << " beta " << beta << " threads " << (pool == nullptr ? 0 : pool->num_threads())
                 << " bytes " << sizeof(T));
    const auto draw = [](std::uint64_t seed, std::int64_t count) {
        const std::vector<double> values = random_values(seed, count, 1.0);
        return std::vector<T>(values.begin(), values.end());
    };
    const std::int64_t lda = (trans_a ? m : k) + 3, ldb = (trans_b ? k : n) + 1, ldc = n + 2;
    const std::vector<T> a = draw(1, (trans_a ? k : m) * lda + 1);
    const std::vector<T> b = draw(2, (trans_b ? n : k) * ldb + 1);
    std::vector<T> c = draw(3, m * ldc);
    const std::vector<T> before = c;
    if (beta == 0.0) {  // C must not be read
        for (std::int64_t e = 0; e < m * ldc; ++e) {
            if (e % ldc < n) c[static_cast<std::size_t>(e)] = std::numeric_limits<T>::quiet_NaN();
        }
    }
    cpu::Gemm<T> g;
    g.trans_a = trans_a;
    g.trans_b = trans_b;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = lda;
    g.b = b.data();
    g.ldb = ldb;
    g.beta = static_cast<T>(beta);
    g.c = c.data();
    g.ldc = ldc;
    if (pool == nullptr) {
        cpu::gemm_loops(g);
    } else {
        cpu::gemm(*pool, g);
    }
    const double limit = (sizeof(T) == 4 ? 1e-6 : 1e-15) * static_cast<double>(k + 2);
    for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < ldc; ++j) {
            const std::size_t at = static_cast<std::size_t>(i * ldc + j);
            if (j >= n) {
                ASSERT_EQ(c[at], before[at]) << "written between rows";
                continue;
            }
            double sum = beta == 0.0 ? 0.0 : beta * static_cast<double>(before[at]);
            for (std::int64_t p = 0; p < k; ++p) {
                sum += static_cast<double>(
                           a[static_cast<std::size_t>(trans_a ? p * lda + i : i * lda + p)]) *
                       static_cast<double>(
                           b[static_cast<std::size_t>(trans_b ? j * ldb + p : p * ldb + j)]);
            }
            ASSERT_NEAR(static_cast<double>(c[at]), sum, limit) << i << "," << j;
        }
    }
}

void check_every_gemm(ThreadPool* pool) {
    const std::int64_t sizes[][3] = {{1, 1, 1},    {1, 65, 30},  {30, 1, 17},  {7, 5, 0},
                                     {3, 130, 64}, {150, 9, 40}, {64, 96, 70}, {33, 257, 19}};
    for (const auto& size : sizes) {
        for (int trans = 0; trans < 4; ++trans) {
            for (const double beta : {0.0, 1.0}) {
                const bool ta = (trans & 1) != 0, tb = (trans & 2) != 0;
                check_gemm<float>(pool, ta, tb, size[0], size[1], size[2], beta);
                check_gemm<double>(pool, ta, tb, size[0], size[1], size[2], beta);
            }
        }
    }
}

TEST(RnnGemm, EveryTransposeSizeAndTeam) {
    for (const int threads : {1, 2, 3, 4}) {
        ThreadPool pool(threads);
        check_every_gemm(&pool);
    }
}

TEST(RnnGemm, PlainLoopsForWhenThereIsNoMemory) { check_every_gemm(nullptr); }

TEST(RnnThreadPool, CallsEveryMemberOnce) {
    for (const int threads : {1, 2, 3, 5}) {
        ThreadPool pool(threads);
        EXPECT_EQ(pool.num_threads(), threads);
        std::vector<std::atomic<int>> calls(static_cast<std::size_t>(threads));
        for (int repeat = 0; repeat < 300; ++repeat) {
            pool.impl().run([&](int tid) { ++calls[static_cast<std::size_t>(tid)]; });
        }
        for (const auto& count : calls) EXPECT_EQ(count.load(), 300);
    }
}

TEST(RnnThreadPool, ChoosesASizeAndRefusesNonsense) {
    EXPECT_GE(ThreadPool(0).num_threads(), 1);
    EXPECT_THROW(ThreadPool(-1), Error);
}

TEST(RnnThreadPool, WakesAfterSleep) {
    ThreadPool pool(3);
    for (int repeat = 0; repeat < 3; ++repeat) {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        std::atomic<int> calls{0};
        pool.impl().run([&](int) { ++calls; });
        EXPECT_EQ(calls.load(), 3);
    }
}

TEST(RnnThreadPool, CallersTakeTurns) {
    ThreadPool pool(2);
    std::int64_t guarded[2] = {0, 0};  // member tid writes its own, one run at a time
    const auto caller = [&] {
        for (int repeat = 0; repeat < 500; ++repeat) {
            pool.impl().run([&](int tid) { ++guarded[tid]; });
        }
    };
    std::thread other(caller);
    caller();
    other.join();
    EXPECT_EQ(guarded[0], 1000);
    EXPECT_EQ(guarded[1], 1000);
}

}  // namespace
}  // namespace carousel::test
