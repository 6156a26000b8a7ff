#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <unordered_map>

#include "src/backend/cuda/gemm_key.hpp"
#include "src/backend/cuda/runtime/cublaslt.hpp"
#include "src/backend/cuda/runtime/cuda_check.hpp"

namespace carousel::cuda {

/// Matrix products of one device on cuBLASLt. The device must be current in every call. Threads may
/// share it.
///
/// The algorithm is the heuristic's first, kept by GemmKey, so equal calls give equal bits; split
/// sums are added in the compute type in a fixed order (reduction schemes NONE and COMPUTE_TYPE).
class GemmLt {
public:
    explicit GemmLt(DeviceHealth& health);
    ~GemmLt();
    GemmLt(const GemmLt&) = delete;
    GemmLt& operator=(const GemmLt&) = delete;

    /// As DeviceApi::gemm. Errors: InvalidArgument: gemm_problem; Unsupported: cuBLASLt has no
    /// algorithm; Cuda.
    void run(cudaStream_t stream, const GemmArgs& args);

private:
    struct Chosen;
    Chosen& choose(const GemmArgs& args, const void* bias);

    DeviceHealth& health_;
    cublasLtHandle_t handle_ = nullptr;
    std::mutex mutex_;
    std::unordered_map<GemmKey, std::unique_ptr<Chosen>, GemmKeyHash> chosen_;
};

}  // namespace carousel::cuda
