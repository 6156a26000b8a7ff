#pragma once

// The executor's own view of a launch: blocks, warps and threads, and who may run next.

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "simt/async.hpp"
#include "simt/device_runtime.hpp"
#include "simt/fiber.hpp"
#include "simt/race.hpp"
#include "simt/simt.hpp"

namespace carousel::simt {

struct Block;
struct Warp;

enum class State : std::uint8_t { kUnstarted, kReady, kRunning, kWaiting, kPolling, kDone };

struct Thread {
    Block* block = nullptr;
    Warp* warp = nullptr;
    unsigned index = 0;  ///< in its block
    unsigned lane = 0;
    Index3 position{};
    State state = State::kUnstarted;
    Fiber* fiber = nullptr;
    std::uint64_t rank = 0;  ///< lower runs first
    // What it waits for, when it does.
    const char* wait_for = "";
    SourceLocation wait_at;
    unsigned barrier_result = 0;
    bool cluster_arrived = false;
    std::uint64_t cluster_generation = 0;
    // Its last strong read, to see a loop that waits for a value to change.
    const void* polled = nullptr;
    std::uint64_t polled_value = 0;
};

/// A warp operation that some lanes have reached and others have not.
struct Rendezvous {
    const WarpOperation* operation = nullptr;  ///< null: a free slot
    unsigned mask = 0;
    unsigned arrived = 0;
    SourceLocation at;
    std::array<void*, 32> payloads{};
};

struct Warp {
    Thread* first = nullptr;
    unsigned present = 0;  ///< lanes that exist
    unsigned exited = 0;
    std::vector<Rendezvous> pending;
};

struct NamedBarrier {
    unsigned expected = 0;
    unsigned arrived = 0;
    unsigned sum = 0;
    bool has_sync_line = false, has_arrive_line = false;
    SourceLocation sync_at, arrive_at;
    std::vector<Thread*> waiting;
    std::vector<ReleaseClock> handed_on;  ///< by threads that arrive and do not wait
};

struct ClusterBarrier {
    unsigned arrived = 0;
    std::uint64_t generation = 0;
    SourceLocation at;
    std::vector<Thread*> waiting;
    ReleaseClock collecting, completed;
};

struct SharedArray {
    const void* key;
    std::size_t offset, bytes;
    std::string name;
};

inline constexpr unsigned kNumBarriers = 16;
inline constexpr std::size_t kMaxSharedBytes = 227 << 10;  ///< of a block, sm_90

struct Block {
    std::uint64_t linear = 0;
    Index3 position{};
    unsigned slot = 0;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::array<NamedBarrier, kNumBarriers> barriers;
    unsigned live = 0;
    unsigned exited = 0;
    unsigned started = 0;                    ///< threads taken from `order`
    std::vector<unsigned> order;             ///< of the threads' first turns; empty = as counted
    std::uint64_t next_rank = 0;             ///< of the next thread to start
    Allocation* window = nullptr;            ///< shared memory
    std::vector<std::uint8_t> static_ready;  ///< per array of the launch
    unsigned cluster_slot = 0;
};

/// Which runnable thread goes on, by policy.
class Schedule {
public:
    Schedule(const Options& options, std::uint64_t blocks, unsigned block_threads);

    void add_block(Block* block);
    void add_ready(Thread* thread);
    Thread* next();  ///< null when none is runnable
    bool empty() const { return ready_.empty() && unstarted_.empty(); }
    /// The block that starts as number `i`.
    std::uint64_t block_number(std::uint64_t i) const;
    std::uint64_t random() { return random_(); }
    bool is_random() const { return policy_ == Policy::kRandom; }

private:
    std::uint64_t rank(const Block& block, unsigned thread) const;
    Thread* start_from(std::size_t i);

    Policy policy_;
    std::uint64_t seed_, blocks_, step_, shift_;
    unsigned block_threads_;
    std::vector<Thread*> ready_;     ///< a heap by rank, but for the random policy
    std::vector<Block*> unstarted_;  ///< likewise, by the rank of the next thread
    std::minstd_rand random_;
};

/// One launch, from its first block to its last.
class Executor {
public:
    Executor(const cuda::Launch& launch, const Options& options);
    ~Executor();
    Report run();

    // For the thread that is running.
    Thread* current() const { return current_; }
    [[noreturn]] void fail(const std::string& what, const std::string& where);
    unsigned barrier(unsigned id, unsigned count, bool wait, unsigned value, SourceLocation at);
    void warp_collective(const WarpOperation& operation, unsigned mask, void* payload,
                         SourceLocation at);
    void* static_shared(const void* key, std::size_t bytes, std::size_t align, const char* name);
    void* dynamic_shared();
    /// A strong read of `value`: parks the thread if it keeps reading the same.
    void polled(const void* address, std::uint64_t value, SourceLocation at);
    /// Something others may wait for has happened.
    void progress();
    RaceChecker* races() { return races_.get(); }  ///< null when off
    void poll(const char* what, SourceLocation at);
    /// Virtual time; a launch in which nothing else moves gets to its end quickly.
    std::uint64_t clock_ns();
    AsyncEngine& async() { return async_; }
    void cluster_arrive(bool releases, SourceLocation at);
    void cluster_wait(SourceLocation at);
    unsigned cluster_rank() const;
    unsigned cluster_size() const { return launch_.cluster; }
    std::uintptr_t map_to_rank(std::uintptr_t address, unsigned rank, SourceLocation at);
    /// Where the thread is, for messages.
    static std::string place(const Thread& thread);

    static void fiber_entry(Fiber* self);

private:
    ClusterBarrier& cluster_barrier(const Block& block);
    bool wake_pollers();
    void admit();
    void start_block(Block* block, std::uint64_t linear);
    void finish(Thread* thread);
    void finish_block(Block* block);
    void check_exit(const Thread& thread);
    void run_threads_here(Fiber* self);
    void enter(Thread* thread);
    Thread* pick();
    void wait(const char* what, SourceLocation at);
    void switch_away();
    void release_barrier(NamedBarrier& barrier);
    std::string deadlock_text() const;
    void make_window(Block* block);
    static void give_back_window(Block* block);
    static void forget_races(Block* block);

    const cuda::Launch& launch_;
    Options options_;
    Report report_;
    unsigned block_threads_ = 0;
    std::uint64_t num_blocks_ = 0, admitted_ = 0, live_blocks_ = 0;
    Schedule schedule_;
    std::vector<std::unique_ptr<Block>> slots_;
    std::vector<Block*> free_slots_;
    std::vector<Thread*> polling_;
    std::vector<SharedArray> statics_;
    std::size_t static_bytes_ = 0;
    std::uint64_t progress_ = 0, progress_at_wake_ = 0;
    int idle_wakes_ = 0;
    std::unique_ptr<RaceChecker> races_;
    AsyncEngine async_;
    std::vector<ClusterBarrier> clusters_;  ///< by slots
    std::uint64_t clock_ns_ = 0;
    bool clock_looked_at_ = false;
    int clock_jumps_ = 0;
    Thread* current_ = nullptr;
    Fiber host_;
    bool failed_ = false;
    std::string error_;
};

extern __thread Executor* running_executor;  ///< null while host code runs

}  // namespace carousel::simt
