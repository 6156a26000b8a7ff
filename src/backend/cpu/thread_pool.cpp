#include "src/backend/cpu/thread_pool.hpp"

#include <sched.h>

#include <algorithm>
#include <string>
#include <system_error>

#include "carousel/error.hpp"

namespace carousel {

namespace {
// A worker that finds no work waits about 100 us before it sleeps, so that the gaps between the passes
// of a training step stay cheap; mostly in yields, since who shares its core may be the caller.
constexpr int kIdleSpins = 100;
constexpr int kIdleYields = 300;
}  // namespace

int usable_cores() noexcept {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ThreadPool::Impl::Impl(int num_threads) : num_threads_(num_threads) {
    workers_.reserve(static_cast<std::size_t>(num_threads - 1));
    try {
        for (int tid = 1; tid < num_threads; ++tid) {
            workers_.emplace_back([this, tid] { worker(tid); });
        }
    } catch (const std::system_error& e) {
        stop_.store(true);
        epoch_.fetch_add(1);
        epoch_.notify_all();
        for (std::thread& t : workers_) t.join();
        throw Error(ErrorCode::kOutOfMemory, "cannot start " + std::to_string(num_threads - 1) +
                                                 " worker threads: " + e.what() +
                                                 "; ask for fewer threads");
    }
}

ThreadPool::Impl::~Impl() {
    stop_.store(true, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    for (std::thread& t : workers_) t.join();
}

void ThreadPool::Impl::run_erased(Call call, void* context) noexcept {
    const std::lock_guard<std::mutex> turn(turn_);
    if (num_threads_ == 1) {
        call(context, 0);
        return;
    }
    call_ = call;
    context_ = context;
    pending_.store(num_threads_ - 1, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    call(context, 0);
    cpu::SpinWait spin;
    while (pending_.load(std::memory_order_acquire) != 0) spin.once();
}

void ThreadPool::Impl::worker(int tid) noexcept {
    std::uint32_t seen = 0;
    for (;;) {
        std::uint32_t now = epoch_.load(std::memory_order_acquire);
        for (int i = 0; now == seen && i < kIdleSpins; ++i) {
            cpu::spin_pause();
            now = epoch_.load(std::memory_order_acquire);
        }
        for (int i = 0; now == seen && i < kIdleYields; ++i) {
            std::this_thread::yield();
            now = epoch_.load(std::memory_order_acquire);
        }
        while (now == seen) {
            epoch_.wait(seen, std::memory_order_acquire);
            now = epoch_.load(std::memory_order_acquire);
        }
        seen = now;
        if (stop_.load(std::memory_order_relaxed)) return;
        call_(context_, tid);
        pending_.fetch_sub(1, std::memory_order_release);
    }
}

ThreadPool::ThreadPool(int num_threads) {
    if (num_threads < 0 || num_threads > 1024) {
        throw Error(ErrorCode::kInvalidArgument, "num_threads is " + std::to_string(num_threads) +
                                                     "; expected 1 to 1024, or 0 for one per core");
    }
    impl_ = std::make_unique<Impl>(num_threads == 0 ? usable_cores() : num_threads);
}
ThreadPool::~ThreadPool() = default;
int ThreadPool::num_threads() const noexcept { return impl_->num_threads(); }

}  // namespace carousel
