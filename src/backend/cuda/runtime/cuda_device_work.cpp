#include <string>

#include "src/backend/cuda/runtime/cuda_device_class.hpp"

#if CAROUSEL_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace carousel::cuda {

namespace {

#if CAROUSEL_NVTX
/// A named range in a profiler's time line.
class ProfilerRange {
public:
    explicit ProfilerRange(const char* name) { nvtxRangePushA(name); }
    ~ProfilerRange() { nvtxRangePop(); }
    ProfilerRange(const ProfilerRange&) = delete;
    ProfilerRange& operator=(const ProfilerRange&) = delete;
};
#else
struct ProfilerRange {
    explicit ProfilerRange(const char*) {}
};
#endif

// cuBLAS' own choice for its default workspace: 32 MiB on Hopper, less before (cuBLAS documentation,
// cublasSetWorkspace). Blackwell takes Hopper's.
constexpr std::size_t kHopperWorkspace = std::size_t{32} << 20;
constexpr std::size_t kEarlierWorkspace = std::size_t{4} << 20;

std::string geometry_text(const Launch& launch) {
    const auto text = [](const Dim3& d) {
        return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
    };
    return std::string(launch.kernel) + " (grid " + text(launch.grid) + ", block " +
           text(launch.block) + ", " + std::to_string(launch.shared_bytes) +
           " bytes of shared memory" +
           (launch.cluster > 1 ? ", clusters of " + std::to_string(launch.cluster) : "") +
           (launch.cooperative ? ", cooperative)" : ")");
}

}  // namespace

std::size_t CudaDevice::gemm_workspace_bytes() const noexcept {
    return caps_.compute_major >= 9 ? kHopperWorkspace : kEarlierWorkspace;
}

// Loads a kernel at its first launch, and raises its limit of dynamic shared memory, which is 48 KiB
// unless asked, to the most that a launch of it has wanted.
void CudaDevice::prepare_kernel(const Launch& launch) {
    const std::lock_guard lock(kernels_mutex_);
    auto found = allowed_.find(launch.function);
    const int shared = static_cast<int>(launch.shared_bytes);
    // More than 8 blocks per cluster are not portable between devices and have to be asked for.
    const bool wide = launch.cluster > 8;
    if (found != allowed_.end() && found->second.shared_bytes >= shared &&
        (found->second.wide_clusters || !wide)) {
        return;
    }
    const RelaxedCapture relaxed;
    if (found == allowed_.end()) {
        cudaFuncAttributes attributes{};
        health_.check(cudaFuncGetAttributes(&attributes, launch.function), "cudaFuncGetAttributes",
                      launch.kernel);
        found =
            allowed_.emplace(launch.function, Allowed{attributes.maxDynamicSharedSizeBytes, false})
                .first;
    }
    const auto allow = [&](cudaFuncAttribute attribute, int value) {
        health_.check(cudaFuncSetAttribute(launch.function, attribute, value),
                      "cudaFuncSetAttribute", geometry_text(launch).c_str());
    };
    if (found->second.shared_bytes < shared) {
        allow(cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
        found->second.shared_bytes = shared;
    }
    if (wide && !found->second.wide_clusters) {
        allow(cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
        found->second.wide_clusters = true;
    }
}

void CudaDevice::launch(Queue queue, const Launch& launch) {
    const Call call(*this, stream_of(queue));
    enqueue(stream_of(queue), launch);
}

// Within a Call.
void CudaDevice::enqueue(cudaStream_t stream, const Launch& launch) {
    const ProfilerRange range(launch.kernel);
    prepare_kernel(launch);
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config{};
    config.gridDim = {launch.grid.x, launch.grid.y, launch.grid.z};
    config.blockDim = {launch.block.x, launch.block.y, launch.block.z};
    config.dynamicSmemBytes = launch.shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    if (launch.cluster > 1) {
        cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = launch.cluster;
        attribute.val.clusterDim.y = 1;
        attribute.val.clusterDim.z = 1;
    }
    if (launch.cooperative) {
        cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
        attribute.id = cudaLaunchAttributeCooperative;
        attribute.val.cooperative = 1;
    }
    // The runtime copies the one argument during the call.
    void* arguments[] = {const_cast<std::byte*>(launch.args)};
    const cudaError_t error = cudaLaunchKernelExC(&config, launch.function, arguments);
    if (error != cudaSuccess) {
        health_.check(error, "cudaLaunchKernelExC", geometry_text(launch).c_str());
    }
}

void CudaDevice::gemm(Queue queue, const GemmArgs& args) {
    const Call call(*this, stream_of(queue));
    const ProfilerRange range("gemm");
    gemm_->run(stream_of(queue), args,
               [&](const GemmArgs& product) { add_bias(stream_of(queue), product); });
}

// Columns of C are the kernel's rows. As few launches as the strides allow.
void CudaDevice::add_bias(cudaStream_t stream, const GemmArgs& g) {
    RowBiasArgs rows{g.out_dtype, g.c, g.n, g.m, g.ldc, g.bias};
    std::int64_t launches = 1;
    if (g.batch > 1 && g.stride_c == g.n * g.ldc) {
        rows.rows = g.n * g.batch;
    } else if (g.batch > 1 && g.n == 1) {
        rows.rows = g.batch;
        rows.ld = g.stride_c;
    } else {
        launches = g.batch;
    }
    const auto step =
        static_cast<std::size_t>(g.stride_c) * static_cast<std::size_t>(dtype_bytes(g.out_dtype));
    for (std::int64_t i = 0; i < launches; ++i) {
        rows.x = static_cast<std::byte*>(g.c) + static_cast<std::size_t>(i) * step;
        enqueue(stream, kernels().nn->add_bias(rows));
    }
}

void CudaDevice::copy(Queue queue, void* to, const void* from, std::size_t bytes) {
    if (bytes == 0) return;
    const Call call(*this, stream_of(queue));
    health_.check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(queue)),
                  "cudaMemcpyAsync");
}

void CudaDevice::copy_2d(Queue queue, void* to, std::size_t to_pitch, const void* from,
                         std::size_t from_pitch, std::size_t row_bytes, std::size_t rows) {
    if (row_bytes == 0 || rows == 0) return;
    if (row_bytes == to_pitch && row_bytes == from_pitch) {
        copy(queue, to, from, row_bytes * rows);
        return;
    }
    const Call call(*this, stream_of(queue));
    health_.check(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, row_bytes, rows,
                                    cudaMemcpyDefault, stream_of(queue)),
                  "cudaMemcpy2DAsync");
}

void CudaDevice::zero(Queue queue, void* to, std::size_t bytes) {
    if (bytes == 0) return;
    const Call call(*this, stream_of(queue));
    health_.check(cudaMemsetAsync(to, 0, bytes, stream_of(queue)), "cudaMemsetAsync");
}

}  // namespace carousel::cuda
