#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "carousel/device.hpp"

namespace carousel::cpu {

/// Tells the core that this is a spin loop.
inline void spin_pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/// Spins briefly, then gives the core away: a spinning thread on a busy machine is a cost.
class SpinWait {
public:
    void once() noexcept {
        if (++spins_ < kSpins) {
            spin_pause();
        } else {
            std::this_thread::yield();
        }
    }

private:
    // About 2 us. A yield with nobody else to run costs a third of one, so waiting longer is as cheap
    // this way; and where both threads share a core, each step waits this long for nothing.
    static constexpr int kSpins = 100;
    int spins_ = 0;
};

/// Barrier of a fixed number of threads that spins. Reusable; orders memory between the threads.
class alignas(64) SpinBarrier {
public:
    explicit SpinBarrier(int num_threads = 1) noexcept : num_threads_(num_threads) {}
    void reset(int num_threads) noexcept { num_threads_ = num_threads; }

    void wait() noexcept {
        if (num_threads_ == 1) return;
        const std::uint32_t generation = generation_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            generation_.store(generation + 1, std::memory_order_release);
            return;
        }
        SpinWait spin;
        while (generation_.load(std::memory_order_acquire) == generation) spin.once();
    }

private:
    std::atomic<int> arrived_{0};
    alignas(64) std::atomic<std::uint32_t> generation_{0};
    int num_threads_;
};

}  // namespace carousel::cpu

namespace carousel {

struct ThreadPool::Impl {
    explicit Impl(int num_threads);
    ~Impl();

    /// Calls body(tid) once for every tid in [0, num_threads()), tid 0 on the calling thread, and
    /// returns when all are done. `body` must not throw and must not call run() of the same pool.
    /// Callers on different threads take turns.
    template <class Body>
    void run(Body&& body) noexcept {
        using Plain = std::remove_reference_t<Body>;
        run_erased([](void* context, int tid) { (*static_cast<Plain*>(context))(tid); },
                   const_cast<void*>(static_cast<const void*>(&body)));
    }
    int num_threads() const noexcept { return num_threads_; }

private:
    using Call = void (*)(void* context, int tid);
    void run_erased(Call call, void* context) noexcept;
    void worker(int tid) noexcept;

    int num_threads_;
    std::mutex turn_;
    Call call_ = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<std::uint32_t> epoch_{0};
    alignas(64) std::atomic<int> pending_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

/// Part [begin, end) of [0, count) that member `index` of `members` gets, in units of `grain`.
struct Span {
    std::int64_t begin, end;
    std::int64_t size() const noexcept { return end - begin; }
};
inline Span split_evenly(std::int64_t count, int index, int members,
                         std::int64_t grain = 1) noexcept {
    const std::int64_t blocks = (count + grain - 1) / grain;
    const auto at = [&](std::int64_t i) {
        const std::int64_t edge = blocks * i / members * grain;
        return edge < count ? edge : count;
    };
    return {at(index), at(index + 1)};
}

/// Cores this process may run on.
int usable_cores() noexcept;

}  // namespace carousel
