#pragma once

#include <Random123/philox.h>

#include <cmath>
#include <cstdint>

namespace carousel::train {

/// What a random number is for. Streams of one seed share no counter; dropout masks and the order of
/// windows use counters of their own.
enum class RandomStream : std::uint32_t {
    kInit = 0x80000001u,
    kSegment = 0x80000002u,
    kSample = 0x80000003u,
};

/// Uniform in [0, 1), 53 bits, a function of (seed, stream, a, b) and of nothing else.
///
/// Source   Philox4x32-10, Salmon et al. 2011 (Random123).
inline double random_uniform(std::uint64_t seed, RandomStream stream, std::uint64_t a,
                             std::uint32_t b = 0) noexcept {
    const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
    const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
    const r123::Philox4x32::key_type key = {{low(seed), high(seed)}};
    const r123::Philox4x32::ctr_type counter = {
        {low(a), high(a), b, static_cast<std::uint32_t>(stream)}};
    const r123::Philox4x32::ctr_type words = r123::Philox4x32()(counter, key);
    const std::uint64_t bits = (std::uint64_t{words[0]} << 32 | words[1]) >> 11;
    return static_cast<double>(bits) * 0x1.0p-53;
}

/// Standard normal by Box and Muller's formula.
inline double random_normal(std::uint64_t seed, RandomStream stream, std::uint64_t a,
                            std::uint32_t b = 0) noexcept {
    constexpr double kTwoPi = 6.283185307179586476925;
    const double u = 1.0 - random_uniform(seed, stream, a, b);  // in (0, 1]
    const double v = random_uniform(seed, stream, a, b | 0x80000000u);
    return std::sqrt(-2.0 * std::log(u)) * std::cos(kTwoPi * v);
}

}  // namespace carousel::train
