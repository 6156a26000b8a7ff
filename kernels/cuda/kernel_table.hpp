#pragma once

#include "kernels/cuda/nn_launchers.hpp"
#include "kernels/cuda/rnn_args.hpp"

// Kernel sources live in `namespace carousel::CAROUSEL_KERNELS`, so that the build for a card and the
// one for tests/simt can be linked into one program.
#if defined(CAROUSEL_SIMT)
#define CAROUSEL_KERNELS cuda_simt
#else
#define CAROUSEL_KERNELS cuda
#endif

namespace carousel::cuda {

/// All launchers of one build.
struct KernelTable {
    const RnnLaunchers* rnn = nullptr;
    const NnLaunchers* nn = nullptr;
};

const RnnLaunchers& rnn_launchers();  ///< compiled by nvcc
const NnLaunchers& nn_launchers();

}  // namespace carousel::cuda

namespace carousel::cuda_simt {
const cuda::RnnLaunchers& rnn_launchers();  ///< compiled by the C++ compiler
const cuda::NnLaunchers& nn_launchers();
}  // namespace carousel::cuda_simt
