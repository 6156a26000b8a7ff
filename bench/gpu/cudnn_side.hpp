#pragma once

#include <memory>
#include <string>

#include "bench/core/side.hpp"
#include "bench/gpu/cudnn_options.hpp"
#include "src/backend/cuda/device_api.hpp"

namespace carousel::bench {

/// Empty if cuDNN is there, else a sentence that names what was tried: the file that CAROUSEL_CUDNN
/// names, the loader's search, CUDA_HOME and /usr/local/cuda. Looks once in a process.
std::string cudnn_reason();
/// "9.19.0"; "absent" without it.
std::string cudnn_version();

/// From now on PERSIST_DYNAMIC is refused once compiling it has taken so long in this process, all
/// networks together.
void limit_cudnn_compiling(double seconds);

/// cuDNN's RNN on a problem, through its API of version 9. Weights are brought into its weight
/// space when the side is made; gradients of weights are zeroed, in time, before it adds to them.
/// Errors: Unsupported: cuDNN refuses the options, with its words; OutOfMemory; Cuda.
std::unique_ptr<Side> make_cudnn_side(const Problem& problem, Arena& arena,
                                      std::shared_ptr<cuda::DeviceApi> api,
                                      const CudnnOptions& options);

}  // namespace carousel::bench
