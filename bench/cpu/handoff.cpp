#include "bench/cpu/handoff.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>

namespace carousel::bench {

namespace {

constexpr int kRoundTrips = 5000;
constexpr int kWindows = 8;
// On a core that both threads share, spinning longer only delays the other one.
constexpr int kSpinsBeforeYield = 4000;

void wait_for(const std::atomic<int>& value, int wanted) {
    for (int spins = 0; value.load(std::memory_order_acquire) != wanted; ++spins) {
        if (spins >= kSpinsBeforeYield) std::this_thread::yield();
    }
}

}  // namespace

double measure_handoff_ns() {
    alignas(64) std::atomic<int> turn{0};
    std::thread other([&turn] {
        for (int i = 0; i < kWindows * kRoundTrips; ++i) {
            wait_for(turn, 2 * i + 1);
            turn.store(2 * i + 2, std::memory_order_release);
        }
    });
    double best = std::numeric_limits<double>::infinity();
    for (int window = 0; window < kWindows; ++window) {
        const auto begin = std::chrono::steady_clock::now();
        for (int k = 0; k < kRoundTrips; ++k) {
            const int i = window * kRoundTrips + k;
            turn.store(2 * i + 1, std::memory_order_release);
            wait_for(turn, 2 * i + 2);
        }
        const std::chrono::duration<double, std::nano> took =
            std::chrono::steady_clock::now() - begin;
        best = std::min(best, took.count() / (2.0 * kRoundTrips));
    }
    other.join();
    return best;
}

}  // namespace carousel::bench
