#pragma once

#include <memory>

#include "src/backend/cuda/device_api.hpp"

namespace carousel::cuda {

/// The DeviceApi of a real card, on the CUDA runtime and cuBLASLt: its own memory pool, a non-blocking
/// stream, one product library handle. `caps` as probe_devices gave them.
/// Errors: Unsupported: cuBLASLt is missing; OutOfMemory; Cuda.
std::shared_ptr<DeviceApi> make_cuda_device(int index, const DeviceCaps& caps);

}  // namespace carousel::cuda
