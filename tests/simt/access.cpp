#include "simt/access.hpp"

#include <algorithm>
#include <cstring>

#include "simt/ptx_runtime.hpp"
#include "simt/symbols.hpp"

namespace carousel::simt {

namespace {

/// Null when the access is allowed.
const char* why_not(std::uintptr_t address, std::size_t size, bool write) {
    if (!is_valid(address, size)) {
        return "out of bounds";
    }
    if (write) {
        const Allocation* allocation = find_allocation(address);
        if (allocation->read_only) {
            return "write to a read-only buffer";
        }
    }
    return nullptr;
}

std::string fault_text(const char* why, std::uintptr_t address, std::size_t size, bool write) {
    return std::string(why) + ": " + (write ? "writes " : "reads ") + std::to_string(size) +
           " bytes of " + describe_address(address);
}

std::uint64_t volatile_bits(std::uintptr_t address, std::size_t size) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, reinterpret_cast<const void*>(address), std::min<std::size_t>(size, 8));
    return bits;
}

void record(const void* address, std::size_t size, bool reads, bool writes, Order order,
            Scope scope, SourceLocation at) {
    RaceChecker* races = running_executor->races();
    if (races != nullptr && in_arena(address)) {
        races->strong_access(*running_executor->current(),
                             reinterpret_cast<std::uintptr_t>(address), size, reads, writes, order,
                             scope, RaceChecker::site_of(at));
    }
}

}  // namespace

void note_access(std::uintptr_t address, std::size_t size, bool write, const void* caller) {
    if (const char* why = why_not(address, size, write)) {
        running_executor->fail(fault_text(why, address, size, write), source_line(caller));
    }
    if (RaceChecker* races = running_executor->races()) {
        races->access(*running_executor->current(), address, size, write,
                      RaceChecker::site_of(caller));
    }
}

void note_volatile(std::uintptr_t address, std::size_t size, bool write, const void* caller) {
    if (const char* why = why_not(address, size, write)) {
        running_executor->fail(fault_text(why, address, size, write), source_line(caller));
    }
    if (RaceChecker* races = running_executor->races()) {
        races->strong_access(*running_executor->current(), address, size, !write, write,
                             Order::kRelaxed, Scope::kSystem, RaceChecker::site_of(caller));
    }
    if (write) {
        running_executor->progress();
    } else {
        // The value is read after this hook: the loop looks again once others have run.
        running_executor->polled(reinterpret_cast<const void*>(address),
                                 volatile_bits(address, size), SourceLocation::current());
    }
}

void check_access(std::uintptr_t address, std::size_t size, bool write, SourceLocation at) {
    const char* why = in_arena(address) ? why_not(address, size, write) : "no device memory";
    if (why != nullptr) {
        running_executor->fail(fault_text(why, address, size, write), line_text(at));
    }
}

void device_access(std::uintptr_t address, std::size_t size, bool write, SourceLocation at) {
    check_access(address, size, write, at);
    if (RaceChecker* races = running_executor->races()) {
        races->access(*running_executor->current(), address, size, write, RaceChecker::site_of(at));
    }
}

void strong_before(const void* address, std::size_t size, bool writes, SourceLocation at) {
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    if (begin % size != 0) {
        running_executor->fail("a strong access to an address that is no multiple of its size",
                               line_text(at));
    }
    if (in_arena(begin)) {
        check_access(begin, size, writes, at);
    }
}

void strong_read(const void* address, std::size_t size, std::uint64_t value, Order order,
                 Scope scope, SourceLocation at) {
    record(address, size, true, false, order, scope, at);
    running_executor->polled(address, value, at);
}

void strong_write(const void* address, std::size_t size, Order order, Scope scope,
                  SourceLocation at) {
    record(address, size, false, true, order, scope, at);
    running_executor->progress();
}

void strong_update(const void* address, std::size_t size, std::uint64_t old_value, bool changed,
                   Order order, Scope scope, SourceLocation at) {
    record(address, size, true, true, order, scope, at);
    if (changed) {
        running_executor->progress();
    } else {
        running_executor->polled(address, old_value, at);
    }
}

void fence(Scope scope) {
    if (RaceChecker* races = running_executor->races()) {
        races->fence(*running_executor->current(), scope);
    }
}

bool can_check_races() {
#if defined(__SANITIZE_ADDRESS__) || defined(CAROUSEL_SIMT_NO_RACES)
    return false;
#else
    return true;
#endif
}

}  // namespace carousel::simt
