#pragma once

#include <string>

namespace carousel {

/// What this process can do with CUDA.
struct CudaStatus {
    bool compiled = false;  ///< this build has the CUDA part
    int device_count = 0;   ///< CUDA devices that the driver shows to this process
    std::string reason;  ///< a sentence that says why a CUDA plan cannot run here; empty if it can
};

/// Asks the CUDA runtime for its devices. Never throws; a machine without a driver is an answer.
CudaStatus cuda_status();

}  // namespace carousel
