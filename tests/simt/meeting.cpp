// Where threads meet: block barriers and warp operations.

#include <bit>
#include <cstring>

#include "simt/executor.hpp"
#include "simt/symbols.hpp"

namespace carousel::simt {

namespace {

bool same_line(const SourceLocation& a, const SourceLocation& b) {
    return a.line() == b.line() &&
           (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

}  // namespace

unsigned Executor::barrier(unsigned id, unsigned count, bool wait_for_all, unsigned value,
                           SourceLocation at) {
    Block* block = current_->block;
    const unsigned expected = count == 0 ? block_threads_ : count;
    if (id >= kNumBarriers || expected > block_threads_) {
        fail("barrier " + std::to_string(id) + " of " + std::to_string(expected) +
                 " threads does not exist",
             line_text(at));
    }
    NamedBarrier& named = block->barriers[id];
    if (id == 0 && block->exited > 0) {
        fail("divergent barrier: " + std::to_string(block->exited) +
                 " threads of the block have returned before this barrier",
             line_text(at));
    }
    if (named.arrived > 0 && named.expected != expected) {
        fail("barrier " + std::to_string(id) + " is in use for " + std::to_string(named.expected) +
                 " threads, not " + std::to_string(expected),
             line_text(at));
    }
    bool& has_line = wait_for_all ? named.has_sync_line : named.has_arrive_line;
    SourceLocation& line = wait_for_all ? named.sync_at : named.arrive_at;
    if (has_line && !same_line(line, at)) {
        fail("divergent barrier: others of this generation have arrived at " + line_text(line),
             line_text(at));
    }
    has_line = true;
    line = at;
    named.expected = expected;
    named.sum += value;
    ++named.arrived;
    Thread* self = current_;
    if (wait_for_all) {
        named.waiting.push_back(self);
    } else if (races_ != nullptr) {
        named.handed_on.push_back(races_->release(*self, Scope::kBlock));
    }
    if (named.arrived == expected) {
        release_barrier(named);
        return self->barrier_result;
    }
    if (!wait_for_all) {
        return 0;
    }
    wait("a barrier", at);
    return self->barrier_result;
}

void Executor::release_barrier(NamedBarrier& named) {
    if (races_ != nullptr) {
        races_->synchronise(named.waiting);
        for (const ReleaseClock& released : named.handed_on) {
            for (const Thread* thread : named.waiting) {
                races_->acquire(*thread, released, Scope::kBlock);
            }
        }
        named.handed_on.clear();
    }
    current_->barrier_result = 0;
    for (Thread* thread : named.waiting) {
        thread->barrier_result = named.sum;
        if (thread != current_) {
            schedule_.add_ready(thread);
        }
    }
    named.waiting.clear();
    named.arrived = 0;
    named.sum = 0;
    named.has_sync_line = named.has_arrive_line = false;
    ++progress_;
}

void Executor::warp_collective(const WarpOperation& operation, unsigned mask, void* payload,
                               SourceLocation at) {
    Thread* self = current_;
    Warp& warp = *self->warp;
    const unsigned bit = 1U << self->lane;
    const unsigned needed = mask & warp.present;
    if ((mask & bit) == 0) {
        fail(std::string(operation.name) + ": the lane is not in its own mask", line_text(at));
    }
    if (operation.whole_warp && warp.present != 0xFFFFFFFFU) {
        fail(std::string(operation.name) + ": the warp has not got 32 lanes", line_text(at));
    }
    if ((mask & warp.exited) != 0) {
        fail(std::string(operation.name) + ": its mask names lanes that have returned",
             line_text(at));
    }
    Rendezvous* slot = nullptr;
    for (Rendezvous& pending : warp.pending) {
        if (pending.operation == nullptr) {
            slot = slot == nullptr ? &pending : slot;
            continue;
        }
        if ((pending.mask & mask) == 0) {
            continue;
        }
        const bool same = pending.mask == mask &&
                          std::strcmp(pending.operation->name, operation.name) == 0 &&
                          (!operation.same_line || same_line(pending.at, at));
        if (!same) {
            fail(std::string("divergent warp: ") + operation.name + " here, while other lanes of " +
                     "its mask are in " + pending.operation->name + " at " + line_text(pending.at),
                 line_text(at));
        }
        slot = &pending;
        break;
    }
    if (slot == nullptr) {
        warp.pending.emplace_back();
        slot = &warp.pending.back();
    }
    if (slot->operation == nullptr) {
        *slot = Rendezvous{
            .operation = &operation, .mask = mask, .arrived = 0, .at = at, .payloads = {}};
    }
    slot->arrived |= bit;
    slot->payloads[self->lane] = payload;
    if (slot->arrived != needed) {
        wait(operation.name, at);
        return;
    }
    operation.body(slot->payloads.data(), needed);
    if (operation.orders_memory && races_ != nullptr) {
        std::vector<Thread*> lanes;
        for (unsigned rest = needed; rest != 0; rest &= rest - 1) {
            lanes.push_back(warp.first + std::countr_zero(rest));
        }
        races_->synchronise(lanes);
    }
    slot->operation = nullptr;
    ++progress_;
    for (unsigned others = needed & ~bit; others != 0; others &= others - 1) {
        schedule_.add_ready(warp.first + std::countr_zero(others));
    }
}

}  // namespace carousel::simt
