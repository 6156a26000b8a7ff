#include "simt/access.hpp"

#include <cstring>

#include "simt/symbols.hpp"

namespace carousel::simt {

namespace {

std::string text(const SourceLocation& at) {
    const std::string file = at.file_name();
    const std::size_t slash = file.rfind('/');
    return (slash == std::string::npos ? file : file.substr(slash + 1)) + ":" +
           std::to_string(at.line());
}

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

}  // namespace

void note_access(std::uintptr_t address, std::size_t size, bool write, const void* caller) {
    if (const char* why = why_not(address, size, write)) {
        running_executor->fail(fault_text(why, address, size, write), source_line(caller));
    }
}

void note_volatile(std::uintptr_t address, std::size_t size, bool write, const void* caller) {
    note_access(address, size, write, caller);
    if (write) {
        running_executor->progress();
    }
}

void strong_before(const void* address, std::size_t size, bool writes, SourceLocation at) {
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    if (begin % size != 0) {
        running_executor->fail("a strong access to an address that is no multiple of its size",
                               text(at));
    }
    if (in_arena(begin)) {
        if (const char* why = why_not(begin, size, writes)) {
            running_executor->fail(fault_text(why, begin, size, writes), text(at));
        }
    }
}

void strong_read(const void* address, std::size_t, std::uint64_t value, Order, Scope,
                 SourceLocation at) {
    running_executor->polled(address, value, at);
}

void strong_write(const void*, std::size_t, Order, Scope, SourceLocation) {
    running_executor->progress();
}

void strong_update(const void* address, std::size_t, std::uint64_t old_value, bool changed, Order,
                   Scope, SourceLocation at) {
    if (changed) {
        running_executor->progress();
    } else {
        running_executor->polled(address, old_value, at);
    }
}

void fence(Scope) {}

bool can_check_races() { return false; }

}  // namespace carousel::simt
