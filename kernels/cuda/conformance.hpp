#pragma once

// Kernels that put every wrapper of ptx.cuh, and the parts of the device language that the kernels
// lean on, through fixed inputs. The same launches run on the SIMT executor, where tests compare the
// results with expectations written on their own, and on a card, where they are kept as a golden file.

#include <cstdint>
#include <span>

#include "kernels/cuda/launch.hpp"

namespace carousel::cuda {

struct ConformanceArgs {
    const std::uint32_t* in = nullptr;
    std::uint32_t* out = nullptr;  ///< zeros before the launch
};

/// What the random input words are.
enum class ConformanceInput { kBits, kMmaBf16, kMmaF16 };

struct ConformanceCase {
    const char* name;
    ConformanceInput input;
    std::size_t in_words, out_words;
    bool floats;  ///< results are f32 sums, equal but for the order of rounding
    int min_sm;   ///< 80 or 90
    Launch (*launch)(const ConformanceArgs&);
};

std::span<const ConformanceCase> conformance_cases();  ///< compiled by nvcc

}  // namespace carousel::cuda

namespace carousel::cuda_simt {
std::span<const cuda::ConformanceCase> conformance_cases();  ///< compiled by the C++ compiler
}  // namespace carousel::cuda_simt
