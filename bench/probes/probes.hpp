#pragma once

#include <cstdint>

#include "kernels/cuda/launch.hpp"

// Launches of the probes' kernels as plain values. Each kernel repeats something `iterations` times;
// what a repetition takes is (time of many - time of few) / (many - few), so that the launch does not
// count. Every wait on another block ends after `timeout_ns`, with a status.

namespace carousel::bench::probes {

enum Status : std::uint32_t { kFine = 0, kTimedOut = 1, kWrongData = 2 };

struct Common {
    std::uint32_t iterations = 0;
    std::uint32_t* status = nullptr;  ///< device memory, zero before
    std::uint64_t timeout_ns = 2'000'000'000;
};

/// Nothing at all.
cuda::Launch empty();
/// One warp: gates of an LSTM from the state before, each step needing the last.
cuda::Launch pointwise(const Common& common, float* out);
/// All blocks read `bytes` again and again, past L1.
cuda::Launch read_l2(const Common& common, const void* data, std::size_t bytes, unsigned blocks,
                     std::uint32_t* out);

enum class Exchange { kRing, kAllToAll, kAllToAllBulk };
/// Clusters of `cluster` blocks. Ring: one message goes round; all to all: each block sends its
/// `bytes` to all others in every iteration, by st.async or by one bulk copy per peer.
cuda::Launch cluster_exchange(const Common& common, Exchange exchange, unsigned cluster,
                              unsigned clusters, unsigned bytes);

enum class Hop { kSelfValidating, kReleaseFlag, kCounter };
/// `blocks` blocks share `bytes`: each writes its part and reads all of it, in every iteration.
/// `data` has 2 * bytes, `flags` 128 * 32 words; both zero before.
cuda::Launch l2_hop(const Common& common, Hop hop, unsigned blocks, unsigned bytes, void* data,
                    std::uint32_t* flags);
/// A barrier over all blocks on one counter.
cuda::Launch grid_barrier(const Common& common, unsigned blocks, std::uint32_t* counter);

/// Weights of 192 KiB in the registers of each SM, times N columns in shared memory.
cuda::Launch mma_resident(const Common& common, unsigned n, unsigned blocks, const void* weights,
                          float* out);
cuda::Launch wgmma_resident(const Common& common, unsigned n, unsigned blocks, const void* weights,
                            float* out);
inline constexpr std::size_t kResidentBytes = 192 * 1024;

/// A block raises a flag; a cluster of four sees it, loads `bytes` from L2 into the shared memory of
/// all four and answers. Split: each of the four loads a quarter for all. `flags`: 64 words, zero.
cuda::Launch multicast(const Common& common, bool split, unsigned bytes, const void* data,
                       std::uint32_t* flags);

/// Clusters that fit on the device at once: of a kernel with nearly all registers and 227 KiB of shared
/// memory for each block. Negative: -cudaError_t.
int clusters_that_fit(unsigned cluster);
/// The same kernel, for a launch as cluster and cooperative in one.
cuda::Launch big_kernel(const Common& common, unsigned cluster, unsigned blocks);

}  // namespace carousel::bench::probes
