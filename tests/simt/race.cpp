#include "simt/race.hpp"

#include <algorithm>
#include <string>

#include "simt/executor.hpp"
#include "simt/memory.hpp"

namespace carousel::simt {

namespace {

std::uint32_t next_stamp() {
    static std::uint32_t stamp = 0;
    return ++stamp;
}

}  // namespace

RaceChecker::RaceChecker(Report& report, unsigned block_threads, unsigned cluster,
                         std::size_t slots)
    : report_(report),
      block_threads_(block_threads),
      cluster_(cluster),
      launch_(next_stamp()),
      clocks_(slots) {}

void RaceChecker::start_block(const Block& block) {
    clocks_[block.slot].assign(block_threads_, ThreadClock{});
}

RaceChecker::ThreadClock& RaceChecker::clock_of(const Thread& thread) {
    return clocks_[thread.block->slot][thread.index];
}

RaceChecker::Who RaceChecker::who(const Thread& thread) {
    const ThreadClock& clock = clock_of(thread);
    const auto block = static_cast<std::uint32_t>(thread.block->linear);
    return {block, thread.index, clock.clock, block / cluster_, clock.known.get(), nullptr};
}

/// What a thread knows and what it has done itself.
ClockPtr RaceChecker::snapshot(const Thread& thread, const ClockPtr& known) {
    auto result =
        known == nullptr ? std::make_shared<VectorClock>() : std::make_shared<VectorClock>(*known);
    raise_entry(result->chunk(static_cast<std::uint32_t>(thread.block->linear)).threads,
                block_threads_, thread.index, clock_of(thread).clock);
    return result;
}

bool RaceChecker::reaches(Scope scope, std::uint32_t from_block, std::uint32_t to_block) const {
    return from_block == to_block || scope >= Scope::kDevice ||
           (scope == Scope::kCluster && from_block / cluster_ == to_block / cluster_);
}

bool RaceChecker::conflicts(const AccessRecord& before, const Who& now,
                            const AccessRecord& record) const {
    if (before.clock == 0 ||
        (before.block == now.block && before.agent == now.agent && now.async_known == nullptr)) {
        return false;
    }
    if (before.strong != 0 && record.strong != 0 &&
        reaches(before.scope, before.block, now.block) &&
        reaches(record.scope, now.block, before.block)) {
        return false;
    }
    return now.known == nullptr || now.known->of(before.block, before.agent) < before.clock;
}

void RaceChecker::note_read(ShadowCell& cell, const Who& now, const AccessRecord& record) {
    AccessRecord* place = nullptr;
    for (AccessRecord& read : cell.reads) {
        const bool covered = read.clock == 0 ||
                             (read.block == now.block && read.agent == now.agent) ||
                             (read.strong == record.strong && now.known != nullptr &&
                              now.known->of(read.block, read.agent) >= read.clock);
        if (covered) {
            if (place == nullptr) {
                place = &read;
            } else {
                read.clock = 0;
            }
        }
    }
    if (place == nullptr) {
        // Of many readers at once any will do: a write that nothing orders meets most of them.
        const auto choice = sample_() % (2 * cell.reads.size());
        if (choice >= cell.reads.size()) {
            return;
        }
        place = &cell.reads[choice];
    }
    *place = record;
}

void RaceChecker::visit_cell(ShadowCell& cell, const Who& now, const AccessRecord& record,
                             bool writes, std::uintptr_t address) {
    // Ordered, but written through the generic proxy with no proxy fence since.
    const bool unfenced =
        now.async_known != nullptr && cell.write.clock != 0 && cell.write.agent < kFirstTwin &&
        now.async_known->of(cell.write.block, cell.write.agent) < cell.write.clock;
    if (conflicts(cell.write, now, record) || unfenced) {
        report_race(cell.write, true, record, writes, address);
    }
    if (!writes) {
        note_read(cell, now, record);
        return;
    }
    for (AccessRecord& read : cell.reads) {
        if (conflicts(read, now, record)) {
            report_race(read, false, record, true, address);
        }
        read.clock = 0;
    }
    cell.write = record;
}

void RaceChecker::visit(const Who& now, std::uintptr_t address, std::size_t size, bool reads,
                        bool writes, AccessRecord record) {
    Allocation* allocation = find_allocation(address);
    if (allocation->races == nullptr) {
        allocation->races = std::make_unique<RaceShadow>();
    }
    RaceShadow& shadow = *allocation->races;
    if (shadow.launch != launch_) {
        shadow.launch = launch_;
        shadow.stamp = next_stamp();
    }
    const std::size_t offset = address - allocation->begin;
    shadow.fit(offset, size);
    record.block = now.block;
    record.agent = static_cast<std::uint16_t>(now.agent);
    record.clock = now.clock;
    const std::size_t last = (offset + size - 1) >> shadow.shift;
    for (std::size_t i = offset >> shadow.shift; i <= last; ++i) {
        ShadowCell& cell = shadow.cell(i);
        const std::uintptr_t at = allocation->begin + (i << shadow.shift);
        if (reads && allocation->shared && cell.write.clock == 0) {
            report_uninitialised(record, at);
        }
        visit_cell(cell, now, record, writes, at);
    }
}

void RaceChecker::access(const Thread& thread, std::uintptr_t address, std::size_t size, bool write,
                         std::uint32_t site) {
    AccessRecord record;
    record.site = site;
    visit(who(thread), address, size, !write, write, record);
}

void RaceChecker::add(std::vector<ReleaseClock>& releases, const ReleaseClock& released) {
    for (ReleaseClock& known : releases) {
        if (known.scope == released.scope &&
            (known.block == released.block || known.scope >= Scope::kDevice)) {
            known.clock = joined(known.clock, released.clock);
            known.async_clock = joined(known.async_clock, released.async_clock);
            return;
        }
    }
    releases.push_back(released);
}

void RaceChecker::mark_strong(const Thread& thread, std::uintptr_t address, std::size_t size,
                              bool reads, bool writes, Scope scope, std::uint32_t site) {
    AccessRecord record;
    record.site = site;
    record.strong = 1;
    record.scope = scope;
    visit(who(thread), address, size, reads, writes, record);
}

void RaceChecker::strong_access(const Thread& thread, std::uintptr_t address, std::size_t size,
                                bool reads, bool writes, Order order, Scope scope,
                                std::uint32_t site) {
    mark_strong(thread, address, size, reads, writes, scope, site);
    std::vector<ReleaseClock>& releases = locations_[address];
    ThreadClock& clock = clock_of(thread);
    if (reads) {
        const bool acquires = order == Order::kAcquire || order == Order::kAcquireRelease;
        for (const ReleaseClock& released : std::vector<ReleaseClock>(releases)) {
            if (acquires) {
                acquire(thread, released, scope);
            } else {
                clock.pending.push_back({released, scope});
            }
        }
        constexpr std::size_t kManyPending = 64;  // of a loop that polls without a fence
        if (clock.pending.size() > kManyPending) {
            clock.pending.erase(clock.pending.begin(), clock.pending.begin() + kManyPending / 2);
        }
    }
    if (!writes) {
        return;
    }
    if (!reads) {
        releases.clear();  // a plain overwrite ends the release sequence; an update carries it on
    }
    if (order == Order::kRelease || order == Order::kAcquireRelease) {
        add(releases, release(thread, scope));
        return;
    }
    for (std::size_t wide = 0; wide < clock.fenced.size(); ++wide) {
        if (clock.fenced[wide] != nullptr) {
            const Scope both = std::min(static_cast<Scope>(wide), scope);
            const Who self = who(thread);
            add(releases,
                {clock.fenced[wide], clock.async_fenced[wide], both, self.block, self.cluster});
        }
    }
}

void RaceChecker::fence(const Thread& thread, Scope scope) {
    ThreadClock& clock = clock_of(thread);
    for (const Pending& pending : std::vector<Pending>(std::move(clock.pending))) {
        acquire(thread, pending.released, std::min(scope, pending.scope));
    }
    clock.pending.clear();
    const ReleaseClock released = release(thread, scope);
    clock.fenced[static_cast<std::size_t>(scope)] = released.clock;
    clock.async_fenced[static_cast<std::size_t>(scope)] = released.async_clock;
}

ReleaseClock RaceChecker::release(const Thread& thread, Scope scope) {
    ThreadClock& clock = clock_of(thread);
    const Who self = who(thread);
    ReleaseClock released{snapshot(thread, clock.known), clock.async_known, scope, self.block,
                          self.cluster};
    ++clock.clock;
    return released;
}

ReleaseClock RaceChecker::fenced(const Thread& thread, Scope scope) {
    const ThreadClock& clock = clock_of(thread);
    const Who self = who(thread);
    ReleaseClock released{nullptr, nullptr, scope, self.block, self.cluster};
    for (std::size_t wide = static_cast<std::size_t>(scope); wide < clock.fenced.size(); ++wide) {
        released.clock = joined(released.clock, clock.fenced[wide]);
        released.async_clock = joined(released.async_clock, clock.async_fenced[wide]);
    }
    return released;
}

void RaceChecker::acquire(const Thread& thread, const ReleaseClock& released, Scope scope) {
    const auto block = static_cast<std::uint32_t>(thread.block->linear);
    if (released.clock == nullptr ||
        !reaches(std::min(scope, released.scope), released.block, block)) {
        return;
    }
    ThreadClock& clock = clock_of(thread);
    clock.known = joined(clock.known, released.clock);
    clock.async_known = joined(clock.async_known, released.async_clock);
}

void RaceChecker::synchronise(const std::vector<Thread*>& threads) {
    auto all = std::make_shared<VectorClock>();
    ClockPtr async_all;
    const VectorClock* last = nullptr;
    for (const Thread* thread : threads) {
        const ThreadClock& clock = clock_of(*thread);
        if (clock.known != nullptr && clock.known.get() != last) {
            all->join(*clock.known);
            last = clock.known.get();
        }
        async_all = joined(async_all, clock.async_known);
    }
    // Threads of whole blocks get one clock; of others, each its own entry.
    std::size_t first = 0;
    while (first < threads.size()) {
        const Block* block = threads[first]->block;
        std::size_t end = first;
        std::uint32_t highest = 0;
        while (end < threads.size() && threads[end]->block == block) {
            highest = std::max(highest, clock_of(*threads[end]).clock);
            ++end;
        }
        ClockChunk& chunk = all->chunk(static_cast<std::uint32_t>(block->linear));
        if (end - first == block_threads_) {
            chunk.uniform = std::max(chunk.uniform, highest);
            chunk.threads = nullptr;
        } else {
            auto lanes = chunk.threads == nullptr
                             ? std::make_shared<std::vector<std::uint32_t>>(block_threads_)
                             : std::make_shared<std::vector<std::uint32_t>>(*chunk.threads);
            for (std::size_t i = first; i < end; ++i) {
                (*lanes)[threads[i]->index] = highest;
            }
            chunk.threads = std::move(lanes);
        }
        for (std::size_t i = first; i < end; ++i) {
            clock_of(*threads[i]).clock = highest + 1;
        }
        first = end;
    }
    const ClockPtr known = std::move(all);
    for (const Thread* thread : threads) {
        clock_of(*thread).known = known;
        clock_of(*thread).async_known = async_all;
    }
}

ReleaseClock RaceChecker::combined(const ReleaseClock& a, const ReleaseClock& b) {
    ReleaseClock result = b;
    result.clock = joined(a.clock, b.clock);
    result.async_clock = joined(a.async_clock, b.async_clock);
    return result;
}

AsyncToken RaceChecker::fork(const Thread& thread) {
    ThreadClock& clock = clock_of(thread);
    const ReleaseClock released = release(thread, Scope::kSystem);
    return {released.block,   thread.index,   ++clock.twin_clock,
            released.cluster, released.clock, clock.async_known};
}

void RaceChecker::async_access(const AsyncToken& token, std::uintptr_t address, std::size_t size,
                               bool write, bool async_proxy, std::uint32_t site) {
    static const VectorClock kNothing;
    const VectorClock* async_known =
        token.async_known != nullptr ? token.async_known.get() : &kNothing;
    AccessRecord record;
    record.site = site;
    visit({token.block, kFirstTwin + token.thread, token.clock, token.cluster, token.known.get(),
           async_proxy ? async_known : nullptr},
          address, size, !write, write, record);
}

ReleaseClock RaceChecker::completion(const AsyncToken& token) const {
    auto clock = std::make_shared<VectorClock>();
    raise_entry(clock->chunk(token.block).twins, block_threads_, token.thread, token.clock);
    const ClockPtr done = std::move(clock);
    return {done, done, Scope::kSystem, token.block, token.cluster};
}

void RaceChecker::join(const Thread& thread, const AsyncToken& token) {
    acquire(thread, completion(token), Scope::kSystem);
}

void RaceChecker::proxy_fence(const Thread& thread) {
    ThreadClock& clock = clock_of(thread);
    clock.async_known = joined(clock.async_known, snapshot(thread, clock.known));
    ++clock.clock;
}

}  // namespace carousel::simt
