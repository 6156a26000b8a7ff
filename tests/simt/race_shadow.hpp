#pragma once

// What the race checker remembers of memory: the last write and some reads per cell of a few bytes.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "simt/device_runtime.hpp"

namespace carousel::simt {

/// One recorded access.
struct AccessRecord {
    std::uint32_t block = 0;
    std::uint16_t agent = 0;
    std::uint8_t strong = 0;
    Scope scope = Scope::kBlock;
    std::uint32_t clock = 0;  ///< 0: none
    std::uint32_t site = 0;   ///< where in the program
};

struct ShadowCell {
    std::uint32_t stamp = 0;
    AccessRecord write;
    std::array<AccessRecord, 4> reads;  ///< of more readers at once, a sample
};

/// Cells of one allocation, by pages that appear when they are touched.
struct RaceShadow {
    static constexpr std::size_t kPageCells = 1024;
    using Page = std::array<ShadowCell, kPageCells>;

    std::uint32_t stamp = 0;   ///< cells with another one are empty
    std::uint32_t launch = 0;  ///< that the stamp belongs to; 0: a new stamp is due
    /// The cell of index i, forgetting what was recorded under another stamp.
    ShadowCell& cell(std::size_t i);
    /// Makes cells small enough for an access of `size` bytes at `offset`.
    void fit(std::size_t offset, std::size_t size);

    unsigned shift = 2;  ///< bytes per cell, as a power of two; becomes smaller when it must
    std::vector<std::unique_ptr<Page>> pages;
};

}  // namespace carousel::simt
