#pragma once

// Device memory of the SIMT executor: one reserved range of addresses, so that a memory access of a
// kernel is told from one of the host by its address alone, with a shadow that knows which bytes are
// valid. Buffers have their exact size and lie between red zones; fresh bytes are all ones, which is
// a NaN in every floating-point type.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace carousel::simt {

/// Where the arena lies: above what sanitizers use for themselves, below the program's own mappings.
inline constexpr std::uintptr_t kArenaBase = 0x200000000000;
inline constexpr std::size_t kArenaBytes = std::size_t{64} << 30;
inline constexpr std::size_t kPageBytes = 4096;
inline constexpr std::size_t kRedZoneBytes = 256;

inline bool in_arena(std::uintptr_t address) { return address - kArenaBase < kArenaBytes; }
inline bool in_arena(const void* p) { return in_arena(reinterpret_cast<std::uintptr_t>(p)); }

struct RaceShadow;

/// A buffer of device memory, or the shared memory of one resident block.
struct Allocation {
    std::string name;
    std::uintptr_t begin = 0;
    std::size_t bytes = 0;    ///< of a buffer: its size; of shared memory: the whole window
    std::size_t pages = 0;    ///< taken from the arena, red zones included
    std::uintptr_t base = 0;  ///< first page
    bool shared = false;
    bool read_only = false;
    std::int64_t owner = -1;  ///< resident block of shared memory
    std::unique_ptr<RaceShadow> races;

    Allocation();
    ~Allocation();
};

/// Why an access is not allowed; null when it is.
struct AccessFault {
    const Allocation* near = nullptr;  ///< allocation the address belongs to or lies beside
    std::string text;
};

/// `bytes` of device memory, filled with ones. Freed memory is not valid any more.
void* allocate(std::size_t bytes, const char* name);
void release(void* data) noexcept;
/// Writes of kernels to a read-only buffer are faults.
void set_read_only(const void* data, bool read_only);
/// The allocation that owns the page of `address`, or null.
Allocation* find_allocation(std::uintptr_t address);
/// Name and offset, as "x + 12 (of 64 bytes)", for messages.
std::string describe_address(std::uintptr_t address);
/// Name of the first buffer whose red zones have been written to, else empty.
std::string damaged_red_zone();

/// Shared memory of one block: an address window whose bytes become valid piece by piece.
Allocation* allocate_window(std::size_t bytes);
void set_valid(std::uintptr_t begin, std::size_t bytes, bool valid);

namespace detail {
extern std::uint8_t* valid_bytes;  ///< per 8 bytes of the arena: how many of them are valid
}

/// Whether all of [address, address + size) may be accessed; the address lies in the arena.
inline bool is_valid(std::uintptr_t address, std::size_t size) {
    const std::size_t offset = address - kArenaBase;
    const std::uint8_t* granule = detail::valid_bytes + (offset >> 3);
    const std::size_t end = (offset & 7) + size;
    if (end <= 8) {
        return *granule >= end;
    }
    for (std::size_t at = 0; at < end; at += 8) {
        if (granule[at >> 3] < (end - at < 8 ? end - at : 8)) {
            return false;
        }
    }
    return true;
}

}  // namespace carousel::simt
