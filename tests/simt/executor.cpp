#include "simt/executor.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <mutex>

#include "simt/coverage.hpp"
#include "simt/race.hpp"
#include "simt/symbols.hpp"

namespace carousel::simt {

__thread DeviceIndices device_indices;
__thread Executor* running_executor = nullptr;

namespace {

constexpr unsigned kMaxBlockThreads = 1024;
constexpr unsigned kMaxGridYz = 65535;
constexpr unsigned kMaxCluster = 16;

FiberPool& fibers() {
    static auto* pool = new FiberPool(&Executor::fiber_entry);
    return *pool;
}

std::string text(Index3 i) {
    return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}
std::uint64_t volume(cuda::Dim3 d) { return std::uint64_t{d.x} * d.y * d.z; }

/// What a card's driver checks of a launch.
void validate(const cuda::Launch& launch) {
    const auto refuse = [&](const std::string& why) {
        throw KernelError(std::string(launch.kernel) + ": the launch is not valid: " + why);
    };
    if (launch.run == nullptr) {
        refuse("its kernel was not compiled for the SIMT executor");
    }
    if (volume(launch.block) == 0 || volume(launch.block) > kMaxBlockThreads ||
        launch.block.z > 64) {
        refuse("a block of " + std::to_string(volume(launch.block)) + " threads");
    }
    if (volume(launch.grid) == 0 || launch.grid.x > 0x7FFFFFFFU || launch.grid.y > kMaxGridYz ||
        launch.grid.z > kMaxGridYz) {
        refuse("a grid of " + text(Index3{launch.grid.x, launch.grid.y, launch.grid.z}) +
               " blocks");
    }
    if (launch.shared_bytes > kMaxSharedBytes) {
        refuse(std::to_string(launch.shared_bytes) + " bytes of dynamic shared memory");
    }
    if (launch.cluster == 0 || launch.cluster > kMaxCluster ||
        launch.grid.x % launch.cluster != 0) {
        refuse("clusters of " + std::to_string(launch.cluster) + " blocks");
    }
}

}  // namespace

Executor::Executor(const cuda::Launch& launch, const Options& options)
    : launch_(launch),
      options_(options),
      block_threads_(static_cast<unsigned>(volume(launch.block))),
      num_blocks_(volume(launch.grid)),
      schedule_(options, num_blocks_ / launch.cluster, block_threads_),
      async_(*this) {
    std::uint64_t resident = launch.cooperative ? num_blocks_ : options.resident_blocks;
    resident = (resident + launch.cluster - 1) / launch.cluster * launch.cluster;
    resident = std::min(std::max<std::uint64_t>(resident, launch.cluster), num_blocks_);
    for (std::uint64_t i = 0; i < resident; ++i) {
        auto block = std::make_unique<Block>();
        block->slot = static_cast<unsigned>(i);
        block->threads.resize(block_threads_);
        block->warps.resize((block_threads_ + 31) / 32);
        for (unsigned t = 0; t < block_threads_; ++t) {
            Thread& thread = block->threads[t];
            thread.block = block.get();
            thread.warp = &block->warps[t / 32];
            thread.index = t;
            thread.lane = t % 32;
            thread.position = {t % launch.block.x, t / launch.block.x % launch.block.y,
                               t / launch.block.x / launch.block.y};
            thread.warp->present |= 1U << thread.lane;
            if (thread.lane == 0) {
                thread.warp->first = &thread;
            }
        }
        slots_.push_back(std::move(block));
    }
    clusters_.resize(resident / launch.cluster);
    if (options.races && can_check_races()) {
        races_ = std::make_unique<RaceChecker>(report_, block_threads_, launch.cluster, resident);
    }
    // A cluster takes neighbouring slots, and gives them back together.
    for (auto it = slots_.rbegin(); it != slots_.rend(); ++it) {
        free_slots_.push_back(it->get());
    }
}

Executor::~Executor() {
    for (const auto& block : slots_) {
        give_back_window(block.get());
    }
}

Report Executor::run() {
    running_executor = this;
    device_indices.block_size = {launch_.block.x, launch_.block.y, launch_.block.z};
    device_indices.grid_size = {launch_.grid.x, launch_.grid.y, launch_.grid.z};
    admit();
    current_ = pick();
    FiberPool::switch_to(&host_, fibers().take());
    running_executor = nullptr;
    if (failed_) {
        fibers().abandon_all();
        throw KernelError(error_);
    }
    const std::string damaged = damaged_red_zone();
    if (!damaged.empty()) {
        throw KernelError(std::string(launch_.kernel) + ": wrote outside buffer '" + damaged + "'");
    }
    if (options_.races_are_faults && report_.races + report_.uninitialised > 0) {
        throw KernelError(std::string(launch_.kernel) + ": " + report_.text());
    }
    return report_;
}

void Executor::admit() {
    const std::uint64_t clusters = num_blocks_ / launch_.cluster;
    while (admitted_ < clusters && free_slots_.size() >= launch_.cluster) {
        const std::uint64_t first = schedule_.block_number(admitted_++) * launch_.cluster;
        for (unsigned i = 0; i < launch_.cluster; ++i) {
            Block* block = free_slots_.back();
            free_slots_.pop_back();
            block->cluster_slot = i;
            start_block(block, first + i);
        }
    }
}

void Executor::start_block(Block* block, std::uint64_t linear) {
    block->linear = linear;
    block->position = {static_cast<unsigned>(linear % launch_.grid.x),
                       static_cast<unsigned>(linear / launch_.grid.x % launch_.grid.y),
                       static_cast<unsigned>(linear / launch_.grid.x / launch_.grid.y)};
    block->live = block_threads_;
    block->exited = 0;
    for (Thread& thread : block->threads) {
        thread.state = State::kUnstarted;
        thread.polled = nullptr;
        thread.cluster_arrived = false;
    }
    for (Warp& warp : block->warps) {
        warp.exited = 0;
    }
    if (launch_.shared_bytes > 0) {
        make_window(block);
        set_valid(block->window->begin, launch_.shared_bytes, true);
        std::memset(reinterpret_cast<void*>(block->window->begin), 0xFF, launch_.shared_bytes);
    }
    if (races_ != nullptr) {
        races_->start_block(*block);
        forget_races(block);
    }
    schedule_.add_block(block);
    ++live_blocks_;
}

void Executor::finish_block(Block* block) {
    if (block->window != nullptr) {
        async_.finish_block(block->window->begin, block->window->bytes);
        set_valid(block->window->begin, block->window->bytes, false);
        std::fill(block->static_ready.begin(), block->static_ready.end(), std::uint8_t{0});
    }
    --live_blocks_;
    // The blocks of a cluster lie in neighbouring slots.
    const unsigned first = block->slot - block->cluster_slot;
    for (unsigned i = 0; i < launch_.cluster; ++i) {
        if (slots_[first + i]->live > 0) {
            return;
        }
    }
    for (unsigned i = launch_.cluster; i-- > 0;) {
        free_slots_.push_back(slots_[first + i].get());
    }
    admit();
}

void Executor::enter(Thread* thread) {
    current_ = thread;
    thread->state = State::kRunning;
    device_indices.thread = thread->position;
    device_indices.block = thread->block->position;
}

void Executor::fiber_entry(Fiber* self) {
    for (;;) {
        running_executor->run_threads_here(self);
    }
}

/// Threads that never wait run one after another on the same fiber, as plain calls.
void Executor::run_threads_here(Fiber* self) {
    Thread* thread = current_;
    Thread* next = nullptr;
    for (;;) {
        self->thread = thread;
        thread->fiber = self;
        enter(thread);
        try {
            launch_.run(launch_.function, launch_.args);
        } catch (const std::exception& error) {
            fail(std::string("threw ") + error.what(), "");
        }
        finish(thread);
        next = pick();
        if (next == nullptr || next->state != State::kUnstarted) {
            break;
        }
        thread = next;
    }
    self->thread = nullptr;
    fibers().give_back(self);
    if (next != nullptr) {
        current_ = next;
    }
    FiberPool::switch_to(self, next != nullptr ? next->fiber : &host_);
}

void Executor::finish(Thread* thread) {
    check_exit(*thread);
    thread->state = State::kDone;
    thread->warp->exited |= 1U << thread->lane;
    Block* block = thread->block;
    ++block->exited;
    ++report_.threads;
    ++progress_;
    if (--block->live == 0) {
        finish_block(block);
    }
}

void Executor::check_exit(const Thread& thread) {
    async_.finish_thread(thread);
    const ClusterBarrier& cluster = cluster_barrier(*thread.block);
    if (cluster.arrived > 0 && !thread.cluster_arrived) {
        fail("divergent barrier: returns while " + std::to_string(cluster.arrived) +
                 " threads of its cluster have arrived at the barrier at " + line_text(cluster.at),
             "");
    }
    // Barrier 0 is __syncthreads. Threads may leave after arriving at another; whoever then waits for
    // one that has left is a deadlock.
    const NamedBarrier& barrier = thread.block->barriers[0];
    if (barrier.arrived > 0) {
        fail("divergent barrier: returns while " + std::to_string(barrier.arrived) +
                 " threads of its block have arrived at the barrier at " +
                 line_text(barrier.has_sync_line ? barrier.sync_at : barrier.arrive_at),
             "");
    }
    for (const Rendezvous& pending : thread.warp->pending) {
        if (pending.operation != nullptr && (pending.mask >> thread.lane & 1U) != 0) {
            fail(std::string("divergent warp: returns while lanes of its warp wait for it in ") +
                     pending.operation->name + " at " + line_text(pending.at),
                 "");
        }
    }
}

Thread* Executor::pick() {
    clock_ns_ += 1;
    constexpr std::uint64_t kLandOneIn = 16;
    if (!async_.idle() && schedule_.random() % kLandOneIn == 0) {
        async_.land_one(schedule_.random());
    }
    do {
        if (Thread* thread = schedule_.next()) {
            return thread;
        }
    } while (async_.land_one(schedule_.random()) || wake_pollers());
    if (live_blocks_ > 0) {
        failed_ = true;
        error_ = deadlock_text();
    }
    return nullptr;
}

/// Lets threads that poll look again; false when they have looked at the same world too often.
bool Executor::wake_pollers() {
    if (polling_.empty()) {
        return false;
    }
    idle_wakes_ = progress_ == progress_at_wake_ ? idle_wakes_ + 1 : 0;
    constexpr int kPatience = 3;
    if (idle_wakes_ > kPatience) {
        constexpr int kMaxJumps = 1000;
        constexpr std::uint64_t kJumpNs = 100'000'000;
        if (!clock_looked_at_ || ++clock_jumps_ > kMaxJumps) {
            return false;
        }
        // They wait with a limit in time; bring it nearer.
        clock_ns_ += kJumpNs;
        clock_looked_at_ = false;
        idle_wakes_ = 0;
    }
    progress_at_wake_ = progress_;
    for (Thread* thread : polling_) {
        schedule_.add_ready(thread);
    }
    polling_.clear();
    return true;
}

std::uint64_t Executor::clock_ns() {
    constexpr std::uint64_t kNsPerLook = 20;
    clock_looked_at_ = true;
    return clock_ns_ += kNsPerLook;
}

std::string Executor::deadlock_text() const {
    struct Group {
        unsigned threads = 0;
        const Thread* first = nullptr;
    };
    std::map<std::string, Group> groups;
    for (const auto& block : slots_) {
        for (const Thread& thread : block->threads) {
            if (thread.state == State::kWaiting || thread.state == State::kPolling) {
                Group& group =
                    groups[std::string(thread.wait_for) + " at " + line_text(thread.wait_at)];
                ++group.threads;
                group.first = group.first == nullptr ? &thread : group.first;
            }
        }
    }
    std::string result = std::string(launch_.kernel) + ": deadlock:";
    for (const auto& [where, group] : groups) {
        result += " " + std::to_string(group.threads) + " threads wait in " + where +
                  " (first: " + place(*group.first) + ");";
    }
    const std::uint64_t unstarted = num_blocks_ - admitted_ * launch_.cluster;
    if (unstarted > 0) {
        result += " " + std::to_string(unstarted) +
                  " blocks have not started: only a cooperative launch runs all at once;";
    }
    result.pop_back();
    return result;
}

void Executor::switch_away() {
    Thread* self = current_;
    Thread* next = pick();
    if (next == self) {
        enter(self);
        return;
    }
    if (FiberPool::overflowed(*self->fiber)) {
        fail("its stack overflowed", "");
    }
    Fiber* to = &host_;
    if (next != nullptr) {
        to = next->state == State::kUnstarted ? fibers().take() : next->fiber;
        current_ = next;
    }
    FiberPool::switch_to(self->fiber, to);
    enter(self);
}

void Executor::wait(const char* what, SourceLocation at) {
    current_->state = State::kWaiting;
    current_->wait_for = what;
    current_->wait_at = at;
    switch_away();
}

void Executor::poll(const char* what, SourceLocation at) {
    current_->state = State::kPolling;
    current_->wait_for = what;
    current_->wait_at = at;
    polling_.push_back(current_);
    switch_away();
}

void Executor::polled(const void* address, std::uint64_t value, SourceLocation at) {
    Thread* self = current_;
    if (self->polled == address && self->polled_value == value) {
        poll("a loop that polls", at);
        return;
    }
    self->polled = address;
    self->polled_value = value;
}

void Executor::progress() {
    ++progress_;
    for (Thread* thread : polling_) {
        schedule_.add_ready(thread);
    }
    polling_.clear();
}

void Executor::fail(const std::string& what, const std::string& where) {
    failed_ = true;
    error_ = std::string(launch_.kernel) + ": " + (current_ != nullptr ? place(*current_) : "") +
             (where.empty() ? "" : " at " + where) + ": " + what;
    FiberPool::switch_to(current_->fiber, &host_);
    __builtin_unreachable();
}

std::string Executor::place(const Thread& thread) {
    return "block " + text(thread.block->position) + " thread " + text(thread.position);
}

Report launch(const cuda::Launch& launch, const Options& options) {
    validate(launch);
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    record_launch(launch);
    Executor executor(launch, options);
    return executor.run();
}

std::string Report::text() const {
    std::string result = std::to_string(races) + " races, " + std::to_string(uninitialised) +
                         " reads of memory nobody wrote";
    for (const std::string& message : messages) {
        result += "\n  " + message;
    }
    return result;
}

}  // namespace carousel::simt
