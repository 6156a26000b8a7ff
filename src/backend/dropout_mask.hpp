#pragma once

#include <cstdint>

namespace carousel {

/// Key of one dropout mask. The mask is a function of the key and the element index alone, so it does
/// not depend on threads, launch shape or device.
struct DropoutKey {
    std::uint64_t seed = 0;
    std::uint64_t step = 0;
    std::uint32_t layer = 0;
};

/// Multipliers 0 or 1/(1-p) of elements [first, first + count).
///
///   element e uses word e%4 of Philox4x32-10(counter = {e/4 lo, e/4 hi, step lo, layer ^ step hi<<8}, key = seed)
///   multiplier = word < p * 2^32 ? 0 : 1/(1-p)
///
/// Source   Salmon et al. 2011 (Random123).
template <class T>
void fill_dropout_mask(const DropoutKey& key, double p, std::int64_t first, std::int64_t count,
                       T* multiplier) noexcept;

/// to[e] = from[e] * multiplier[e] for elements [first, first + count); `to` may be `from`.
template <class T>
void apply_dropout(const DropoutKey& key, double p, std::int64_t first, std::int64_t count,
                   const T* from, T* to) noexcept;

}  // namespace carousel
