#include "src/backend/cuda/runtime/cuda_graph.hpp"

#include <algorithm>
#include <string>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_api.hpp"

namespace carousel::cuda {

namespace {

std::size_t free_bytes() noexcept {
    std::size_t available = 0, total = 0;
    if (cudaMemGetInfo(&available, &total) == cudaSuccess) return available;
    cudaGetLastError();
    return 0;
}

// The graph of a capture, destroyed when its executable twin is made or was not.
struct Recorded {
    cudaGraph_t graph;
    DeviceHealth& health;
    ~Recorded() { health.note(cudaGraphDestroy(graph), "cudaGraphDestroy"); }
};

}  // namespace

std::unique_ptr<CudaGraph> CudaGraph::make(DeviceHealth& health, cudaGraph_t recorded,
                                           cudaStream_t stream) {
    const Recorded owner{recorded, health};
    std::unique_ptr<CudaGraph> graph(new CudaGraph(health));
    std::size_t nodes = 0;
    health.check(cudaGraphGetNodes(recorded, nullptr, &nodes), "cudaGraphGetNodes");
    graph->nodes_ = static_cast<std::int64_t>(nodes);
    if (graph->nodes_ > kMaxGraphNodes) return graph;
    const std::size_t before = free_bytes();
    const cudaError_t error = cudaGraphInstantiate(&graph->executable_, recorded, 0);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw Error(ErrorCode::kOutOfMemory,
                    "out of memory: a CUDA graph of " + std::to_string(nodes) + " nodes, " +
                        std::to_string(before) +
                        " bytes free; run without graphs, or with shorter sequences");
    }
    health.check(error, "cudaGraphInstantiate");
    health.check(cudaGraphUpload(graph->executable_, stream), "cudaGraphUpload");
    const std::size_t after = free_bytes();
    // The driver takes memory in chunks and other processes take some too, so the difference may be
    // 0 or too large; a node holds at least its argument struct.
    graph->bytes_ = std::max(before > after ? before - after : 0, nodes * kMaxArgBytes);
    return graph;
}

CudaGraph::~CudaGraph() {
    if (executable_ == nullptr || process_exiting() || health_.lost()) return;
    health_.note(cudaGraphExecDestroy(executable_), "cudaGraphExecDestroy");
}

void CudaGraph::launch(cudaStream_t stream) {
    if (executable_ == nullptr) {
        throw Error(ErrorCode::kInternal, "a graph of " + std::to_string(nodes_) +
                                              " nodes was not made executable; the limit is " +
                                              std::to_string(kMaxGraphNodes));
    }
    health_.check(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch");
}

}  // namespace carousel::cuda
