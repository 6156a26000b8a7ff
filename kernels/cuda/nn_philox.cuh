#pragma once

// Philox4x32-10 on the device: the numbers of Random123, which the host's masks and draws use.
//
// Source   Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", table 2 and section 3.3.

#include "kernels/cuda/device.cuh"

#include "kernels/cuda/kernel_table.hpp"

namespace carousel::CAROUSEL_KERNELS {

struct PhiloxWords {
    std::uint32_t w[4];
};

__device__ __forceinline__ std::uint32_t low_word(std::uint64_t v) {
    return static_cast<std::uint32_t>(v);
}
__device__ __forceinline__ std::uint32_t high_word(std::uint64_t v) {
    return static_cast<std::uint32_t>(v >> 32);
}

/// The four words of counter `c` under key (k0, k1).
__device__ __forceinline__ PhiloxWords philox(PhiloxWords c, std::uint32_t k0, std::uint32_t k1) {
    constexpr std::uint64_t kMultiplier0 = 0xD2511F53U, kMultiplier1 = 0xCD9E8D57U;
    constexpr std::uint32_t kWeyl0 = 0x9E3779B9U, kWeyl1 = 0xBB67AE85U;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = kMultiplier0 * c.w[0];
        const std::uint64_t p1 = kMultiplier1 * c.w[2];
        c = {
            {high_word(p1) ^ c.w[1] ^ k0, low_word(p1), high_word(p0) ^ c.w[3] ^ k1, low_word(p0)}};
        k0 += kWeyl0;
        k1 += kWeyl1;
    }
    return c;
}

/// Words of the dropout mask for elements 4*block .. 4*block+3, see src/backend/dropout_mask.hpp.
__device__ __forceinline__ PhiloxWords dropout_words(std::uint64_t seed, std::uint64_t step,
                                                     std::uint32_t layer, std::uint64_t block) {
    const PhiloxWords counter = {
        {low_word(block), high_word(block), low_word(step), layer ^ (high_word(step) << 8)}};
    return philox(counter, low_word(seed), high_word(seed));
}

}  // namespace carousel::CAROUSEL_KERNELS
