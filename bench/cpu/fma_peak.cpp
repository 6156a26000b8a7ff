#include "bench/cpu/fma_peak.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace carousel::bench {

namespace {

using Clock = std::chrono::steady_clock;

// Independent chains: latency of 4 cycles × 2 units = 8, and some to spare; they fit in 16 registers.
constexpr int kChains = 12;
constexpr std::int64_t kRounds = 20000;
constexpr double kWindowSeconds = 0.008;
constexpr int kWindows = 4;

/// One batch of kRounds × kChains vector operations; returns floating-point operations done.
using Batch = double (*)(float* sink);

#if defined(__x86_64__)
__attribute__((target("avx512f"))) double batch_avx512(float* sink) {
    __m512 sum[kChains];
    for (auto& s : sum) s = _mm512_set1_ps(*sink);
    const __m512 factor = _mm512_set1_ps(0.999F), addend = _mm512_set1_ps(0.001F);
    for (std::int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sum[c] = _mm512_fmadd_ps(sum[c], factor, addend);
    }
    __m512 total = sum[0];
    for (int c = 1; c < kChains; ++c) total = _mm512_add_ps(total, sum[c]);
    alignas(64) float lanes[16];
    _mm512_store_ps(lanes, total);
    *sink = lanes[0];
    return 2.0 * 16 * kChains * static_cast<double>(kRounds);
}

__attribute__((target("avx2,fma"))) double batch_avx2(float* sink) {
    __m256 sum[kChains];
    for (auto& s : sum) s = _mm256_set1_ps(*sink);
    const __m256 factor = _mm256_set1_ps(0.999F), addend = _mm256_set1_ps(0.001F);
    for (std::int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sum[c] = _mm256_fmadd_ps(sum[c], factor, addend);
    }
    __m256 total = sum[0];
    for (int c = 1; c < kChains; ++c) total = _mm256_add_ps(total, sum[c]);
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, total);
    *sink = lanes[0];
    return 2.0 * 8 * kChains * static_cast<double>(kRounds);
}
#endif

double batch_baseline(float* sink) {
    using Vector = float __attribute__((vector_size(16)));
    Vector sum[kChains];
    for (auto& s : sum) s = Vector{} + *sink;
    const Vector factor = Vector{} + 0.999F, addend = Vector{} + 0.001F;
    for (std::int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
        for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * factor + addend;
    }
    Vector total = sum[0];
    for (int c = 1; c < kChains; ++c) total += sum[c];
    *sink = total[0];
    return 2.0 * 4 * kChains * static_cast<double>(kRounds);
}

struct Choice {
    Batch batch;
    const char* name;
};

Choice choose() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return {batch_avx512, "avx512"};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return {batch_avx2, "avx2"};
    }
#endif
    return {batch_baseline, "baseline"};
}

/// GFLOP/s of one thread in one window.
double window_gflops(Batch batch, float* sink) {
    double flops = 0.0, seconds = 0.0;
    const auto begin = Clock::now();
    do {
        flops += batch(sink);
        seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    } while (seconds < kWindowSeconds);
    return flops / seconds * 1e-9;
}

}  // namespace

const char* fma_peak_vectors() { return choose().name; }

double measure_fma_peak_gflops(int num_threads) {
    const Batch batch = choose().batch;
    const auto threads = static_cast<std::size_t>(num_threads);
    double best = 0.0;
    for (int window = 0; window < kWindows; ++window) {
        std::vector<double> rate(threads);
        std::atomic<int> waiting{num_threads};
        const auto work = [&](std::size_t thread) {
            waiting.fetch_sub(1);
            while (waiting.load() > 0) std::this_thread::yield();
            // Read back, so that no compiler takes the sums for unused.
            volatile float start = 0.5F;
            float sink = start;
            rate[thread] = window_gflops(batch, &sink);
            start = sink;
        };
        std::vector<std::thread> others;
        for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work, t);
        work(0);
        for (std::thread& other : others) other.join();
        double total = 0.0;
        for (const double r : rate) total += r;
        best = std::max(best, total);
    }
    return best;
}

}  // namespace carousel::bench
