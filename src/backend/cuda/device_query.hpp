#pragma once

#include <string>
#include <vector>

#include "src/backend/cuda/device_caps.hpp"

namespace carousel {

/// What the CUDA runtime answered when asked for its devices, as a plain value.
struct CudaAnswer {
    bool compiled = false;   ///< this build has the CUDA part; the rest is meaningless without
    int error = 0;           ///< cudaError_t of listing the devices
    std::string error_text;  ///< its name and description
    int driver_version = 0, runtime_version = 0;  ///< 1000*major + 10*minor; driver 0 = none
    std::vector<cuda::DeviceCaps> devices;
};

/// What this process can do with CUDA.
struct CudaStatus {
    bool compiled = false;  ///< this build has the CUDA part
    int device_count = 0;   ///< CUDA devices that the driver shows to this process
    /// A sentence that says why no CUDA plan can run here; empty if one can on some device.
    std::string reason;
    std::vector<cuda::DeviceCaps> devices;
};

/// The status that follows from an answer. Pure.
CudaStatus status_of(const CudaAnswer& answer);

/// Asks the CUDA runtime for its devices, once in a process. Never throws; a machine without a driver
/// is an answer.
CudaStatus cuda_status();

/// Empty if plans can run on CUDA device `index`, else a sentence. Where all else is well this makes
/// the device's context, to see whether it has memory left, and loads cuBLASLt.
std::string cuda_unusable_reason(int index);

}  // namespace carousel
