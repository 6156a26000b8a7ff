#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "src/backend/cuda/device_api.hpp"

// What a product's algorithm is chosen by, apart from cuBLASLt, so that it is tested without a GPU.

namespace carousel::cuda {

/// cuBLASLt looks at no alignment above this.
inline constexpr std::uint32_t kMaxAlignment = 256;
/// A bias at a lesser alignment is copied into the workspace first, where there is room: cuBLASLt's
/// epilogues load it as 16-byte vectors, and may have no algorithm for less.
inline constexpr std::uint32_t kBiasAlignment = 16;

/// Greatest power of two <= kMaxAlignment that divides the address, and the stride in bytes too where
/// it is walked. Pure.
std::uint32_t alignment_of(const void* address, std::int64_t stride_bytes = 0) noexcept;

/// Empty if `args` is a product that DeviceApi::gemm takes, else a sentence that names what is wrong.
std::string gemm_problem(const GemmArgs& args);

/// `args.workspace` from its first kMaxAlignment boundary on, less a copy of the bias that needs one.
struct GemmWorkspace {
    void* bias_copy = nullptr;  ///< null: the bias is used where it is
    void* memory = nullptr;
    std::size_t bytes = 0;
};
GemmWorkspace gemm_workspace(const GemmArgs& args) noexcept;

/// Equal keys may use the same algorithm: types, transposes, sizes, strides, whether beta is 0 and a
/// bias added, the workspace, and the alignments of the real addresses and strides. Everything that
/// changes the bits of a result is in it, or in the data.
struct GemmKey {
    std::array<std::int64_t, 18> words{};

    friend bool operator==(const GemmKey&, const GemmKey&) = default;
};
struct GemmKeyHash {
    std::size_t operator()(const GemmKey& key) const noexcept;
};
GemmKey gemm_key(const GemmArgs& args) noexcept;

/// Alignments that the heuristic is told of, in bytes; the bias where it will be read, 0 without one.
struct GemmAlignments {
    std::uint32_t a = 1, b = 1, c = 1, bias = 0;
};
GemmAlignments gemm_alignments(const GemmArgs& args) noexcept;

/// Memory that the result touches from args.c on, what lies between its columns included.
std::size_t gemm_result_bytes(const GemmArgs& args) noexcept;

/// What one call of cuBLASLt is given at most. It has algorithms that put the batch along a grid's z,
/// which ends at 65535, and some that count a stored matrix' elements in 32 bits, although its
/// interface has 64.
inline constexpr std::int64_t kMaxCallBatch = 65535;
inline constexpr std::int64_t kMaxCallElements = INT32_MAX;

/// Sizes of the parts that a product is multiplied in: batches, columns of C, and terms of its sums.
/// Its own, for all but the largest.
struct GemmPartSizes {
    std::int64_t batch = 1, n = 1, k = 1;
};
GemmPartSizes gemm_part_sizes(const GemmArgs& args) noexcept;

/// The part of those sizes, or what is left of them, that begins at batch, column and term. The first
/// part of a sum brings beta and the bias, the others add to it.
GemmArgs gemm_part(const GemmArgs& args, const GemmPartSizes& sizes, std::int64_t batch,
                   std::int64_t column, std::int64_t term) noexcept;

/// Calls `multiply` with the parts of a product, in a fixed order: one after the other on a queue they
/// are the product.
template <class Multiply>
void for_gemm_parts(const GemmArgs& args, const GemmPartSizes& sizes, const Multiply& multiply) {
    for (std::int64_t batch = 0; batch < args.batch; batch += sizes.batch) {
        for (std::int64_t column = 0; column < args.n; column += sizes.n) {
            for (std::int64_t term = 0; term < args.k; term += sizes.k) {
                multiply(gemm_part(args, sizes, batch, column, term));
            }
        }
    }
}

/// "f32 gemm of [64,512] x [512,16]": the product in words, for messages.
std::string gemm_text(const GemmArgs& args);

}  // namespace carousel::cuda
