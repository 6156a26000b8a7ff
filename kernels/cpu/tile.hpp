#pragma once

// The register tile shared by all products with packed weights: MR rows times NV vectors of outputs
// accumulate over K, one broadcast per row and one load per vector for MR*NV multiply-adds.

#include <cstdint>

#include "kernels/cpu/simd.hpp"

namespace carousel::cpu {
namespace {

/// Rows of a tile for NV vectors: as many accumulators as the register file holds beside the operands.
template <int NV>
constexpr int tile_rows() {
#if defined(__AVX512F__)
    constexpr int accumulators = 24;  // of 32 registers
#elif defined(__AVX2__)
    constexpr int accumulators = 12;  // of 16
#else
    constexpr int accumulators = 8;  // of 16, a product needs a register of its own without FMA
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(CAROUSEL_SMALL_TILES)
    // Sanitizers make each tile shape slow to compile; two of them see every path.
    constexpr int rows = accumulators > 0 ? 2 : NV;
#else
    constexpr int rows = accumulators / NV;
#endif
    return rows < 1 ? 1 : (rows > 8 ? 8 : rows);
}

/// How packed weights lie: gates side by side (one stream), or one stream per vector.
enum class PackedLayout { kGates, kColumns };

/// acc[r][v] += sum over k of a[r][k] * w[k][v].
template <PackedLayout layout, class T, int MR, int NV>
CAROUSEL_INLINE void tile_dot(const T* const (&a)[MR], const T* w, std::int64_t k, std::int64_t w_k,
                              Vec<T> (&acc)[MR][NV]) {
    constexpr int L = Vec<T>::kLanes;
    constexpr bool gates = layout == PackedLayout::kGates;
    constexpr std::int64_t step = gates ? NV * L : L;
    const std::int64_t stream = gates ? L : w_k * L;
    // Few rows leave few independent chains: a second set of accumulators hides the FMA latency.
    constexpr int chains = MR * NV;
    constexpr int unroll = chains >= 8 ? 1 : (chains >= 4 ? 2 : 4);
    Vec<T> more[unroll][MR][NV];
    for (int u = 1; u < unroll; ++u) {
        for (int r = 0; r < MR; ++r) {
            for (int v = 0; v < NV; ++v) more[u][r][v] = Vec<T>(T(0));
        }
    }
    std::int64_t i = 0;
    for (; i + unroll <= k; i += unroll) {
#pragma GCC unroll 4
        for (int u = 0; u < unroll; ++u) {
            Vec<T> wv[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) wv[v] = load(w + (i + u) * step + v * stream);
#pragma GCC unroll 12
            for (int r = 0; r < MR; ++r) {
                const Vec<T> x(a[r][i + u]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) {
                    Vec<T>& target = u == 0 ? acc[r][v] : more[u][r][v];
                    target = fma(x, wv[v], target);
                }
            }
        }
    }
    for (; i < k; ++i) {
        for (int r = 0; r < MR; ++r) {
            const Vec<T> x(a[r][i]);
            for (int v = 0; v < NV; ++v)
                acc[r][v] = fma(x, load(w + i * step + v * stream), acc[r][v]);
        }
    }
    for (int u = 1; u < unroll; ++u) {
        for (int r = 0; r < MR; ++r) {
            for (int v = 0; v < NV; ++v) acc[r][v] += more[u][r][v];
        }
    }
}

/// Lanes of vector `vec` that exist, of `size` elements.
template <class T>
CAROUSEL_INLINE int lanes_of(std::int64_t vec, std::int64_t size) {
    const std::int64_t left = size - vec * Vec<T>::kLanes;
    return left < Vec<T>::kLanes ? static_cast<int>(left) : Vec<T>::kLanes;
}

/// Loads and stores of `lanes` lanes, all of them as a rule: with AVX-512 a mask costs nothing, elsewhere
/// the branch is predictable.
template <class T>
CAROUSEL_INLINE Vec<T> load_lanes(const T* p, int lanes) {
#if !defined(__AVX512F__)
    if (lanes == Vec<T>::kLanes) return load(p);
#endif
    return load_n(p, lanes);
}
template <class T>
CAROUSEL_INLINE void store_lanes(T* p, Vec<T> a, int lanes) {
#if !defined(__AVX512F__)
    if (lanes == Vec<T>::kLanes) {
        store(p, a);
        return;
    }
#endif
    store_n(p, a, lanes);
}

template <int N>
struct Constant {
    static constexpr int value = N;
};

/// Calls f(Constant<n>) for the run-time n in [1, Max].
template <int Max, class F>
CAROUSEL_INLINE void with_constant(int n, F&& f) {
    if constexpr (Max > 1) {
        if (n < Max) {
            with_constant<Max - 1>(n, f);
            return;
        }
    }
    f(Constant<Max>{});
}

/// Splits num_rows into tiles of at most MaxRows, as even as possible, and calls f(first, Constant<n>).
template <int MaxRows, class F>
CAROUSEL_INLINE void for_row_tiles(std::int64_t begin, std::int64_t end, F&& f) {
    const std::int64_t num_rows = end - begin;
    const std::int64_t tiles = (num_rows + MaxRows - 1) / MaxRows;
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
        const std::int64_t first = begin + num_rows * tile / tiles;
        const std::int64_t last = begin + num_rows * (tile + 1) / tiles;
        with_constant<MaxRows>(
            static_cast<int>(last - first), [&](auto rows)
                                                __attribute__((always_inline)) { f(first, rows); });
    }
}

/// Rows whose operands stay in a core's L2 beside one panel of weights.
template <class T>
CAROUSEL_INLINE std::int64_t row_block(std::int64_t k) {
    constexpr std::int64_t bytes = 384 * 1024;
    const std::int64_t rows = bytes / (static_cast<std::int64_t>(sizeof(T)) * (k > 0 ? k : 1));
    return rows < 48 ? 48 : rows;
}

/// Walks the vectors [vec_begin, vec_end) in groups of NV (a last group may be narrower: it is walked
/// in ones), blocks of rows outside, tiles of rows inside: f(vec, first_row, Constant<MR>, Constant<NV>).
template <int NV, class T, class F>
CAROUSEL_INLINE void for_tiles(std::int64_t num_rows, std::int64_t vec_begin, std::int64_t vec_end,
                               std::int64_t k, bool descending, F&& f) {
    const std::int64_t block = row_block<T>(k);
    const std::int64_t num_vecs = vec_end - vec_begin;
    const std::int64_t groups = (num_vecs + NV - 1) / NV;
    for (std::int64_t begin = 0; begin < num_rows; begin += block) {
        const std::int64_t end = begin + block < num_rows ? begin + block : num_rows;
        for (std::int64_t i = 0; i < groups; ++i) {
            const std::int64_t group = descending ? groups - 1 - i : i;
            // Even groups: 5 vectors go as 3 + 2, not 4 + 1.
            const std::int64_t vec = vec_begin + num_vecs * group / groups;
            const std::int64_t next = vec_begin + num_vecs * (group + 1) / groups;
            with_constant<NV>(static_cast<int>(next - vec), [&](auto nv) {
                for_row_tiles<tile_rows<decltype(nv)::value>()>(
                    begin, end, [&](std::int64_t first, auto mr) { f(vec, first, mr, nv); });
            });
        }
    }
}

}  // namespace
}  // namespace carousel::cpu
