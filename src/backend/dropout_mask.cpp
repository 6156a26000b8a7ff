#include "src/backend/dropout_mask.hpp"

#include <Random123/philox.h>

#include <algorithm>
#include <cmath>

namespace carousel {

template <class T>
void fill_dropout_mask(const DropoutKey& key, double p, std::int64_t first, std::int64_t count,
                       T* multiplier) noexcept {
    using Philox = r123::Philox4x32;
    const T keep = static_cast<T>(1.0 / (1.0 - p));
    const auto threshold = static_cast<std::uint64_t>(std::ldexp(p, 32));
    const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
    const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
    Philox philox;
    const Philox::key_type philox_key = {{low(key.seed), high(key.seed)}};
    const std::int64_t end = first + count;
    for (std::int64_t e = first; e < end;) {
        const auto block = static_cast<std::uint64_t>(e) / 4;
        const Philox::ctr_type counter = {
            {low(block), high(block), low(key.step), key.layer ^ (high(key.step) << 8)}};
        const Philox::ctr_type words = philox(counter, philox_key);
        const auto block_end =
            std::min<std::int64_t>(end, static_cast<std::int64_t>(block) * 4 + 4);
        for (; e < block_end; ++e) {
            multiplier[e - first] =
                words[static_cast<std::size_t>(e % 4)] < threshold ? T(0) : keep;
        }
    }
}

template <class T>
void apply_dropout(const DropoutKey& key, double p, std::int64_t first, std::int64_t count,
                   const T* from, T* to) noexcept {
    constexpr std::int64_t kBlock = 256;
    T multiplier[kBlock];
    for (const std::int64_t end = first + count; first < end; first += kBlock) {
        const std::int64_t block = std::min(kBlock, end - first);
        fill_dropout_mask(key, p, first, block, multiplier);
        for (std::int64_t i = 0; i < block; ++i) to[first + i] = from[first + i] * multiplier[i];
    }
}

template void fill_dropout_mask(const DropoutKey&, double, std::int64_t, std::int64_t,
                                float*) noexcept;
template void fill_dropout_mask(const DropoutKey&, double, std::int64_t, std::int64_t,
                                double*) noexcept;
template void apply_dropout(const DropoutKey&, double, std::int64_t, std::int64_t, const float*,
                            float*) noexcept;
template void apply_dropout(const DropoutKey&, double, std::int64_t, std::int64_t, const double*,
                            double*) noexcept;

}  // namespace carousel
