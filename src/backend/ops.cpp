#include "src/backend/ops.hpp"

#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/cpu/ops_cpu.hpp"
#include "src/backend/cuda/ops_cuda.hpp"

namespace carousel {

std::shared_ptr<Ops> Ops::make(DType dtype, Device device, std::shared_ptr<ThreadPool> pool) {
    if (device.type == DeviceType::kCuda) {
        return std::make_shared<cuda::CudaOps>(dtype, cuda::device_api(device.index));
    }
    if (!pool) pool = std::make_shared<ThreadPool>();
    switch (dtype) {
        case DType::kF32:
            return std::make_shared<cpu::CpuOps<float>>(device, std::move(pool));
        case DType::kF64:
            return std::make_shared<cpu::CpuOps<double>>(device, std::move(pool));
        default:
            throw Error(ErrorCode::kUnsupported,
                        std::string("the training layer computes in f32 or "
                                    "f64 on the CPU, not in ") +
                            dtype_name(dtype) + "; use dtype f32");
    }
}

}  // namespace carousel
