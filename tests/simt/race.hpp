#pragma once

// The race checker: happens-before by vector clocks, with CUDA's rules for what orders memory.
//
//   orders           block and named barriers, __syncwarp, cluster barriers, mbarriers, launches;
//                    release -> acquire of the same location where the scopes of both reach the other
//                    thread; relaxed accesses with fences around them, likewise
//   does not order   shuffles and votes, relaxed accesses alone, program luck
//
// An access that conflicts with an earlier one which nothing orders before it is a race, unless both
// are strong and each is in the other's scope. Asynchronous copies act as twins of the thread that
// issued them: their accesses are ordered before nothing until somebody waits for them.

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "simt/device_runtime.hpp"
#include "simt/race_shadow.hpp"
#include "simt/vector_clock.hpp"

namespace carousel::simt {

struct Allocation;
struct Block;
struct Report;
struct Thread;

/// What a release made visible, to whom.
struct ReleaseClock {
    ClockPtr clock;        ///< ordered before whoever acquires it
    ClockPtr async_clock;  ///< of that, what also the asynchronous proxy sees
    Scope scope = Scope::kDevice;
    std::uint32_t block = 0;
    std::uint32_t cluster = 0;
};

/// What an asynchronous copy carries from its issue to its completion.
struct AsyncToken {
    std::uint32_t block = 0, thread = 0, clock = 0, cluster = 0;
    ClockPtr known, async_known;
};

class RaceChecker {
public:
    RaceChecker(Report& report, unsigned block_threads, unsigned cluster, std::size_t slots);

    void start_block(const Block& block);
    void access(const Thread& thread, std::uintptr_t address, std::size_t size, bool write,
                std::uint32_t site);
    void strong_access(const Thread& thread, std::uintptr_t address, std::size_t size, bool reads,
                       bool writes, Order order, Scope scope, std::uint32_t site);
    /// The mark of a strong access by an instruction that orders memory in its own way.
    void mark_strong(const Thread& thread, std::uintptr_t address, std::size_t size, bool reads,
                     bool writes, Scope scope, std::uint32_t site);
    void fence(const Thread& thread, Scope scope);
    /// Orders everything the threads did before everything they do next.
    void synchronise(const std::vector<Thread*>& threads);
    /// The same in two halves: arrivals of a barrier, whose waiters may be others.
    ReleaseClock release(const Thread& thread, Scope scope);
    /// What a relaxed arrival hands on: the work before the thread's last fence.
    ReleaseClock fenced(const Thread& thread, Scope scope);
    void acquire(const Thread& thread, const ReleaseClock& released, Scope scope);

    static ReleaseClock combined(const ReleaseClock& a, const ReleaseClock& b);

    AsyncToken fork(const Thread& thread);
    void async_access(const AsyncToken& token, std::uintptr_t address, std::size_t size, bool write,
                      bool async_proxy, std::uint32_t site);
    ReleaseClock completion(const AsyncToken& token) const;
    void join(const Thread& thread, const AsyncToken& token);
    void proxy_fence(const Thread& thread);

    static std::uint32_t site_of(const void* caller);
    static std::uint32_t site_of(const SourceLocation& at);

private:
    struct Pending {
        ReleaseClock released;
        Scope scope;
    };
    struct ThreadClock {
        std::uint32_t clock = 1, twin_clock = 0;
        ClockPtr known, async_known;
        std::array<ClockPtr, 4> fenced, async_fenced;  ///< by scope
        std::vector<Pending> pending;
    };
    struct Who {  ///< an agent and what it knows
        std::uint32_t block, agent, clock, cluster;
        const VectorClock* known;
        const VectorClock* async_known;  ///< null outside the asynchronous proxy
    };

    ThreadClock& clock_of(const Thread& thread);
    Who who(const Thread& thread);
    ClockPtr snapshot(const Thread& thread, const ClockPtr& known);
    bool reaches(Scope scope, std::uint32_t from_block, std::uint32_t to_block) const;
    bool conflicts(const AccessRecord& before, const Who& now, const AccessRecord& record) const;
    void visit(const Who& now, std::uintptr_t address, std::size_t size, bool reads, bool writes,
               AccessRecord record);
    void visit_cell(ShadowCell& cell, const Who& now, const AccessRecord& record, bool writes,
                    std::uintptr_t address);
    void note_read(ShadowCell& cell, const Who& now, const AccessRecord& record);
    void report_race(const AccessRecord& before, bool before_writes, const AccessRecord& now,
                     bool now_writes, std::uintptr_t address);
    void report_uninitialised(const AccessRecord& now, std::uintptr_t address);
    static void add(std::vector<ReleaseClock>& releases, const ReleaseClock& released);

    Report& report_;
    unsigned block_threads_, cluster_;
    std::uint32_t launch_;
    std::vector<std::vector<ThreadClock>> clocks_;  ///< by slot and thread
    std::unordered_map<std::uintptr_t, std::vector<ReleaseClock>> locations_;
    std::unordered_map<std::uint64_t, bool> reported_;
    std::minstd_rand sample_;
};

/// Text of a site, "file.cu:12".
std::string site_text(std::uint32_t site);

}  // namespace carousel::simt
