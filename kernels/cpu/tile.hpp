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
constexpr std::int64_t kLineBytes = 64;

enum class PackedLayout { kGates, kColumns };

/// Part of the panel that comes next, fetched into L2 while a tile of this one is summed, one line per
/// step of the inner index: weights that a core's L2 does not hold arrive before they are needed.
struct Prefetch {
    const char* lines = nullptr;  ///< null: none
};

/// acc[r][v] += sum over k of a[r][k] * w[k][v].
template <PackedLayout layout, class T, int MR, int NV>
CAROUSEL_INLINE void tile_dot(const T* const (&a)[MR], const T* w, std::int64_t k, std::int64_t w_k,
                              Vec<T> (&acc)[MR][NV], Prefetch next) {
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
    const char* lines = next.lines == nullptr ? reinterpret_cast<const char*>(w) : next.lines;
    const std::int64_t line = next.lines == nullptr ? 0 : kLineBytes;
    std::int64_t i = 0;
    for (; i + unroll <= k; i += unroll) {
        if constexpr (unroll == 1) {
            __builtin_prefetch(lines, 0, 2);
            lines += line;
        }
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

/// Like store_lanes, past the caches where the line is whole: for what is not read soon. Writing through
/// them would first read the line, and push out what is needed. stream_fence() orders these stores.
template <class T>
CAROUSEL_INLINE void stream_lanes(T* p, Vec<T> a, int lanes) {
#if defined(__AVX512F__)
    if (lanes == Vec<T>::kLanes && reinterpret_cast<std::uintptr_t>(p) % kVectorBytes == 0) {
        if constexpr (sizeof(T) == 4) {
            _mm512_stream_ps(p, a.v);
        } else {
            _mm512_stream_pd(p, a.v);
        }
        return;
    }
#endif
    store_lanes(p, a, lanes);
}
CAROUSEL_INLINE void stream_fence() {
#if defined(__AVX512F__)
    _mm_sfence();
#endif
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

/// Splits [begin, end) into tiles of at most MaxRows rows, as even as possible, and calls
/// f(first, Constant<rows>, Prefetch). Tile i < `streams` fetches k lines of the i-th stream of the panel
/// that comes next, which are `stride` bytes apart.
template <int MaxRows, class F>
CAROUSEL_INLINE void for_row_tiles(std::int64_t begin, std::int64_t end, const void* next,
                                   std::int64_t streams, std::int64_t stride, F&& f) {
    const std::int64_t num_rows = end - begin;
    const std::int64_t tiles = (num_rows + MaxRows - 1) / MaxRows;
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
        const std::int64_t first = begin + num_rows * tile / tiles;
        const std::int64_t last = begin + num_rows * (tile + 1) / tiles;
        Prefetch prefetch;
        // One tile alone reads its panel at the speed of memory and has no time to spare.
        if (next != nullptr && tiles > 1 && tile < streams)
            prefetch.lines = static_cast<const char*>(next) + tile * stride;
        with_constant<MaxRows>(
            static_cast<int>(last - first), [&](auto rows) __attribute__((always_inline)) {
                f(first, rows, prefetch);
            });
    }
}

/// Rows whose operands stay in a core's L2 beside one panel of weights.
template <class T>
CAROUSEL_INLINE std::int64_t row_block(std::int64_t k) {
    constexpr std::int64_t bytes = 384 * 1024;
    const std::int64_t rows = bytes / (static_cast<std::int64_t>(sizeof(T)) * (k > 0 ? k : 1));
    return rows < 48 ? 48 : rows;
}

/// Part of the inner index that a tile sums. A panel that is larger than what a core's L2 holds beside
/// the operands would come from further away for every tile of rows; it is cut, and sums that are not
/// complete wait in `partial`.
template <class T>
struct InnerPart {
    std::int64_t begin, size;
    bool first, last;
    T* partial;  ///< of this tile [MR][NV*L]
    Prefetch next;
};

/// acc = what the parts before this one summed.
template <class T, int MR, int NV>
CAROUSEL_INLINE void start(const InnerPart<T>& part, Vec<T> (&acc)[MR][NV]) {
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) acc[r][v] = Vec<T>(T(0));
    }
    if (part.first) return;
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) acc[r][v] = load(part.partial + (r * NV + v) * Vec<T>::kLanes);
    }
}

/// Sums a part that others follow.
template <class T, int MR, int NV>
CAROUSEL_TILE part_tile(const T* const (&a)[MR], const T* w, std::int64_t w_k,
                        const InnerPart<T>& part) {
    Vec<T> acc[MR][NV];
    start(part, acc);
    tile_dot<PackedLayout::kColumns>(a, w + part.begin * Vec<T>::kLanes, part.size, w_k, acc,
                                     part.next);
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) store(part.partial + (r * NV + v) * Vec<T>::kLanes, acc[r][v]);
    }
}

/// Walks the vectors [vec_begin, vec_end) of `args` in even groups of at most NV (5 go as 3 + 2, not
/// 4 + 1), blocks of rows outside, then parts of the inner index, tiles of rows inside:
/// f(vec, first_row, Constant<MR>, Constant<NV>, InnerPart). `cuts` says whether f knows of parts.
template <int NV, bool cuts, class T, class Args, class F>
CAROUSEL_INLINE void for_tiles(const Args& args, F&& f) {
    constexpr std::int64_t L = Vec<T>::kLanes;
    constexpr std::int64_t kPanelBytes = 600 * 1024, kPartBytes = 384 * 1024, kPartRows = 64;
    alignas(kVectorBytes) T partial[cuts ? kPartRows * NV * L : L];
    std::int64_t parts = 1, block = row_block<T>(args.k);
    if (cuts && args.num_rows > tile_rows<NV>() && args.num_rows > 8) {
        const std::int64_t bytes = args.k * NV * L * static_cast<std::int64_t>(sizeof(T));
        if (bytes > kPanelBytes) {
            parts = (bytes + kPartBytes - 1) / kPartBytes;
            block = kPartRows;
        }
    }
    const std::int64_t panel = args.w_k * L;
    const std::int64_t num_vecs = args.vec_end - args.vec_begin;
    const std::int64_t groups = (num_vecs + NV - 1) / NV;
    const auto edge = [&](std::int64_t group) {
        return args.vec_begin + num_vecs * group / groups;
    };
    const auto inner = [&](std::int64_t part) { return args.k * part / parts; };
    for (std::int64_t begin = 0; begin < args.num_rows; begin += block) {
        const std::int64_t end = begin + block < args.num_rows ? begin + block : args.num_rows;
        for (std::int64_t i = 0; i < groups; ++i) {
            const std::int64_t group = args.descending ? groups - 1 - i : i;
            const std::int64_t next = args.descending ? group - 1 : group + 1;
            const std::int64_t vec = edge(group);
            const T* next_panel = i + 1 < groups ? args.w + edge(next) * panel : nullptr;
            with_constant<NV>(static_cast<int>(edge(group + 1) - vec), [&](auto nv) {
                constexpr int width = decltype(nv)::value;
                for (std::int64_t p = 0; p < parts; ++p) {
                    InnerPart<T> part{
                        inner(p), inner(p + 1) - inner(p), p == 0, p + 1 == parts, partial, {}};
                    const T* after =
                        part.last ? next_panel : args.w + vec * panel + inner(p + 1) * L;
                    for_row_tiles<tile_rows<width>()>(
                        begin, end, after, width, panel * static_cast<std::int64_t>(sizeof(T)),
                        [&](std::int64_t first, auto mr, Prefetch prefetch) {
                            part.next = prefetch;
                            part.partial = partial + (cuts ? (first - begin) * width * L : 0);
                            f(vec, first, mr, nv, part);
                        });
                }
            });
        }
    }
}

/// Walks single vectors of units with G gates side by side: f(vec, first_row, Constant<MR>, Prefetch).
template <int G, class T, class Args, class F>
CAROUSEL_INLINE void for_gate_tiles(const Args& args, F&& f) {
    const std::int64_t block = row_block<T>(args.k), panel = args.w_k * G * Vec<T>::kLanes;
    for (std::int64_t begin = 0; begin < args.num_rows; begin += block) {
        const std::int64_t end = begin + block < args.num_rows ? begin + block : args.num_rows;
        for (std::int64_t i = args.vec_begin; i < args.vec_end; ++i) {
            const std::int64_t vec = args.descending ? args.vec_begin + args.vec_end - 1 - i : i;
            const std::int64_t next = args.descending ? vec - 1 : vec + 1;
            const T* next_panel = i + 1 < args.vec_end ? args.w + next * panel : nullptr;
            for_row_tiles<tile_rows<G>()>(begin, end, next_panel, G, args.k * kLineBytes,
                                          [&](std::int64_t first, auto mr, Prefetch prefetch) {
                                              f(vec, first, mr, prefetch);
                                          });
        }
    }
}

}  // namespace
}  // namespace carousel::cpu
