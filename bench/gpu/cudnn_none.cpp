#include "bench/gpu/cudnn_side.hpp"
#include "carousel/error.hpp"

// Stands in for cudnn_side.cpp where cuDNN's headers were not found when the build was configured.

namespace carousel::bench {

std::string cudnn_reason() { return "this build was configured without cuDNN's headers"; }
std::string cudnn_version() { return "absent"; }

void limit_cudnn_compiling(double) {}

std::unique_ptr<Side> make_cudnn_side(const Problem&, Arena&, std::shared_ptr<cuda::DeviceApi>,
                                      const CudnnOptions&) {
    throw Error(ErrorCode::kUnsupported, cudnn_reason());
}

}  // namespace carousel::bench
