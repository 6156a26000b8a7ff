// Operations on the rows and columns of matrices: embedding lookup, one-hot rows, biases, column sums.

#include "kernels/cuda/nn_device.cuh"

namespace carousel::CAROUSEL_KERNELS {

namespace {
// A warp per row, 8 rows per block.
constexpr unsigned kRowLanes = 32, kBlockRows = 8;
constexpr unsigned kRowThreads = kRowLanes * kBlockRows;
// Column sums: chunks of at least this many rows, and at most so many chunks.
constexpr std::int64_t kChunkRows = 64, kMaxChunks = 128;
// Column tiles of add_bias: as many packs as four turns of a warp.
constexpr std::int64_t kTileTurns = 4;

__device__ __forceinline__ std::int64_t first_row() {
    return static_cast<std::int64_t>(blockIdx.x) * kBlockRows + threadIdx.y;
}
__device__ __forceinline__ std::int64_t row_step() {
    return static_cast<std::int64_t>(gridDim.x) * kBlockRows;
}

/// A launch over elements of one word size: rows are moved, not computed with.
template <class Word, class Args>
struct RowWords {
    Args args;
    std::int64_t row_words;
};
}  // namespace

/// y[r] = table[ids[r]], in words; zeros and a status bit for an id out of range.
template <class Word>
__global__ void __launch_bounds__(kRowThreads) gather_rows_kernel(RowWords<Word, GatherArgs> p) {
    const Word* table = static_cast<const Word*>(p.args.table);
    Word* y = static_cast<Word*>(p.args.y);
    for (std::int64_t r = first_row(); r < p.args.n; r += row_step()) {
        const std::int64_t id = p.args.ids[r];
        const bool valid = id >= 0 && id < p.args.num_rows;
        if (!valid && threadIdx.x == 0) atomicOr(p.args.status, kStatusToken);
        for (std::int64_t j = threadIdx.x; j < p.row_words; j += kRowLanes) {
            y[r * p.row_words + j] = valid ? table[id * p.row_words + j] : Word{};
        }
    }
}

/// table[rows[i]] = 0, in words.
template <class Word>
__global__ void __launch_bounds__(kRowThreads) zero_rows_kernel(RowWords<Word, ZeroRowsArgs> p) {
    Word* table = static_cast<Word*>(p.args.table);
    for (std::int64_t r = first_row(); r < p.args.n; r += row_step()) {
        const std::int64_t row = p.args.rows[r];
        if (row < 0 || row >= p.args.num_rows) {
            if (threadIdx.x == 0) atomicOr(p.args.status, kStatusToken);
            continue;
        }
        for (std::int64_t j = threadIdx.x; j < p.row_words; j += kRowLanes) {
            table[row * p.row_words + j] = Word{};
        }
    }
}

/// x[r, ids[r]] = value; a thread per row.
template <class S>
__global__ void __launch_bounds__(kFlatBlock) set_one_hot_kernel(OneHotArgs args) {
    S* x = static_cast<S*>(args.x);
    const S value = narrow<S>(static_cast<Arithmetic<S>>(args.value));
    for (std::int64_t r = flat_thread(); r < args.n; r += flat_threads()) {
        const std::int64_t id = args.ids[r];
        if (id < 0 || id >= args.classes) {
            atomicOr(args.status, kStatusToken);
            continue;
        }
        x[r * args.classes + id] = value;
    }
}

/// x[r] += bias; a warp per row and tile of columns.
template <class S, int kVec>
__global__ void __launch_bounds__(kRowThreads, 4) add_bias_kernel(RowBiasArgs args) {
    using A = Arithmetic<S>;
    constexpr std::int64_t kTile = kTileTurns * kRowLanes * kVec;
    const S* bias = static_cast<const S*>(args.bias);
    for (std::int64_t tile = static_cast<std::int64_t>(blockIdx.y) * kTile; tile < args.cols;
         tile += static_cast<std::int64_t>(gridDim.y) * kTile) {
        const std::int64_t end = tile + kTile < args.cols ? tile + kTile : args.cols;
        for (std::int64_t r = first_row(); r < args.rows; r += row_step()) {
            S* row = static_cast<S*>(args.x) + r * args.ld;
            for (std::int64_t j = tile + threadIdx.x * kVec; j < end; j += kRowLanes * kVec) {
                A a[kVec], b[kVec];
                load_pack<kVec>(row + j, a);
                load_pack<kVec>(bias + j, b);
#pragma unroll
                for (int k = 0; k < kVec; ++k) a[k] += b[k];
                store_pack<kVec>(row + j, a);
            }
        }
    }
}

namespace {
struct ColumnSumPlan {
    ColumnSumsArgs args;
    std::int64_t chunks, chunk_rows;
};
}  // namespace

/// Stage 1: partials[chunk, j] = sum over the chunk's rows; blockIdx.y is the chunk.
///
/// Row r of a chunk is summed by thread row r % 8 in order, then the 8 sums in order.
template <class S, int kVec>
__global__ void __launch_bounds__(kRowThreads) column_sum_chunks_kernel(ColumnSumPlan plan) {
    using A = Arithmetic<S>;
    CAROUSEL_SHARED(A, sums, kRowThreads * kVec);
    const ColumnSumsArgs& args = plan.args;
    const S* x = static_cast<const S*>(args.x);
    A* partials = static_cast<A*>(args.workspace);
    const std::int64_t first =
        (static_cast<std::int64_t>(blockIdx.x) * kRowLanes + threadIdx.x) * kVec;
    const std::int64_t top = blockIdx.y * plan.chunk_rows;
    const std::int64_t bottom =
        top + plan.chunk_rows < args.rows ? top + plan.chunk_rows : args.rows;
    A sum[kVec];
#pragma unroll
    for (int k = 0; k < kVec; ++k) sum[k] = A(0);
    if (first < args.cols) {
#pragma unroll 4
        for (std::int64_t r = top + threadIdx.y; r < bottom; r += kBlockRows) {
            A a[kVec];
            load_pack<kVec>(x + r * args.ld + first, a);
#pragma unroll
            for (int k = 0; k < kVec; ++k) sum[k] += a[k];
        }
    }
#pragma unroll
    for (int k = 0; k < kVec; ++k) {
        sums[(threadIdx.y * kVec + static_cast<unsigned>(k)) * kRowLanes + threadIdx.x] = sum[k];
    }
    __syncthreads();
    if (threadIdx.y != 0 || first >= args.cols) return;
#pragma unroll
    for (int k = 0; k < kVec; ++k) {
        A total = sums[static_cast<unsigned>(k) * kRowLanes + threadIdx.x];
        for (unsigned row = 1; row < kBlockRows; ++row) {
            total += sums[(row * kVec + static_cast<unsigned>(k)) * kRowLanes + threadIdx.x];
        }
        partials[blockIdx.y * args.cols + first + k] = total;
    }
}

/// Stage 2: the chunks in order, a thread per column.
template <class S>
__global__ void __launch_bounds__(kFlatBlock) column_sum_total_kernel(ColumnSumPlan plan) {
    using A = Arithmetic<S>;
    const A* partials = static_cast<const A*>(plan.args.workspace);
    A* y = static_cast<A*>(plan.args.y);
    for (std::int64_t j = flat_thread(); j < plan.args.cols; j += flat_threads()) {
        A total = plan.args.accumulate != 0 ? y[j] : A(0);
#pragma unroll 8
        for (std::int64_t c = 0; c < plan.chunks; ++c) total += partials[c * plan.args.cols + j];
        y[j] = total;
    }
}

// --- launchers

namespace {

Dim3 row_grid(std::int64_t rows) {
    std::int64_t blocks = blocks_for(rows, kBlockRows);
    if (blocks < 1) blocks = 1;
    if (blocks > kMaxFlatBlocks) blocks = kMaxFlatBlocks;
    return {static_cast<unsigned>(blocks), 1, 1};
}

template <class Word, class Args>
Launch words_launch(const char* name, void (*kernel)(RowWords<Word, Args>), const Args& args) {
    const std::int64_t row_bytes =
        args.row_size * static_cast<std::int64_t>(dtype_bytes(args.dtype));
    const RowWords<Word, Args> words = {args, row_bytes / static_cast<std::int64_t>(sizeof(Word))};
    return make_launch(name, kernel, words, row_grid(args.n), {kRowLanes, kBlockRows, 1});
}

/// body(TypeTag<Word>) for the widest word that divides rows and fits the addresses.
template <class Args, class Body>
Launch for_words(const Args& args, bool aligned, Body&& body) {
    const std::size_t element = dtype_bytes(args.dtype);
    if (aligned && static_cast<std::size_t>(args.row_size) * element % sizeof(uint4) == 0) {
        return body(TypeTag<uint4>{});
    }
    if (element == 8) return body(TypeTag<std::uint64_t>{});
    if (element == 4) return body(TypeTag<std::uint32_t>{});
    return body(TypeTag<std::uint16_t>{});
}

ColumnSumPlan plan_column_sum(const ColumnSumsArgs& args) {
    std::int64_t chunks = blocks_for(args.rows, kChunkRows);
    if (chunks < 1) chunks = 1;
    if (chunks > kMaxChunks) chunks = kMaxChunks;
    return {args, chunks, blocks_for(args.rows, chunks)};
}

}  // namespace

Launch gather_rows(const GatherArgs& args) {
    return for_words(args, packs_fit(args.table, args.y), [&](auto tag) {
        using Word = typename decltype(tag)::type;
        return words_launch<Word>("gather_rows", &gather_rows_kernel<Word>, args);
    });
}

Launch zero_rows(const ZeroRowsArgs& args) {
    return for_words(args, packs_fit(args.table), [&](auto tag) {
        using Word = typename decltype(tag)::type;
        return words_launch<Word>("zero_rows", &zero_rows_kernel<Word>, args);
    });
}

Launch set_one_hot(const OneHotArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        return make_launch("set_one_hot", &set_one_hot_kernel<S>, args, flat_grid(args.n),
                           {kFlatBlock, 1, 1});
    });
}

Launch add_bias(const RowBiasArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        constexpr int kVec = kPackSize<S>;
        const bool packed =
            packs_fit(args.x, args.bias) && args.ld % kVec == 0 && args.cols % kVec == 0;
        const std::int64_t tile = kTileTurns * kRowLanes * (packed ? kVec : 1);
        Dim3 grid = row_grid(args.rows);
        const std::int64_t tiles = blocks_for(args.cols, tile);
        grid.y = static_cast<unsigned>(tiles < 1 ? 1 : tiles > 1024 ? 1024 : tiles);
        return make_launch("add_bias", packed ? &add_bias_kernel<S, kVec> : &add_bias_kernel<S, 1>,
                           args, grid, {kRowLanes, kBlockRows, 1});
    });
}

Launch column_sum(const ColumnSumsArgs& args, int step) {
    const ColumnSumPlan plan = plan_column_sum(args);
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        if (step == 1) {
            return make_launch("column_sum_total", &column_sum_total_kernel<S>, plan,
                               flat_grid(args.cols), {kFlatBlock, 1, 1});
        }
        constexpr int kVec = kPackSize<S>;
        const bool packed = packs_fit(args.x) && args.ld % kVec == 0 && args.cols % kVec == 0;
        const std::int64_t tiles = blocks_for(args.cols, kRowLanes * (packed ? kVec : 1));
        const Dim3 grid = {static_cast<unsigned>(tiles < 1 ? 1 : tiles),
                           static_cast<unsigned>(plan.chunks), 1};
        return make_launch(
            "column_sum_chunks",
            packed ? &column_sum_chunks_kernel<S, kVec> : &column_sum_chunks_kernel<S, 1>, plan,
            grid, {kRowLanes, kBlockRows, 1});
    });
}

std::size_t column_sum_workspace_bytes(DType dtype, std::int64_t rows, std::int64_t cols) {
    ColumnSumsArgs args;
    args.rows = rows;
    const std::size_t sum_bytes = dtype == DType::kF64 ? sizeof(double) : sizeof(float);
    return static_cast<std::size_t>(plan_column_sum(args).chunks * cols) * sum_bytes;
}

}  // namespace carousel::CAROUSEL_KERNELS
