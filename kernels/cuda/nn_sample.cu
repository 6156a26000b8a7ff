// Drawing tokens from logits with temperature, top-k and top-p, one block per row, in one launch.
//
// The order "most probable first, then lowest index" is never made by sorting. A search walks the bits
// of the logits, a digit of 8 bits at a time, over histograms of how many logits have each digit and
// how much probability they carry, and finds the element at which a count or a mass is reached. That
// is all that top-k (a count), top-p (a mass) and the draw (another mass) need.
//
// Masses are whole numbers: probabilities relative to the largest, in units of 2^-b with b as large as
// the vocabulary allows (46 bits at 50,000 tokens). Their sums are exact in any order, so atomics on
// them change nothing from run to run, and the token is that of train::TokenDraw unless the number
// drawn lies within the rounding of its f64 sums of a boundary.

#include "kernels/cuda/nn_device.cuh"
#include "kernels/cuda/nn_philox.cuh"

namespace carousel::CAROUSEL_KERNELS {

namespace {

constexpr unsigned kSampleBlock = 512;
constexpr int kBins = 256, kBinBits = 8;
constexpr std::uint32_t kSampleStream =
    0x80000003U;  // RandomStream::kSample of src/train/random.hpp

using Mass = unsigned long long;

/// Unsigned integers in the order of the numbers; zeros of either sign are one.
struct KeyOfFloat {
    using Key = std::uint32_t;
    static __device__ __forceinline__ Key key(float z) {
        const std::uint32_t bits = __float_as_uint(z == 0.0F ? 0.0F : z);
        return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
    }
    static __device__ __forceinline__ float number(Key key) {
        return __uint_as_float((key >> 31) != 0 ? key & 0x7fffffffU : ~key);
    }
};
struct KeyOfDouble {
    using Key = unsigned long long;
    static __device__ __forceinline__ Key key(double z) {
        const auto bits = static_cast<Key>(__double_as_longlong(z == 0.0 ? 0.0 : z));
        return (bits >> 63) != 0 ? ~bits : bits | (Key{1} << 63);
    }
    static __device__ __forceinline__ double number(Key key) {
        return __longlong_as_double(
            static_cast<long long>((key >> 63) != 0 ? key & ~(Key{1} << 63) : ~key));
    }
};
template <class A>
struct KeysOf {
    using type = KeyOfFloat;
};
template <>
struct KeysOf<double> {
    using type = KeyOfDouble;
};

/// The row a block works on.
template <class S>
struct Row {
    const S* logits;
    std::int64_t size;
    double largest, temperature, unit;

    using A = Arithmetic<S>;
    /// A NaN is never drawn.
    __device__ __forceinline__ A logit(std::int64_t j) const {
        const A z = widen(logits[j]);
        return z == z ? z : static_cast<A>(-HUGE_VAL);
    }
    __device__ __forceinline__ Mass mass(A z) const {
        const double p = exp((static_cast<double>(z) - largest) / temperature);
        return p > 0.0 ? static_cast<Mass>(p * unit + 0.5) : 0;
    }
};

/// What the threads of a block share.
struct Scratch {
    double reals[33];
    long long integers[33];
    Mass bin_mass[kBins];
    std::uint32_t bin_count[kBins];
    Mass warp_sums[kSampleBlock / 32];
    int digit;
    Mass above_mass, above_count;
    long long found;
};

/// Where the order of probability reaches a target.
template <class Key>
struct Place {
    Key key;          ///< of the element there
    Mass above_mass;  ///< of all elements with larger keys
    Mass above_count;
};

/// Adds an element to its bin. Most logits of a row share their first digit, and 32 lanes that add to
/// one address take turns: the largest two groups of a warp are summed first.
__device__ __forceinline__ void add_to_bins(Scratch& scratch, bool valid, int digit, Mass mass) {
    std::uint32_t waiting = __ballot_sync(kFullWarp, valid);
    const unsigned lane = threadIdx.x % 32;
    for (int turn = 0; turn < 2 && waiting != 0; ++turn) {
        const int leader = __ffs(static_cast<int>(waiting)) - 1;
        const int leading = __shfl_sync(kFullWarp, digit, leader);
        const bool same = valid && digit == leading;
        const std::uint32_t group = __ballot_sync(kFullWarp, same) & waiting;
        const Mass sum = reduce_warp(same ? mass : Mass{0}, Add{});
        if (static_cast<int>(lane) == leader) {
            atomicAdd(&scratch.bin_mass[digit], sum);
            atomicAdd(&scratch.bin_count[digit], static_cast<std::uint32_t>(__popc(group)));
        }
        waiting &= ~group;
    }
    if ((waiting >> lane & 1U) != 0) {
        atomicAdd(&scratch.bin_mass[digit], mass);
        atomicAdd(&scratch.bin_count[digit], 1U);
    }
}

/// Warp 0: the highest digit at which the sum over it and all above reaches `target`.
__device__ __forceinline__ void choose_digit(Scratch& scratch, bool by_count, Mass target) {
    constexpr int kPerLane = kBins / 32;
    const int lane = static_cast<int>(threadIdx.x);
    const int top = kBins - 1 - lane * kPerLane;
    Mass mass = 0, count = 0;
    for (int b = 0; b < kPerLane; ++b) {
        mass += scratch.bin_mass[top - b];
        count += scratch.bin_count[top - b];
    }
    Mass mass_to = mass, count_to = count;  // up to and with this lane
#pragma unroll
    for (unsigned distance = 1; distance < 32; distance *= 2) {
        const Mass m = __shfl_up_sync(kFullWarp, mass_to, distance);
        const Mass c = __shfl_up_sync(kFullWarp, count_to, distance);
        if (static_cast<unsigned>(lane) >= distance) {
            mass_to += m;
            count_to += c;
        }
    }
    const Mass base = by_count ? scratch.above_count : scratch.above_mass;
    const bool reached = base + (by_count ? count_to : mass_to) >= target;
    const std::uint32_t lanes = __ballot_sync(kFullWarp, reached);
    __syncwarp();
    const int chosen = lanes != 0 ? __ffs(static_cast<int>(lanes)) - 1 : 31;
    if (lane != chosen) return;
    Mass above_mass = scratch.above_mass + mass_to - mass;
    Mass above_count = scratch.above_count + count_to - count;
    int digit = top;
    for (int b = 0; b < kPerLane; ++b) {
        digit = top - b;
        const Mass next_mass = above_mass + scratch.bin_mass[digit];
        const Mass next_count = above_count + scratch.bin_count[digit];
        if ((by_count ? next_count : next_mass) >= target) break;
        above_mass = next_mass;
        above_count = next_count;
    }
    scratch.digit = digit;
    scratch.above_mass = above_mass;
    scratch.above_count = above_count;
}

/// The element at which the running count or mass, in the order of probability, reaches `target`
/// (from 1 to the sum over the row).
template <class S>
__device__ Place<typename KeysOf<Arithmetic<S>>::type::Key> find_place(const Row<S>& row,
                                                                       bool by_count, Mass target,
                                                                       Scratch& scratch) {
    using Keys = typename KeysOf<Arithmetic<S>>::type;
    using Key = typename Keys::Key;
    constexpr int kKeyBits = 8 * static_cast<int>(sizeof(Key));
    Key prefix = 0;  // the digits found so far
    if (threadIdx.x == 0) scratch.above_mass = scratch.above_count = 0;
    for (int shift = kKeyBits - kBinBits; shift >= 0; shift -= kBinBits) {
        for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kSampleBlock) {
            scratch.bin_mass[b] = 0;
            scratch.bin_count[b] = 0;
        }
        __syncthreads();
        const Key fixed =
            shift + kBinBits == kKeyBits ? Key{0} : ~Key{0} << ((shift + kBinBits) % kKeyBits);
        const std::int64_t whole = (row.size + 31) / 32 * 32;  // whole warps, for the votes
        for (std::int64_t j = threadIdx.x; j < whole; j += kSampleBlock) {
            const auto z = j < row.size ? row.logit(j) : Arithmetic<S>(0);
            const Key key = Keys::key(z);
            const bool valid = j < row.size && (key & fixed) == prefix;
            add_to_bins(scratch, valid, static_cast<int>(key >> shift) & (kBins - 1),
                        valid ? row.mass(z) : 0);
        }
        __syncthreads();
        if (threadIdx.x < 32) choose_digit(scratch, by_count, target);
        __syncthreads();
        prefix |= static_cast<Key>(scratch.digit) << shift;
    }
    const Place<Key> place = {prefix, scratch.above_mass, scratch.above_count};
    __syncthreads();
    return place;
}

/// The first index at which the running sum of amount(j), in the order of indices, reaches `target`;
/// the last index if none does.
template <class Amount>
__device__ std::int64_t find_index(std::int64_t size, Mass target, Amount amount,
                                   Scratch& scratch) {
    const std::int64_t share = (size + kSampleBlock - 1) / kSampleBlock;
    const std::int64_t begin = threadIdx.x * share < size ? threadIdx.x * share : size;
    const std::int64_t end = begin + share < size ? begin + share : size;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Mass sum = 0;
    for (std::int64_t j = begin; j < end; ++j) sum += amount(j);
    Mass to = sum;
#pragma unroll
    for (unsigned distance = 1; distance < 32; distance *= 2) {
        const Mass below = __shfl_up_sync(kFullWarp, to, distance);
        if (lane >= distance) to += below;
    }
    if (lane == 31) scratch.warp_sums[warp] = to;
    if (threadIdx.x == 0) scratch.found = size - 1;
    __syncthreads();
    Mass running = to - sum;
    for (unsigned w = 0; w < warp; ++w) running += scratch.warp_sums[w];
    if (running < target && running + sum >= target) {  // one thread's share holds it
        std::int64_t j = begin;
        for (; j < end; ++j) {
            running += amount(j);
            if (running >= target) break;
        }
        scratch.found = j;
    }
    __syncthreads();
    const std::int64_t found = scratch.found;
    __syncthreads();
    return found;
}

/// Draws by mass in the order of probability among the kept elements; see the top of the file.
template <class S>
__device__ std::int64_t draw_ordered(const Row<S>& row, const SampleArgs& args, double uniform,
                                     Scratch& scratch) {
    using Keys = typename KeysOf<Arithmetic<S>>::type;
    const Mass keep =
        static_cast<Mass>(args.top_k > 0 && args.top_k < row.size ? args.top_k : row.size);
    // All that top-k keeps: everything above the last kept key, and some of those equal to it.
    auto place = find_place(row, true, keep, scratch);
    Mass each = row.mass(Keys::number(place.key));
    Mass total = place.above_mass + (keep - place.above_count) * each;
    if (args.top_p < 1.0) {
        const double wanted = ceil(args.top_p * static_cast<double>(total));
        Mass target = wanted < 1.0 ? 1 : static_cast<Mass>(wanted);
        target = target > total ? total : target;
        place = find_place(row, false, target, scratch);
        each = row.mass(Keys::number(place.key));
        const Mass rest = target - place.above_mass;
        total = place.above_mass + (rest + each - 1) / each * each;  // each > 0: the sum moved here
    }
    Mass target = static_cast<Mass>(uniform * static_cast<double>(total)) + 1;
    target = target > total ? total : target;
    place = find_place(row, false, target, scratch);
    each = row.mass(Keys::number(place.key));
    const Mass equals_before = (target - place.above_mass - 1) / each;
    return find_index(
        row.size, equals_before + 1,
        [&](std::int64_t j) { return Mass{Keys::key(row.logit(j)) == place.key ? 1U : 0U}; },
        scratch);
}

}  // namespace

/// One token per row of logits.
///
/// In       logits [rows,vocab_size] S; uniforms [rows] in [0,1), or a key
/// Out      tokens [rows], in [0, vocab_size) whatever the logits hold
/// Repeat   bitwise: sums are of whole numbers.
template <class S>
__global__ void __launch_bounds__(kSampleBlock, 1) sample_kernel(SampleArgs args) {
    using A = Arithmetic<S>;
    CAROUSEL_SHARED(Scratch, shared, 1);
    Scratch& scratch = shared[0];
    for (std::int64_t r = blockIdx.x; r < args.rows; r += gridDim.x) {
        Row<S> row = {static_cast<const S*>(args.logits) + r * args.ld, args.vocab_size, 0.0,
                      args.temperature, 1.0};
        A largest = static_cast<A>(-HUGE_VAL);
        for (std::int64_t j = threadIdx.x; j < row.size; j += kSampleBlock) {
            largest = Max{}(row.logit(j), largest);
        }
        row.largest = reduce_block(static_cast<double>(largest), Max{}, scratch.reals);
        std::int64_t token = 0;
        if (args.temperature == 0.0 || row.largest - row.largest != 0.0) {  // greedy, or infinite
            const A top = static_cast<A>(row.largest);
            token = find_index(
                row.size, 1, [&](std::int64_t j) { return Mass{row.logit(j) == top ? 1U : 0U}; },
                scratch);
        } else {
            int bits = 62;
            while (bits > 0 && (row.size >> (62 - bits)) != 0) --bits;
            row.unit = static_cast<double>(Mass{1} << bits);
            double uniform = 0.0;
            if (args.uniforms != nullptr) {
                uniform = args.uniforms[r];
            } else {
                const std::uint64_t seed = args.key != nullptr ? args.key[0] : args.seed;
                const std::uint64_t draw = args.key != nullptr ? args.key[1] : args.draw;
                const PhiloxWords counter = {{low_word(draw), high_word(draw),
                                              static_cast<std::uint32_t>(r), kSampleStream}};
                const PhiloxWords words = philox(counter, low_word(seed), high_word(seed));
                const std::uint64_t word = std::uint64_t{words.w[0]} << 32 | words.w[1];
                uniform = static_cast<double>(word >> 11) * 0x1.0p-53;
            }
            if (args.top_k > 0 || args.top_p < 1.0) {
                token = draw_ordered(row, args, uniform, scratch);
            } else {
                const auto mass = [&](std::int64_t j) { return row.mass(row.logit(j)); };
                Mass total = 0;
                for (std::int64_t j = threadIdx.x; j < row.size; j += kSampleBlock) {
                    total += mass(j);
                }
                total = static_cast<Mass>(
                    reduce_block(static_cast<long long>(total), Add{}, scratch.integers));
                Mass target = static_cast<Mass>(uniform * static_cast<double>(total)) + 1;
                target = target > total ? total : target;
                token = find_index(row.size, target, mass, scratch);
            }
        }
        if (threadIdx.x == 0) args.tokens[r] = static_cast<std::int32_t>(token);
    }
}

// --- launchers

Launch sample(const SampleArgs& args) {
    return for_dtype(args.dtype, [&](auto tag) {
        using S = typename decltype(tag)::type;
        const std::int64_t blocks = args.rows < 1                ? 1
                                    : args.rows > kMaxFlatBlocks ? kMaxFlatBlocks
                                                                 : args.rows;
        return make_launch("sample", &sample_kernel<S>, args, {static_cast<unsigned>(blocks), 1, 1},
                           {kSampleBlock, 1, 1});
    });
}

}  // namespace carousel::CAROUSEL_KERNELS
