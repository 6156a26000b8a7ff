#pragma once

#include <cstdint>
#include <memory>

#include "bench/gpu/cudnn_library.hpp"
#include "bench/gpu/cudnn_options.hpp"
#include "carousel/rnn_spec.hpp"
#include "carousel/tensor.hpp"

namespace carousel::bench {

/// A network as cuDNN knows it, with what its descriptor refers to.
struct CudnnRnn {
    Buffer dropout_states;
    DropoutDescriptor dropout;
    RnnDescriptor rnn;
};

/// PERSIST_DYNAMIC is compiled for `batch_size`, which takes seconds: one that was made before in
/// this process is used again, as long as no other network is compiled. Errors: Unsupported: cuDNN
/// refuses it, with its words; Cuda.
std::shared_ptr<const CudnnRnn> cudnn_rnn(cudnnHandle_t handle, const RnnSpec& spec,
                                          std::int64_t batch_size, const CudnnOptions& options,
                                          const Device& device);

cudnnDataType_t cudnn_data_type(DType dtype);
/// Errors: Unsupported: `what` has more than 31 bits.
int cudnn_int(std::int64_t value, const char* what);

}  // namespace carousel::bench
