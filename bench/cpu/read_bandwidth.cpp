#include "bench/cpu/read_bandwidth.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "carousel/tensor.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace carousel::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr double kWindowSeconds = 0.004;
constexpr int kWindows = 3;
constexpr std::size_t kBlock = 1024;  // read front to back within; blocks go either way

/// Adds up `kBlock` bytes at `data` into `sums`.
using ReadBlock = void (*)(const std::byte* data, float* sums);

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void read_avx512(const std::byte* data, float* sums) {
    __m512 total[4];
    for (int i = 0; i < 4; ++i) total[i] = _mm512_loadu_ps(sums + 16 * i);
    const auto* values = reinterpret_cast<const float*>(data);
    for (std::size_t at = 0; at < kBlock / sizeof(float); at += 64) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            total[i] = _mm512_add_ps(total[i], _mm512_loadu_ps(values + at + 16 * i));
        }
    }
    for (int i = 0; i < 4; ++i) _mm512_storeu_ps(sums + 16 * i, total[i]);
}
#endif

void read_baseline(const std::byte* data, float* sums) {
    using Vector = float __attribute__((vector_size(16)));
    Vector total[4];
    std::memcpy(total, sums, sizeof total);
    for (std::size_t at = 0; at < kBlock; at += sizeof total) {
        Vector values[4];
        std::memcpy(values, data + at, sizeof values);
        for (int i = 0; i < 4; ++i) total[i] += values[i];
    }
    std::memcpy(sums, total, sizeof total);
}

ReadBlock choose() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return read_avx512;
#endif
    return read_baseline;
}

void sweep(ReadBlock read, const std::byte* data, std::size_t blocks, bool backwards, float* sums) {
    for (std::size_t i = 0; i < blocks; ++i) {
        read(data + (backwards ? blocks - 1 - i : i) * kBlock, sums);
    }
}

/// Bytes per second of one thread in one window.
double window(ReadBlock read, const std::byte* data, std::size_t blocks, float* sums) {
    sweep(read, data, blocks, false, sums);
    double bytes = 0.0, seconds = 0.0;
    bool backwards = true;
    const auto begin = Clock::now();
    do {
        sweep(read, data, blocks, backwards, sums);
        backwards = !backwards;
        bytes += static_cast<double>(blocks * kBlock);
        seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    } while (seconds < kWindowSeconds);
    return bytes / seconds;
}

}  // namespace

double measure_read_gb_s(std::size_t bytes, int num_threads) {
    const ReadBlock read = choose();
    const auto threads = static_cast<std::size_t>(num_threads);
    const std::size_t blocks = std::max<std::size_t>(1, bytes / threads / kBlock);
    Buffer data(threads * blocks * kBlock, {}, "weights to read");
    data.zero();
    double best = 0.0;
    for (int i = 0; i < kWindows; ++i) {
        std::vector<double> rate(threads);
        std::atomic<int> waiting{num_threads};
        const auto work = [&](std::size_t thread) {
            alignas(64) float sums[64] = {};
            waiting.fetch_sub(1);
            while (waiting.load() > 0) std::this_thread::yield();
            rate[thread] =
                window(read, data.as<std::byte>() + thread * blocks * kBlock, blocks, sums);
            // Looked at, so that no compiler takes the sums for unused.
            volatile float kept = sums[0];
            static_cast<void>(kept);
        };
        std::vector<std::thread> others;
        for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work, t);
        work(0);
        for (std::thread& other : others) other.join();
        double total = 0.0;
        for (const double r : rate) total += r;
        best = std::max(best, total);
    }
    return best * 1e-9;
}

}  // namespace carousel::bench
