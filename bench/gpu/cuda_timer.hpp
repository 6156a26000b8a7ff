#pragma once

#include <memory>

#include "bench/gpu/gpu_venue.hpp"

namespace carousel::bench {

/// On events of the CUDA runtime, whose resolution is about half a microsecond. The device must be
/// current in the calling thread.
std::unique_ptr<QueueTimer> make_cuda_timer();

/// Makes CUDA device `index` current in this thread. Errors: Cuda.
void use_cuda_device(int index);

/// Version of cuBLASLt that products run on, as "13.1.0"; "unknown" if it does not say.
std::string cublaslt_version();

}  // namespace carousel::bench
