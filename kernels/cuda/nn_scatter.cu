// Embedding gradient: rows added to the table in the order of positions, without atomics on numbers.
//
// Positions are sorted by id with a stable radix sort, so the rows of one id become neighbours in the
// order of positions; then one warp per distinct id and column tile adds its run of rows in registers
// and touches the table once. The sort's cost depends on n and on the bits of V, not on V (a counting
// sort or lists per id would have to clear V heads, 4 MB for a vocabulary of a million, each step),
// and a frequent token costs a long run for one warp, not a quadratic search.
//
//   per digit of 8 bits: digit_counts (per tile of 2048) -> digit_offsets (one scan) -> digit_move
//   then: add_runs
//
// Ids out of range sort behind all others under the key V and are not added.

#include "kernels/cuda/nn_device.cuh"

namespace carousel::CAROUSEL_KERNELS {

namespace {

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
constexpr unsigned kSortBlock = 256, kSortWarps = kSortBlock / 32;
constexpr int kRounds = 8;  // rounds of 32 positions per warp
constexpr std::int64_t kWarpTile = 32 * kRounds, kTile = kWarpTile * kSortWarps;
constexpr unsigned kScanBlock = 1024;
constexpr unsigned kRunRows = 8;  // sorted positions, one warp each, per block of add_runs

static_assert(kDigits == kSortBlock, "a thread per digit");

/// One pass of the sort over `shift`; the first reads ids, later ones the pairs of the pass before.
struct SortPass {
    ScatterArgs args;
    int shift = 0;
    std::int32_t first = 0;
    std::int64_t tiles = 0;
    const std::uint32_t* keys_in = nullptr;
    const std::uint32_t* positions_in = nullptr;
    std::uint32_t* keys_out = nullptr;
    std::uint32_t* positions_out = nullptr;
    std::uint32_t* counts = nullptr;  ///< [kDigits, tiles]
};

/// Key of position i: its id, or V if that is out of range.
__device__ __forceinline__ std::uint32_t key_at(const SortPass& pass, std::int64_t i) {
    if (pass.first == 0) return pass.keys_in[i];
    const std::int64_t id = pass.args.ids[i];
    const bool valid = id >= 0 && id < pass.args.num_rows;
    return static_cast<std::uint32_t>(valid ? id : pass.args.num_rows);
}

__device__ __forceinline__ int digit_of(const SortPass& pass, std::uint32_t key) {
    return static_cast<int>(key >> pass.shift) & (kDigits - 1);
}

}  // namespace

/// counts[d, tile] = keys of the tile whose digit is d.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) digit_counts_kernel(SortPass pass) {
    CAROUSEL_SHARED(std::uint32_t, counts, kDigits);
    counts[threadIdx.x] = 0;
    __syncthreads();
    const std::int64_t begin = blockIdx.x * kTile;
    const std::int64_t end = begin + kTile < pass.args.n ? begin + kTile : pass.args.n;
    for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
        const std::uint32_t key = key_at(pass, i);
        if (pass.first != 0 && key == static_cast<std::uint32_t>(pass.args.num_rows)) {
            atomicOr(pass.args.status, kStatusToken);
        }
        atomicAdd(&counts[digit_of(pass, key)], 1U);
    }
    __syncthreads();
    pass.counts[threadIdx.x * pass.tiles + blockIdx.x] = counts[threadIdx.x];
}

/// counts becomes its exclusive prefix sum in the order digit, tile: where each run begins. One block;
/// each thread owns a contiguous share.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) digit_offsets_kernel(SortPass pass) {
    CAROUSEL_SHARED(std::uint32_t, warp_sums, 32);
    const std::int64_t total = kDigits * pass.tiles;
    const std::int64_t share = (total + kThreads - 1) / kThreads;
    const std::int64_t begin = threadIdx.x * share < total ? threadIdx.x * share : total;
    const std::int64_t end = begin + share < total ? begin + share : total;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    std::uint32_t sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += pass.counts[i];
    std::uint32_t inclusive = sum;
#pragma unroll
    for (unsigned distance = 1; distance < 32; distance *= 2) {
        const std::uint32_t below = __shfl_up_sync(kFullWarp, inclusive, distance);
        if (lane >= distance) inclusive += below;
    }
    if (lane == 31) warp_sums[warp] = inclusive;
    __syncthreads();
    std::uint32_t offset = inclusive - sum;
    for (unsigned w = 0; w < warp; ++w) offset += warp_sums[w];
    for (std::int64_t i = begin; i < end; ++i) {
        const std::uint32_t count = pass.counts[i];
        pass.counts[i] = offset;
        offset += count;
    }
}

/// Moves each (key, position) to its place among equal digits, keeping their order.
///
/// A warp owns 256 consecutive positions and walks them 32 at a time; votes on the bits of the digit
/// tell each lane how many lanes before it have its digit.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) digit_move_kernel(SortPass pass) {
    CAROUSEL_SHARED(std::uint32_t, places, kSortWarps * kDigits);  // [warp, digit]
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    std::uint32_t* mine = places + warp * kDigits;
    for (unsigned d = lane; d < kDigits; d += 32) mine[d] = 0;
    __syncwarp();

    const std::int64_t begin = blockIdx.x * kTile + warp * kWarpTile;
    std::uint32_t keys[kRounds], ranks[kRounds];
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const std::int64_t i = begin + round * 32 + lane;
        const bool valid = i < pass.args.n;
        keys[round] = valid ? key_at(pass, i) : 0;
        const int digit = digit_of(pass, keys[round]);
        std::uint32_t peers = __ballot_sync(kFullWarp, valid);
#pragma unroll
        for (int bit = 0; bit < kDigitBits; ++bit) {
            const bool set = (digit >> bit & 1) != 0;
            const std::uint32_t votes = __ballot_sync(kFullWarp, set);
            peers &= set ? votes : ~votes;
        }
        const std::uint32_t before = peers & ((1U << lane) - 1U);
        ranks[round] = mine[digit] + static_cast<std::uint32_t>(__popc(before));
        __syncwarp();
        if (valid && before == 0) mine[digit] += static_cast<std::uint32_t>(__popc(peers));
        __syncwarp();
    }
    __syncthreads();
    std::uint32_t place = pass.counts[threadIdx.x * pass.tiles + blockIdx.x];
    for (unsigned w = 0; w < kSortWarps; ++w) {
        const std::uint32_t count = places[w * kDigits + threadIdx.x];
        places[w * kDigits + threadIdx.x] = place;
        place += count;
    }
    __syncthreads();
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const std::int64_t i = begin + round * 32 + lane;
        if (i >= pass.args.n) continue;
        const std::uint32_t to = mine[digit_of(pass, keys[round])] + ranks[round];
        pass.keys_out[to] = keys[round];
        pass.positions_out[to] =
            pass.first != 0 ? static_cast<std::uint32_t>(i) : pass.positions_in[i];
    }
}

namespace {
struct RunsArgs {
    ScatterArgs args;
    const std::uint32_t* keys;  ///< [n] sorted
    const std::uint32_t* positions;
};
}  // namespace

/// table[id] += the rows of a run of equal ids, in order. A warp per sorted position and tile of
/// 32*kVec columns; those that do not begin a run have nothing to do.
template <class S, int kVec>
__global__ void __launch_bounds__(32 * kRunRows) add_runs_kernel(RunsArgs runs) {
    using A = Arithmetic<S>;
    const ScatterArgs& args = runs.args;
    const unsigned lane = threadIdx.x;
    const std::int64_t start = static_cast<std::int64_t>(blockIdx.x) * kRunRows + threadIdx.y;
    if (start >= args.n) return;
    const std::uint32_t id = runs.keys[start];
    if (id >= args.num_rows || (start > 0 && runs.keys[start - 1] == id)) return;
    const S* x = static_cast<const S*>(args.x);
    for (std::int64_t tile = blockIdx.y * std::int64_t{32 * kVec}; tile < args.row_size;
         tile += gridDim.y * std::int64_t{32 * kVec}) {
        const std::int64_t j = tile + lane * kVec;
        const bool active = j < args.row_size;
        A* to = static_cast<A*>(args.table) + id * args.row_size + j;
        A sum[kVec] = {};
        if (active) load_pack<kVec>(to, sum);
        int length = 32;
        for (std::int64_t base = start; length == 32; base += 32) {
            const std::int64_t i = base + lane;
            const bool same = i < args.n && runs.keys[i] == id;
            const std::uint32_t position = same ? runs.positions[i] : 0;
            const std::uint32_t others = ~__ballot_sync(kFullWarp, same);
            length = others == 0 ? 32 : __ffs(static_cast<int>(others)) - 1;
            // Loads of eight rows are in flight while their sums wait for each other.
#pragma unroll 8
            for (int r = 0; r < length; ++r) {
                const std::int64_t row = __shfl_sync(kFullWarp, position, r);
                if (!active) continue;
                A a[kVec];
                load_pack<kVec>(x + row * args.row_size + j, a);
#pragma unroll
                for (int k = 0; k < kVec; ++k) sum[k] += a[k];
            }
        }
        if (active) store_pack<kVec>(to, sum);
    }
}

// --- launchers

namespace {

std::int64_t num_tiles(std::int64_t n) { return n > 0 ? blocks_for(n, kTile) : 1; }

int num_passes(std::int64_t num_rows) {
    int passes = 1;  // keys reach num_rows itself
    while (passes < 4 && (num_rows >> (passes * kDigitBits)) != 0) ++passes;
    return passes;
}

/// Views of the workspace: two sets of pairs, written in turn, and the counts.
SortPass make_pass(const ScatterArgs& args, int pass) {
    auto* words = static_cast<std::uint32_t*>(args.workspace);
    SortPass sort;
    sort.args = args;
    sort.shift = pass * kDigitBits;
    sort.first = pass == 0 ? 1 : 0;
    sort.tiles = num_tiles(args.n);
    std::uint32_t* sets[2] = {words, words + 2 * args.n};
    sort.keys_in = sets[(pass + 1) % 2];
    sort.positions_in = sets[(pass + 1) % 2] + args.n;
    sort.keys_out = sets[pass % 2];
    sort.positions_out = sets[pass % 2] + args.n;
    sort.counts = words + 4 * args.n;
    return sort;
}

Launch add_runs(const ScatterArgs& args) {
    const SortPass last = make_pass(args, num_passes(args.num_rows) - 1);
    const RunsArgs runs = {args, last.keys_out, last.positions_out};
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        constexpr int kVec = kPackSize<S>;
        const bool packed = packs_fit(args.x) &&
                            aligned_to(kVec * sizeof(Arithmetic<S>), args.table) &&
                            args.row_size % kVec == 0;
        const std::int64_t tiles = blocks_for(args.row_size, 32 * (packed ? kVec : 1));
        const std::int64_t blocks = blocks_for(args.n, kRunRows);
        const Dim3 grid = {static_cast<unsigned>(blocks < 1 ? 1 : blocks),
                           static_cast<unsigned>(tiles > 1024 ? 1024 : tiles), 1};
        return make_launch("add_runs", packed ? &add_runs_kernel<S, kVec> : &add_runs_kernel<S, 1>,
                           runs, grid, {32, kRunRows, 1});
    });
}

}  // namespace

int scatter_steps(const ScatterArgs& args) { return 3 * num_passes(args.num_rows) + 1; }

Launch scatter_add_rows(const ScatterArgs& args, int step) {
    if (step == 3 * num_passes(args.num_rows)) return add_runs(args);
    const SortPass pass = make_pass(args, step / 3);
    const Dim3 tiles = {static_cast<unsigned>(pass.tiles), 1, 1};
    switch (step % 3) {
        case 0:
            return make_launch("digit_counts", &digit_counts_kernel<kSortBlock>, pass, tiles,
                               {kSortBlock, 1, 1});
        case 1:
            return make_launch("digit_offsets", &digit_offsets_kernel<kScanBlock>, pass, {1, 1, 1},
                               {kScanBlock, 1, 1});
        default:
            return make_launch("digit_move", &digit_move_kernel<kSortBlock>, pass, tiles,
                               {kSortBlock, 1, 1});
    }
}

std::size_t scatter_workspace_bytes(std::int64_t n) {
    return static_cast<std::size_t>(4 * n + kDigits * num_tiles(n)) * sizeof(std::uint32_t);
}

}  // namespace carousel::CAROUSEL_KERNELS
