#pragma once

#include <cudnn.h>

#include <memory>
#include <string>

// cuDNN, opened at run time: a benchmark that has none reports it as absent and runs the rest.

namespace carousel::bench {

#define CAROUSEL_CUDNN_FUNCTIONS(use)                                                              \
    use(GetVersion) use(GetErrorString) use(GetLastErrorString) use(Create) use(Destroy)           \
        use(SetStream) use(CreateRNNDescriptor) use(DestroyRNNDescriptor) use(SetRNNDescriptor_v8) \
            use(CreateRNNDataDescriptor) use(DestroyRNNDataDescriptor) use(SetRNNDataDescriptor)   \
                use(CreateTensorDescriptor) use(DestroyTensorDescriptor)                           \
                    use(SetTensorNdDescriptor) use(GetTensorNdDescriptor)                          \
                        use(CreateDropoutDescriptor) use(DestroyDropoutDescriptor)                 \
                            use(SetDropoutDescriptor) use(DropoutGetStatesSize) use(RNNSetClip_v9) \
                                use(BuildRNNDynamic) use(GetRNNTempSpaceSizes)                     \
                                    use(GetRNNWeightSpaceSize) use(GetRNNWeightParams)             \
                                        use(RNNForward) use(RNNBackwardData_v8)                    \
                                            use(RNNBackwardWeights_v8)

/// The functions in use, with the types that the header gives them.
struct Cudnn {
#define CAROUSEL_CUDNN_MEMBER(name) decltype(&cudnn##name) name = nullptr;
    CAROUSEL_CUDNN_FUNCTIONS(CAROUSEL_CUDNN_MEMBER)
#undef CAROUSEL_CUDNN_MEMBER
};

/// Only after cudnn_reason() is empty.
const Cudnn& cudnn();

/// Errors: Unsupported where cuDNN says so or calls a parameter bad, else Cuda; cuDNN's words.
void check_cudnn(cudnnStatus_t status, const char* call);

/// Owner of a descriptor or handle.
template <class T, auto kCreate, auto kDestroy>
class CudnnOwner {
public:
    CudnnOwner() { check_cudnn((cudnn().*kCreate)(&value_), "cudnnCreate"); }
    ~CudnnOwner() {
        if (value_ != nullptr) (cudnn().*kDestroy)(value_);
    }
    CudnnOwner(const CudnnOwner&) = delete;
    CudnnOwner& operator=(const CudnnOwner&) = delete;
    T get() const noexcept { return value_; }

private:
    T value_ = nullptr;
};
using CudnnHandle = CudnnOwner<cudnnHandle_t, &Cudnn::Create, &Cudnn::Destroy>;
using RnnDescriptor =
    CudnnOwner<cudnnRNNDescriptor_t, &Cudnn::CreateRNNDescriptor, &Cudnn::DestroyRNNDescriptor>;
using RnnDataDescriptor = CudnnOwner<cudnnRNNDataDescriptor_t, &Cudnn::CreateRNNDataDescriptor,
                                     &Cudnn::DestroyRNNDataDescriptor>;
using TensorDescriptor = CudnnOwner<cudnnTensorDescriptor_t, &Cudnn::CreateTensorDescriptor,
                                    &Cudnn::DestroyTensorDescriptor>;
using DropoutDescriptor = CudnnOwner<cudnnDropoutDescriptor_t, &Cudnn::CreateDropoutDescriptor,
                                     &Cudnn::DestroyDropoutDescriptor>;

}  // namespace carousel::bench
