#pragma once

// Loops over rows and columns of matrices: embedding gradients, biases, sums, matrix times vector.

#include "kernels/cpu/nn_loops.hpp"
#include "kernels/nn_args.hpp"

namespace carousel::cpu {
namespace {

template <class T>
void axpy(T alpha, const T* x, T* y, std::int64_t n) {
    const Vec<T> a(alpha);
    for_vectors<T>(0, n, [&](std::int64_t i, int lanes) {
        store_lanes(y + i, fma(a, load_lanes(x + i, lanes), load_lanes(y + i, lanes)), lanes);
    });
}

template <class T>
void scale(T alpha, T* x, std::int64_t n) {
    const Vec<T> a(alpha);
    for_vectors<T>(0, n, [&](std::int64_t i, int lanes) {
        store_lanes(x + i, a * load_lanes(x + i, lanes), lanes);
    });
}

/// NaN stays NaN: the second operand of min and max survives.
template <class T>
CAROUSEL_INLINE Vec<T> clamp_vector(Vec<T> limit, Vec<T> x) {
    return min(limit, max(Vec<T>(T(0)) - limit, x));
}

template <class T>
void clamp(T limit, T* x, std::int64_t n) {
    const Vec<T> bound(limit);
    for_vectors<T>(0, n, [&](std::int64_t i, int lanes) {
        store_lanes(x + i, clamp_vector(bound, load_lanes(x + i, lanes)), lanes);
    });
}

template <class T>
void multiply(const MultiplyArgs& args, std::int64_t begin, std::int64_t end) {
    const T* x = static_cast<const T*>(args.x);
    const T* mask = static_cast<const T*>(args.mask);
    T* y = static_cast<T*>(args.y);
    for_vectors<T>(begin, end, [&](std::int64_t i, int lanes) {
        store_lanes(y + i, load_lanes(x + i, lanes) * load_lanes(mask + i, lanes), lanes);
    });
}

/// Columns [begin, end) of every row, rows in the order of positions.
template <class T>
void scatter_add_rows(const ScatterAddRowsArgs& args, std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = 0; r < args.n; ++r) {
        T* to = static_cast<T*>(args.table) + args.ids[r] * args.row_size;
        const T* from = static_cast<const T*>(args.x) + r * args.row_size;
        for_vectors<T>(begin, end, [&](std::int64_t j, int lanes) {
            store_lanes(to + j, load_lanes(to + j, lanes) + load_lanes(from + j, lanes), lanes);
        });
    }
}

template <class T>
void add_bias(const AddBiasArgs& args, std::int64_t begin, std::int64_t end) {
    const T* bias = static_cast<const T*>(args.bias);
    for (std::int64_t r = begin; r < end; ++r) {
        T* row = static_cast<T*>(args.x) + r * args.ld;
        for_vectors<T>(0, args.cols, [&](std::int64_t j, int lanes) {
            store_lanes(row + j, load_lanes(row + j, lanes) + load_lanes(bias + j, lanes), lanes);
        });
    }
}

/// Two levels: blocks of rows are summed, then the blocks, so that rounding grows with the square
/// root of neither the number of rows. Column blocks stay in L1.
template <class T>
void column_sum(const ColumnSumArgs& args, std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kColumns = 1024;  // 2 arrays of 4 to 8 KiB
    constexpr std::int64_t kRows = 64;
    alignas(64) T block[kColumns];
    alignas(64) T total[kColumns];
    const T* x = static_cast<const T*>(args.x);
    T* y = static_cast<T*>(args.y);
    for (std::int64_t first = begin; first < end; first += kColumns) {
        const std::int64_t cols = end - first < kColumns ? end - first : kColumns;
        for (std::int64_t j = 0; j < cols; ++j) total[j] = args.accumulate ? y[first + j] : T(0);
        for (std::int64_t top = 0; top < args.rows; top += kRows) {
            const std::int64_t bottom = top + kRows < args.rows ? top + kRows : args.rows;
            for (std::int64_t j = 0; j < cols; ++j) block[j] = T(0);
            for (std::int64_t r = top; r < bottom; ++r) {
                const T* row = x + r * args.ld + first;
                for_vectors<T>(0, cols, [&](std::int64_t j, int lanes) {
                    store_lanes(block + j,
                                load_lanes(block + j, lanes) + load_lanes(row + j, lanes), lanes);
                });
            }
            for (std::int64_t j = 0; j < cols; ++j) total[j] += block[j];
        }
        for (std::int64_t j = 0; j < cols; ++j) y[first + j] = total[j];
    }
}

/// Four chains hide the latency of the additions.
template <class T>
T dot(const T* a, const T* b, std::int64_t n) {
    constexpr int kLanes = Vec<T>::kLanes;
    Vec<T> s0(T(0)), s1(T(0)), s2(T(0)), s3(T(0));
    std::int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
        s0 = fma(load(a + i), load(b + i), s0);
        s1 = fma(load(a + i + kLanes), load(b + i + kLanes), s1);
        s2 = fma(load(a + i + 2 * kLanes), load(b + i + 2 * kLanes), s2);
        s3 = fma(load(a + i + 3 * kLanes), load(b + i + 3 * kLanes), s3);
    }
    for_vectors<T>(i, n, [&](std::int64_t j, int lanes) {
        s0 = fma(load_lanes(a + j, lanes), load_lanes(b + j, lanes), s0);
    });
    return reduce_add((s0 + s1) + (s2 + s3));
}

template <class T>
void matvec(const MatVecArgs& args, std::int64_t begin, std::int64_t end) {
    const T* weight = static_cast<const T*>(args.weight);
    const T* x = static_cast<const T*>(args.x);
    const T* bias = static_cast<const T*>(args.bias);
    T* y = static_cast<T*>(args.y);
    for (std::int64_t r = begin; r < end; ++r) {
        y[r] = dot(weight + r * args.cols, x, args.cols) + (bias != nullptr ? bias[r] : T(0));
    }
}

/// Sum of squares of one chunk (kNormChunk elements at most).
template <class T>
double sum_squares(const T* x, std::int64_t n) {
    return static_cast<double>(dot(x, x, n));
}

}  // namespace
}  // namespace carousel::cpu
