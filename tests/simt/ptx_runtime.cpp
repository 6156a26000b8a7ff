#include "simt/ptx_runtime.hpp"

#include <cstring>

#include "simt/executor.hpp"

namespace carousel::simt {

void proxy_fence() {
    if (RaceChecker* races = running_executor->races()) {
        races->proxy_fence(*running_executor->current());
    }
}
void mbarrier_init_fence() { fence(Scope::kCluster); }

void cluster_arrive(bool releases, SourceLocation at) {
    running_executor->cluster_arrive(releases, at);
}
void cluster_wait(SourceLocation at) { running_executor->cluster_wait(at); }
unsigned cluster_rank() { return running_executor->cluster_rank(); }
unsigned cluster_size() { return running_executor->cluster_size(); }
std::uintptr_t map_to_rank(std::uintptr_t address, unsigned rank, SourceLocation at) {
    return running_executor->map_to_rank(address, rank, at);
}

void mbarrier_init(std::uintptr_t barrier, unsigned arrivals, SourceLocation at) {
    running_executor->async().barrier_init(barrier, arrivals, at);
}
void mbarrier_invalidate(std::uintptr_t barrier, SourceLocation at) {
    running_executor->async().barrier_invalidate(barrier, at);
}
void mbarrier_arrive(std::uintptr_t barrier, unsigned expect_bytes, Scope scope,
                     SourceLocation at) {
    running_executor->async().barrier_arrive(barrier, expect_bytes, scope, at);
}
bool mbarrier_try_wait(std::uintptr_t barrier, unsigned parity, Scope scope, SourceLocation at) {
    return running_executor->async().barrier_try_wait(barrier, parity, scope, at);
}

void store_async(std::uintptr_t to, const void* value, std::size_t bytes, std::uintptr_t barrier,
                 SourceLocation at) {
    Transfer transfer;
    transfer.to = to;
    transfer.bytes = transfer.valid = bytes;
    std::memcpy(transfer.value.data(), value, bytes);
    transfer.barrier = barrier;
    transfer.at = at;
    running_executor->async().start(std::move(transfer));
}

void bulk_copy(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, std::uintptr_t barrier,
               SourceLocation at) {
    Transfer transfer;
    transfer.to = to;
    transfer.from = from;
    transfer.bytes = transfer.valid = bytes;
    transfer.barrier = barrier;
    transfer.async_proxy = true;
    transfer.at = at;
    running_executor->async().start(std::move(transfer));
}

void bulk_store(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, SourceLocation at) {
    Transfer transfer;
    transfer.to = to;
    transfer.from = from;
    transfer.bytes = transfer.valid = bytes;
    transfer.at = at;
    running_executor->async().bulk_store(std::move(transfer));
}
void bulk_commit() { running_executor->async().bulk_commit(); }
void bulk_wait(std::size_t pending) { running_executor->async().bulk_wait(pending); }

void copy_async(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, std::size_t valid,
                SourceLocation at) {
    Transfer transfer;
    transfer.to = to;
    transfer.from = from;
    transfer.bytes = bytes;
    transfer.valid = valid;
    transfer.at = at;
    running_executor->async().copy_async(std::move(transfer));
}
void copy_async_commit() { running_executor->async().copy_commit(); }
void copy_async_wait(std::size_t pending) { running_executor->async().copy_wait(pending); }

}  // namespace carousel::simt
