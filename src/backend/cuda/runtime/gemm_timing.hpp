#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/runtime/cuda_check.hpp"
#include "src/backend/cuda/runtime/device_pool.hpp"

namespace carousel::cuda {

/// Enqueues a product by candidate `index` on `stream`, with its result at `c`.
using GemmCandidate =
    std::function<cublasStatus_t(std::size_t index, void* c, cudaStream_t stream)>;

/// Times `count` candidates for one product, in nanoseconds each; kNeverNs for one that cuBLASLt
/// refuses. Waits for `queue`, on which the operands were made, and for the products.
///
///   each once, to load it; then 5 rounds, in each of which every candidate runs 4 times between two
///   events; the least of its rounds counts, because what disturbs a time only ever adds to it
///
/// The products run on a stream made for it, and write a scratch result of the same layout and
/// alignment, zero at first: what a result holds before does not change how long a product takes, and
/// the caller's is neither read nor written. `args.workspace` is used.
///
/// Errors: OutOfMemory: no room for the scratch result; Cuda, DeviceLost.
std::vector<double> time_gemm(DeviceHealth& health, DevicePool& pool, cudaStream_t queue,
                              const GemmArgs& args, std::size_t count,
                              const GemmCandidate& candidate);

}  // namespace carousel::cuda
