#pragma once

// Vector clocks of thousands of threads: by block, and shared between those who know the same. After a
// block's barrier its threads differ by nothing, and one number stands for all of them.

#include <cstdint>
#include <memory>
#include <vector>

namespace carousel::simt {

using ClockRow = std::shared_ptr<const std::vector<std::uint32_t>>;

/// Clocks of the agents of one block that somebody knows of.
struct ClockChunk {
    std::uint32_t block = 0;
    std::uint32_t uniform = 0;  ///< all threads of the block, at least
    ClockRow threads;           ///< per thread, where more
    ClockRow twins;             ///< asynchronous copies
};

/// Sparse vector clock: chunks in order of their blocks.
struct VectorClock {
    std::vector<ClockChunk> chunks;

    std::uint32_t of(std::uint32_t block, std::uint32_t agent) const;
    ClockChunk& chunk(std::uint32_t block);
    void join(const VectorClock& other);
};
using ClockPtr = std::shared_ptr<const VectorClock>;

/// Both; null is the empty clock.
ClockPtr joined(const ClockPtr& a, const ClockPtr& b);
/// Raises entry i of one chunk's row, of `size` entries, to `clock`.
void raise_entry(ClockRow& row, std::size_t size, std::size_t i, std::uint32_t clock);

/// Asynchronous copies are agents kFirstTwin + thread.
inline constexpr std::uint32_t kFirstTwin = 1024;

}  // namespace carousel::simt
