#pragma once

// What the instrumentation of kernel code reports.

#include <cstddef>
#include <cstdint>

#include "simt/executor.hpp"
#include "simt/memory.hpp"

namespace carousel::simt {

/// A plain access to device memory by the running thread; `caller` is the address after it.
void note_access(std::uintptr_t address, std::size_t size, bool write, const void* caller);
/// The same through a volatile pointer: a relaxed strong access at system scope.
void note_volatile(std::uintptr_t address, std::size_t size, bool write, const void* caller);

/// Faults unless the running thread may access these bytes.
void check_access(std::uintptr_t address, std::size_t size, bool write, SourceLocation at);

}  // namespace carousel::simt
