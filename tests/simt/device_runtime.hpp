#pragma once

// What the device language's stand-ins (device_shim.hpp, ptx_twin.hpp) ask of the executor.

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace carousel::simt {

using SourceLocation = std::source_location;

struct Index3 {
    unsigned x, y, z;
};

/// threadIdx and its kin of the thread that is running; the executor sets them at every switch.
struct DeviceIndices {
    Index3 thread, block, block_size, grid_size;
};
extern __thread DeviceIndices device_indices;

/// Memory orders and scopes of PTX, each wider than the one before.
enum class Order : std::uint8_t { kRelaxed, kAcquire, kRelease, kAcquireRelease };
enum class Scope : std::uint8_t { kBlock, kCluster, kDevice, kSystem };

/// Ends the launch with a KernelError that names the running thread.
[[noreturn]] void fail(const char* what, SourceLocation at);

/// Arrives at named barrier `id` of the block; `count` threads make a generation (0: the whole
/// block). Returns the sum of the arrivals' `value`s, after waiting, or 0 at once.
unsigned barrier(unsigned id, unsigned count, bool wait, unsigned value, SourceLocation at);

/// An instruction that the lanes of a warp do together.
struct WarpOperation {
    const char* name;
    /// Computes all lanes' results; payloads of lanes outside `mask` are null.
    void (*body)(void* const payloads[32], unsigned mask);
    bool orders_memory;
    bool same_line;  ///< lanes that come from different lines are a fault
    bool whole_warp = false;
};
/// Leaves `payload` and returns when all lanes of `mask` have come and the last has run the body.
void warp_collective(const WarpOperation& operation, unsigned mask, void* payload,
                     SourceLocation at);
unsigned lane_id();

void* static_shared(const void* key, std::size_t bytes, std::size_t align, const char* name);
void* dynamic_shared();

/// Bracket a strong (atomic) access. before: bounds. after: clocks, waking of pollers, and whether the
/// thread seems to spin on a value that does not change; then others run first.
void strong_before(const void* address, std::size_t size, bool writes, SourceLocation at);
void strong_read(const void* address, std::size_t size, std::uint64_t value, Order order,
                 Scope scope, SourceLocation at);
void strong_write(const void* address, std::size_t size, Order order, Scope scope,
                  SourceLocation at);
void strong_update(const void* address, std::size_t size, std::uint64_t old_value, bool changed,
                   Order order, Scope scope, SourceLocation at);

/// A memory fence. All fences of CUDA C++ acquire and release.
void fence(Scope scope);

/// Lets others run; for loops that wait by time.
void pause(SourceLocation at);
/// Virtual nanoseconds: grows with every look at it and every switch.
std::uint64_t clock_ns();

}  // namespace carousel::simt
