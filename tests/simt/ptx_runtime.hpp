#pragma once

#include <cstddef>
#include <cstdint>

#include "simt/device_runtime.hpp"

namespace carousel::simt {

// What the twins ask of the executor.
void device_access(std::uintptr_t address, std::size_t size, bool write, SourceLocation at);
void proxy_fence();
void mbarrier_init_fence();
void cluster_arrive(bool releases, SourceLocation at);
void cluster_wait(SourceLocation at);
unsigned cluster_rank();
unsigned cluster_size();
std::uintptr_t map_to_rank(std::uintptr_t address, unsigned rank, SourceLocation at);
void mbarrier_init(std::uintptr_t barrier, unsigned arrivals, SourceLocation at);
void mbarrier_invalidate(std::uintptr_t barrier, SourceLocation at);
void mbarrier_arrive(std::uintptr_t barrier, unsigned expect_bytes, Scope scope, SourceLocation at);
bool mbarrier_try_wait(std::uintptr_t barrier, unsigned parity, Scope scope, SourceLocation at);
void store_async(std::uintptr_t to, const void* value, std::size_t bytes, std::uintptr_t barrier,
                 SourceLocation at);
void bulk_copy(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, std::uintptr_t barrier,
               SourceLocation at);
void bulk_store(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, SourceLocation at);
void bulk_commit();
void bulk_wait(std::size_t pending);
void copy_async(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, std::size_t valid,
                SourceLocation at);
void copy_async_commit();
void copy_async_wait(std::size_t pending);

}  // namespace carousel::simt
