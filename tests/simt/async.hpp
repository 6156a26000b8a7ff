#pragma once

// Asynchronous effects of a launch: mbarriers, and copies that land after their issue. They land as
// late as they may or at random points between, so that a kernel which does not wait meets old bytes.

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "simt/device_runtime.hpp"
#include "simt/race.hpp"

namespace carousel::simt {

class Executor;

/// A copy on its way.
struct Transfer {
    std::uintptr_t to = 0, from = 0;   ///< from 0: the bytes lie in `value`
    std::size_t bytes = 0, valid = 0;  ///< beyond `valid`, zeros are written
    std::array<std::byte, 16> value{};
    std::uintptr_t barrier = 0;  ///< mbarrier that completes by it, or 0
    bool async_proxy = false;
    bool landed = false;
    SourceLocation at;
    AsyncToken token;
};
using TransferPtr = std::shared_ptr<Transfer>;

/// The groups in which a thread waits for its copies.
struct TransferGroups {
    std::vector<TransferPtr> open;
    std::vector<std::vector<TransferPtr>> committed;
};

struct Mbarrier {
    unsigned expected = 0, pending = 0;
    std::int64_t bytes = 0;
    unsigned phase = 0;
    std::vector<ReleaseClock> collecting, completed;
};

class AsyncEngine {
public:
    explicit AsyncEngine(Executor& executor) : executor_(executor) {}

    /// Lands one copy; false when none is on its way.
    bool land_one(std::uint64_t choice);
    bool idle() const { return in_flight_.empty(); }
    /// Of a thread that returns: copies it has not waited for are a fault.
    void finish_thread(const Thread& thread);
    void finish_block(std::uintptr_t begin, std::size_t bytes);

    void copy_async(Transfer transfer);
    void copy_commit();
    void copy_wait(std::size_t pending);
    void bulk_store(Transfer transfer);
    void bulk_commit();
    void bulk_wait(std::size_t pending);
    /// A store or copy that completes on transfer.barrier.
    void start(Transfer transfer);

    void barrier_init(std::uintptr_t barrier, unsigned arrivals, SourceLocation at);
    void barrier_invalidate(std::uintptr_t barrier, SourceLocation at);
    void barrier_arrive(std::uintptr_t barrier, unsigned expect_bytes, Scope scope,
                        SourceLocation at);
    bool barrier_try_wait(std::uintptr_t barrier, unsigned parity, Scope scope, SourceLocation at);

private:
    void prepare(Transfer& transfer);
    void land(Transfer& transfer);
    Mbarrier& find(std::uintptr_t barrier, SourceLocation at);
    void touch(std::uintptr_t barrier, bool writes, SourceLocation at);
    void complete(Mbarrier& barrier);
    void wait_for(TransferGroups& groups, std::size_t pending);

    Executor& executor_;
    std::vector<TransferPtr> in_flight_;
    std::unordered_map<std::uintptr_t, Mbarrier> barriers_;
    std::unordered_map<const Thread*, TransferGroups> copies_, stores_;
};

}  // namespace carousel::simt
