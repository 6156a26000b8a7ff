#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>

namespace carousel::cuda {

/// Keeps other threads off a queue that one thread records. CUDA records whatever is enqueued on a
/// recording stream, by any thread, so their work would be part of the graph and would not run; and
/// their waits for the stream would spoil the recording. They wait outside until it is over.
///
/// A thread that waits to record goes before those that come after it.
class RecordingGate {
public:
    /// Waits for calls inside to return, and for another thread's recording. Not twice on a thread.
    void close() {
        const std::lock_guard turn(turn_);
        waiting_.store(true);
        inside_.lock();
        waiting_.store(false);
        recorder_.store(std::this_thread::get_id());
    }
    /// On the thread that closed it.
    void open() {
        recorder_.store(std::thread::id());
        inside_.unlock();
    }
    /// True on the thread that records.
    bool closed_here() const { return recorder_.load() == std::this_thread::get_id(); }

    /// One call on the queue. Not one inside another: the outer one would keep a recording out that
    /// the inner one waits for.
    class Passage {
    public:
        explicit Passage(RecordingGate& gate) {
            if (gate.closed_here()) return;
            if (gate.waiting_.load()) {
                const std::lock_guard turn(gate.turn_);
            }
            inside_.emplace(gate.inside_);
        }

    private:
        std::optional<std::shared_lock<std::shared_mutex>> inside_;
    };

private:
    std::mutex turn_;
    std::atomic<bool> waiting_ = false;
    std::shared_mutex inside_;
    std::atomic<std::thread::id> recorder_{};
};

}  // namespace carousel::cuda
