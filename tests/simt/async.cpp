#include "simt/async.hpp"

#include <algorithm>
#include <cstring>

#include "simt/access.hpp"
#include "simt/symbols.hpp"

namespace carousel::simt {

bool AsyncEngine::land_one(std::uint64_t choice) {
    while (!in_flight_.empty()) {
        const std::size_t i = choice % in_flight_.size();
        const TransferPtr transfer = in_flight_[i];
        in_flight_.erase(in_flight_.begin() + static_cast<std::ptrdiff_t>(i));
        if (!transfer->landed) {
            land(*transfer);
            return true;
        }
    }
    return false;
}

void AsyncEngine::prepare(Transfer& transfer) {
    check_access(transfer.to, transfer.bytes, true, transfer.at);
    if (transfer.from != 0 && transfer.valid > 0) {
        check_access(transfer.from, transfer.valid, false, transfer.at);
    }
    const std::size_t align = transfer.async_proxy ? 16 : transfer.bytes;
    if (transfer.to % align != 0 || transfer.from % align != 0 || transfer.bytes % align != 0) {
        executor_.fail("an asynchronous copy whose addresses or size are no multiples of " +
                           std::to_string(align),
                       line_text(transfer.at));
    }
    if (RaceChecker* races = executor_.races()) {
        transfer.token = races->fork(*executor_.current());
    }
}

void AsyncEngine::land(Transfer& transfer) {
    transfer.landed = true;
    const std::string issued = "the copy issued at " + line_text(transfer.at) + " by block " +
                               std::to_string(transfer.token.block);
    if (!is_valid(transfer.to, transfer.bytes)) {
        executor_.fail(issued + " lands in memory that is gone: " + describe_address(transfer.to),
                       "");
    }
    if (transfer.from != 0 && transfer.valid > 0 && !is_valid(transfer.from, transfer.valid)) {
        executor_.fail(issued + " reads memory that is gone: " + describe_address(transfer.from),
                       "");
    }
    auto* to = reinterpret_cast<std::byte*>(transfer.to);
    if (transfer.from != 0) {
        std::memcpy(to, reinterpret_cast<const void*>(transfer.from), transfer.valid);
    } else {
        std::memcpy(to, transfer.value.data(), transfer.valid);
    }
    std::memset(to + transfer.valid, 0, transfer.bytes - transfer.valid);
    RaceChecker* races = executor_.races();
    if (races != nullptr) {
        const std::uint32_t site = RaceChecker::site_of(transfer.at);
        if (transfer.from != 0 && transfer.valid > 0) {
            races->async_access(transfer.token, transfer.from, transfer.valid, false,
                                transfer.async_proxy, site);
        }
        races->async_access(transfer.token, transfer.to, transfer.bytes, true, transfer.async_proxy,
                            site);
    }
    if (transfer.barrier != 0) {
        Mbarrier& barrier = find(transfer.barrier, transfer.at);
        barrier.bytes -= static_cast<std::int64_t>(transfer.bytes);
        if (races != nullptr) {
            barrier.collecting.push_back(races->completion(transfer.token));
        }
        complete(barrier);
    }
    executor_.progress();
}

void AsyncEngine::copy_async(Transfer transfer) {
    prepare(transfer);
    copies_[executor_.current()].open.push_back(std::make_shared<Transfer>(std::move(transfer)));
}

void AsyncEngine::copy_commit() {
    TransferGroups& groups = copies_[executor_.current()];
    groups.committed.push_back(std::move(groups.open));
    groups.open.clear();
}

void AsyncEngine::copy_wait(std::size_t pending) {
    wait_for(copies_[executor_.current()], pending);
}

void AsyncEngine::bulk_store(Transfer transfer) {
    transfer.async_proxy = true;
    prepare(transfer);
    in_flight_.push_back(std::make_shared<Transfer>(std::move(transfer)));
    stores_[executor_.current()].open.push_back(in_flight_.back());
}

void AsyncEngine::bulk_commit() {
    TransferGroups& groups = stores_[executor_.current()];
    groups.committed.push_back(std::move(groups.open));
    groups.open.clear();
}

void AsyncEngine::bulk_wait(std::size_t pending) {
    wait_for(stores_[executor_.current()], pending);
}

void AsyncEngine::wait_for(TransferGroups& groups, std::size_t pending) {
    while (groups.committed.size() > pending) {
        for (const TransferPtr& transfer : groups.committed.front()) {
            if (!transfer->landed) {
                land(*transfer);
            }
            if (RaceChecker* races = executor_.races()) {
                races->join(*executor_.current(), transfer->token);
            }
        }
        groups.committed.erase(groups.committed.begin());
    }
}

void AsyncEngine::start(Transfer transfer) {
    prepare(transfer);
    touch(transfer.barrier, true, transfer.at);
    in_flight_.push_back(std::make_shared<Transfer>(std::move(transfer)));
}

void AsyncEngine::finish_thread(const Thread& thread) {
    if (copies_.empty() && stores_.empty()) {
        return;
    }
    const auto unfinished = [&](auto& all, const char* what) {
        const auto it = all.find(&thread);
        if (it == all.end()) {
            return;
        }
        std::vector<TransferPtr> left = std::move(it->second.open);
        for (const auto& group : it->second.committed) {
            left.insert(left.end(), group.begin(), group.end());
        }
        all.erase(it);
        if (!left.empty()) {
            executor_.fail(std::string("returns without waiting for its ") + what + " issued at " +
                               line_text(left.front()->at),
                           "");
        }
    };
    unfinished(copies_, "cp.async copies");
    unfinished(stores_, "bulk stores");
}

void AsyncEngine::finish_block(std::uintptr_t begin, std::size_t bytes) {
    std::erase_if(barriers_, [&](const auto& entry) { return entry.first - begin < bytes; });
}

void AsyncEngine::touch(std::uintptr_t barrier, bool writes, SourceLocation at) {
    check_access(barrier, sizeof(std::uint64_t), writes, at);
    if (RaceChecker* races = executor_.races()) {
        races->mark_strong(*executor_.current(), barrier, sizeof(std::uint64_t), true, writes,
                           Scope::kCluster, RaceChecker::site_of(at));
    }
}

Mbarrier& AsyncEngine::find(std::uintptr_t barrier, SourceLocation at) {
    const auto it = barriers_.find(barrier);
    if (it == barriers_.end()) {
        executor_.fail("an mbarrier that was not initialised: " + describe_address(barrier),
                       line_text(at));
    }
    return it->second;
}

void AsyncEngine::barrier_init(std::uintptr_t barrier, unsigned arrivals, SourceLocation at) {
    check_access(barrier, sizeof(std::uint64_t), true, at);
    if (barrier % sizeof(std::uint64_t) != 0 || arrivals == 0) {
        executor_.fail("an mbarrier that is not aligned to 8 bytes or expects nobody",
                       line_text(at));
    }
    if (RaceChecker* races = executor_.races()) {
        races->access(*executor_.current(), barrier, sizeof(std::uint64_t), true,
                      RaceChecker::site_of(at));
    }
    Mbarrier fresh;
    fresh.expected = fresh.pending = arrivals;
    barriers_[barrier] = std::move(fresh);
}

void AsyncEngine::barrier_invalidate(std::uintptr_t barrier, SourceLocation at) {
    touch(barrier, true, at);
    find(barrier, at);
    barriers_.erase(barrier);
}

void AsyncEngine::barrier_arrive(std::uintptr_t address, unsigned expect_bytes, Scope scope,
                                 SourceLocation at) {
    touch(address, true, at);
    Mbarrier& barrier = find(address, at);
    if (barrier.pending == 0) {
        executor_.fail("more arrivals at an mbarrier than its phase expects", line_text(at));
    }
    barrier.bytes += expect_bytes;
    --barrier.pending;
    if (RaceChecker* races = executor_.races()) {
        barrier.collecting.push_back(races->release(*executor_.current(), scope));
    }
    complete(barrier);
}

void AsyncEngine::complete(Mbarrier& barrier) {
    if (barrier.pending != 0 || barrier.bytes != 0) {
        return;
    }
    barrier.pending = barrier.expected;
    ++barrier.phase;
    barrier.completed = std::move(barrier.collecting);
    barrier.collecting.clear();
    executor_.progress();
}

bool AsyncEngine::barrier_try_wait(std::uintptr_t address, unsigned parity, Scope scope,
                                   SourceLocation at) {
    touch(address, false, at);
    if ((find(address, at).phase & 1U) == parity) {
        executor_.poll("an mbarrier's wait", at);
    }
    Mbarrier& barrier = find(address, at);
    if ((barrier.phase & 1U) == parity) {
        return false;
    }
    if (RaceChecker* races = executor_.races()) {
        for (const ReleaseClock& released : barrier.completed) {
            races->acquire(*executor_.current(), released, scope);
        }
    }
    return true;
}

}  // namespace carousel::simt
