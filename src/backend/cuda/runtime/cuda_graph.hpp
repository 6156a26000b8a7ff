#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "src/backend/cuda/runtime/cuda_check.hpp"

namespace carousel::cuda {

/// A recorded graph, made executable if it has at most kMaxGraphNodes.
class CudaGraph {
public:
    /// Takes `recorded`, on every path, and uploads the executable graph on `stream`.
    static std::unique_ptr<CudaGraph> make(DeviceHealth& health, cudaGraph_t recorded,
                                           cudaStream_t stream);
    /// A graph that still runs is freed when it is done (cudaGraphExecDestroy).
    ~CudaGraph();
    CudaGraph(const CudaGraph&) = delete;
    CudaGraph& operator=(const CudaGraph&) = delete;

    void launch(cudaStream_t stream);
    std::int64_t nodes() const noexcept { return nodes_; }
    /// Device memory that went away while it was made, and at least its kernels' arguments.
    std::size_t bytes() const noexcept { return bytes_; }

private:
    explicit CudaGraph(DeviceHealth& health) : health_(health) {}

    DeviceHealth& health_;
    cudaGraphExec_t executable_ = nullptr;
    std::int64_t nodes_ = 0;
    std::size_t bytes_ = 0;
};

}  // namespace carousel::cuda
