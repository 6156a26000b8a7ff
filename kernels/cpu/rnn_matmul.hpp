#pragma once

// Products of row lists with packed weights, packing, and ordered column sums.

#include "kernels/cpu/tile.hpp"
#include "kernels/rnn_args.hpp"

namespace carousel::cpu {
namespace {

/// Sum of squares of a tile, added to *total in f64.
template <class T, int MR, int NV>
CAROUSEL_INLINE void add_squares(const Vec<T> (&acc)[MR][NV], double* total) {
    for (int r = 0; r < MR; ++r) {
        Vec<T> sum(T(0));
        for (int v = 0; v < NV; ++v) sum = fma(acc[r][v], acc[r][v], sum);
        *total += static_cast<double>(reduce_add(sum));
    }
}

template <PackedLayout layout, class T, int MR, int NV>
CAROUSEL_TILE matmul_tile(const MatmulArgs<T>& args, std::int64_t vec, std::int64_t first,
                          const InnerPart<T>& part) {
    constexpr int L = Vec<T>::kLanes;
    constexpr bool gates = layout == PackedLayout::kGates;
    const MatmulRow<T>* rows = args.rows + first;
    // Where vector v of this tile lies in a row, and how many of its lanes exist.
    const auto column = [&](int v) { return gates ? v * args.m + vec * L : (vec + v) * L; };
    const auto lanes = [&](int v) { return lanes_of<T>(gates ? vec : vec + v, args.m); };
    Vec<T> acc[MR][NV];
    const T* a[MR];
    for (int r = 0; r < MR; ++r) {
        a[r] = rows[r].a + part.begin;
        for (int v = 0; v < NV; ++v) {
            // What is added comes last: it and the result's lines may be far away, and arrive while
            // the product is summed.
            if (rows[r].init != nullptr && rows[r].init != rows[r].c)
                __builtin_prefetch(rows[r].init + column(v), 0, 3);
            __builtin_prefetch(rows[r].c + column(v), 1, 3);
        }
    }
    start(part, acc);
    tile_dot<layout>(a, args.w + (vec * args.w_k + part.begin) * (gates ? NV : 1) * L, part.size,
                     args.w_k, acc, part.next);
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) {
            if (args.bias != nullptr) acc[r][v] += load_lanes(args.bias + column(v), lanes(v));
            if (rows[r].init != nullptr)
                acc[r][v] += load_lanes(rows[r].init + column(v), lanes(v));
            if (rows[r].init2 != nullptr)
                acc[r][v] += load_lanes(rows[r].init2 + column(v), lanes(v));
            store_lanes(rows[r].c + column(v), acc[r][v], lanes(v));
        }
    }
    if (args.sum_squares != nullptr) add_squares(acc, args.sum_squares);
}

template <class T>
void matmul(const MatmulArgs<T>& args) {
    for_tiles<4, true, T>(args, [&](std::int64_t vec, std::int64_t first, auto mr, auto nv,
                                    const InnerPart<T>& part) {
        constexpr int MR = decltype(mr)::value, NV = decltype(nv)::value;
        if (!part.last) {
            const T* a[MR];
            for (int r = 0; r < MR; ++r) a[r] = args.rows[first + r].a + part.begin;
            part_tile<T, MR, NV>(a, args.w + vec * args.w_k * Vec<T>::kLanes, args.w_k, part);
            return;
        }
        matmul_tile<PackedLayout::kColumns, T, MR, NV>(args, vec, first, part);
    });
}

template <int G, class T>
void gates_matmul(const MatmulArgs<T>& args) {
    for_gate_tiles<G, T>(args, [&](std::int64_t vec, std::int64_t first, auto mr, Prefetch next) {
        constexpr int MR = decltype(mr)::value;
        matmul_tile<PackedLayout::kGates, T, MR, G>(args, vec, first,
                                                    {0, args.k, true, true, nullptr, next});
    });
}

/// One line of a panel.
template <class T>
CAROUSEL_INLINE void put(const PackArgs<T>& args, T* to, Vec<T> value) {
    if (args.stream) {
        stream_lanes(to, value, Vec<T>::kLanes);
    } else {
        store(to, value);
    }
}

/// Outputs are contiguous: whole vectors move, a few rows of W at a time, so that rows are read as streams
/// and each panel is written whole lines in a row.
template <class T>
CAROUSEL_INLINE void pack_contiguous(const PackArgs<T>& args, std::int64_t gate) {
    constexpr std::int64_t L = Vec<T>::kLanes, kRows = 8;
    const std::int64_t gates = args.gates, panel_size = args.panel_k * gates * L;
    for (std::int64_t k0 = 0; k0 < args.k; k0 += kRows) {
        const std::int64_t k1 = k0 + kRows < args.k ? k0 + kRows : args.k;
        for (std::int64_t vec = args.vec_begin; vec < args.vec_end; ++vec) {
            const int lanes = lanes_of<T>(vec, args.m);
            const T* source = args.w + gate * args.m + vec * L;
            T* target = args.packed + (vec - args.first_vec) * panel_size +
                        (args.k_begin * gates + gate) * L;
            for (std::int64_t k = k0; k < k1; ++k) {
                const T* from = source + k * args.stride_k;
                put(args, target + k * gates * L, lanes == L ? load(from) : load_n(from, lanes));
            }
        }
    }
}

template <class T>
void pack(const PackArgs<T>& args) {
    constexpr std::int64_t L = Vec<T>::kLanes;
    const std::int64_t gates = args.gates;
    if (args.stride_m == 1) {
        for (std::int64_t gate = 0; gate < gates; ++gate) pack_contiguous(args, gate);
        if (args.stream) stream_fence();
        return;
    }
    for (std::int64_t vec = args.vec_begin; vec < args.vec_end; ++vec) {
        const int lanes = lanes_of<T>(vec, args.m);
        T* panel = args.packed + ((vec - args.first_vec) * args.panel_k + args.k_begin) * gates * L;
        for (std::int64_t gate = 0; gate < gates; ++gate) {
            const T* source = args.w + (gate * args.m + vec * L) * args.stride_m;
            T* target = panel + gate * L;
            // A square of L x L is transposed at a time, so that both sides stay in L1.
            std::int64_t k0 = 0;
            if (lanes == L) {
                for (; k0 + L <= args.k; k0 += L) {
                    Vec<T> square[L];
                    for (std::int64_t lane = 0; lane < L; ++lane) {
                        square[lane] = load(source + lane * args.stride_m + k0);
                    }
                    transpose(square);
                    for (std::int64_t k = 0; k < L; ++k)
                        put(args, target + (k0 + k) * gates * L, square[k]);
                }
            }
            for (; k0 < args.k; k0 += L) {
                const int count = static_cast<int>(args.k - k0 < L ? args.k - k0 : L);
                Vec<T> square[L];
                for (std::int64_t lane = 0; lane < L; ++lane) {
                    // Rows that do not exist read as 0; their address is that of one that does.
                    const std::int64_t row = lane < lanes ? lane : 0;
                    square[lane] =
                        load_n(source + row * args.stride_m + k0, lane < lanes ? count : 0);
                }
                transpose(square);
                for (std::int64_t k = 0; k < count; ++k)
                    put(args, target + (k0 + k) * gates * L, square[k]);
            }
        }
    }
    if (args.stream) stream_fence();
}

/// A few rows at a time, vector by vector: a panel is written whole lines in a row, and the rows are read
/// as so many streams.
template <class T>
void pack_rows(const PackRowsArgs<T>& args) {
    constexpr std::int64_t L = Vec<T>::kLanes;
    constexpr std::int64_t kRows = 32;
    for (std::int64_t k0 = 0; k0 < args.k; k0 += kRows) {
        const std::int64_t k1 = k0 + kRows < args.k ? k0 + kRows : args.k;
        for (std::int64_t vec = args.vec_begin; vec < args.vec_end; ++vec) {
            const int lanes = lanes_of<T>(vec, args.m);
            for (std::int64_t k = k0; k < k1; ++k) {
                const T* row = args.rows[k];
                store(args.packed + (vec * args.panel_k + k) * L,
                      row == nullptr ? Vec<T>(T(0)) : load_lanes(row + vec * L, lanes));
            }
        }
    }
}

/// Rows outside, columns inside: the rows of a gate-gradient block are far apart, and a row's lines are
/// fetched while the rows before it are turned.
template <class T>
void transpose_block(const TransposeArgs<T>& args) {
    constexpr std::int64_t L = Vec<T>::kLanes;
    constexpr std::int64_t kAhead = L;
    std::int64_t r = 0;
    for (; r + L <= args.rows; r += L) {
        for (std::int64_t c = 0; c < args.columns; c += L) {
            const int lanes =
                args.columns - c < L ? static_cast<int>(args.columns - c) : static_cast<int>(L);
            Vec<T> square[L];
            for (std::int64_t i = 0; i < L; ++i) {
                const T* from = args.a + (r + i) * args.ld + c;
                if (r + i + kAhead < args.rows) __builtin_prefetch(from + kAhead * args.ld, 0, 3);
                square[i] = load_lanes(from, lanes);
            }
            transpose(square);
            for (std::int64_t i = 0; i < lanes; ++i) {
                store(args.out + (c + i) * args.ld_out + r, square[i]);
            }
        }
    }
    for (; r < args.rows; ++r) {
        for (std::int64_t c = 0; c < args.columns; ++c) {
            args.out[c * args.ld_out + r] = args.a[r * args.ld + c];
        }
    }
}

/// Two levels: vectors summed over blocks of rows in T, blocks added in f64, so that the error does not
/// grow with T*N.
template <class T, int NV>
CAROUSEL_INLINE void column_sum_strip(const ColumnSumArgs<T>& args, std::int64_t column,
                                      int lanes) {
    constexpr std::int64_t L = Vec<T>::kLanes;
    constexpr std::int64_t kBlock = 64;
    double total[NV * Vec<T>::kLanes] = {};
    for (std::int64_t row0 = 0; row0 < args.rows; row0 += kBlock) {
        const std::int64_t row1 = row0 + kBlock < args.rows ? row0 + kBlock : args.rows;
        Vec<T> sum[NV];
        for (int v = 0; v < NV; ++v) sum[v] = Vec<T>(T(0));
        for (std::int64_t row = row0; row < row1; ++row) {
            const T* from = args.a + row * args.ld + column;
            for (int v = 0; v < NV; ++v) sum[v] += load_lanes(from + v * L, lanes);
        }
        T block[NV * Vec<T>::kLanes];
        for (int v = 0; v < NV; ++v) store(block + v * L, sum[v]);
        for (int i = 0; i < NV * L; ++i) total[i] += static_cast<double>(block[i]);
    }
    const std::int64_t count = (NV - 1) * L + lanes;
    for (std::int64_t i = 0; i < count; ++i) {
        T& out = args.sums[column + i];
        out = static_cast<T>(args.accumulate ? static_cast<double>(out) + total[i] : total[i]);
    }
}

template <class T>
void column_sum(const ColumnSumArgs<T>& args) {
    constexpr std::int64_t L = Vec<T>::kLanes;
    constexpr int kWide = 8;  // a strip wide enough that each row gives whole lines in a row
    std::int64_t column = args.begin;
    for (; column + kWide * L <= args.end; column += kWide * L) {
        column_sum_strip<T, kWide>(args, column, static_cast<int>(L));
    }
    for (; column < args.end; column += L) {
        const std::int64_t left = args.end - column;
        column_sum_strip<T, 1>(args, column, static_cast<int>(left < L ? left : L));
    }
}

}  // namespace
}  // namespace carousel::cpu
