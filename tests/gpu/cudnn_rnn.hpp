#pragma once

#if defined(CAROUSEL_HAS_CUDNN_HEADERS)

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <memory>
#include <string>
#include <vector>

#include "carousel/tensor.hpp"
#include "tests/gpu/loaded_library.hpp"
#include "tests/support/rnn_run.hpp"

namespace carousel::test {

/// cuDNN's functions, found in libcudnn at run time.
struct Cudnn {
    Cudnn();

    LoadedLibrary loaded;
    decltype(cudnnCreate)* create = nullptr;
    decltype(cudnnDestroy)* destroy = nullptr;
    decltype(cudnnGetVersion)* version = nullptr;
    decltype(cudnnGetErrorString)* error_string = nullptr;
    decltype(cudnnCreateRNNDescriptor)* create_rnn = nullptr;
    decltype(cudnnDestroyRNNDescriptor)* destroy_rnn = nullptr;
    decltype(cudnnSetRNNDescriptor_v8)* set_rnn = nullptr;
    decltype(cudnnCreateRNNDataDescriptor)* create_data = nullptr;
    decltype(cudnnDestroyRNNDataDescriptor)* destroy_data = nullptr;
    decltype(cudnnSetRNNDataDescriptor)* set_data = nullptr;
    decltype(cudnnCreateTensorDescriptor)* create_tensor = nullptr;
    decltype(cudnnDestroyTensorDescriptor)* destroy_tensor = nullptr;
    decltype(cudnnSetTensorNdDescriptor)* set_tensor = nullptr;
    decltype(cudnnGetTensorNdDescriptor)* get_tensor = nullptr;
    decltype(cudnnCreateDropoutDescriptor)* create_dropout = nullptr;
    decltype(cudnnDestroyDropoutDescriptor)* destroy_dropout = nullptr;
    decltype(cudnnSetDropoutDescriptor)* set_dropout = nullptr;
    decltype(cudnnDropoutGetStatesSize)* dropout_size = nullptr;
    decltype(cudnnGetRNNWeightSpaceSize)* weight_size = nullptr;
    decltype(cudnnGetRNNTempSpaceSizes)* temp_sizes = nullptr;
    decltype(cudnnGetRNNWeightParams)* weight_params = nullptr;
    decltype(cudnnRNNForward)* forward = nullptr;
    decltype(cudnnRNNBackwardData_v8)* backward_data = nullptr;
    decltype(cudnnRNNBackwardWeights_v8)* backward_weights = nullptr;
};

/// One case on cuDNN, in f32 with FMA arithmetic; weights and gradients are addressed one gate's matrix
/// at a time through cudnnGetRNNWeightParams, so that a wrong idea of the gates' order shows. Throws
/// std::runtime_error naming the call that cuDNN refused.
class CudnnRnn {
public:
    CudnnRnn(const Cudnn& cudnn, const ShapeLine& line, const RnnData& data);
    ~CudnnRnn();
    CudnnRnn(const CudnnRnn&) = delete;
    CudnnRnn& operator=(const CudnnRnn&) = delete;

    /// y, hy, cy, dx, dhx, dcx and the gradients of weights, under the names of RnnRun.
    NamedTensors training_and_backward();

private:
    /// A gate's matrix and bias inside the weight space, as elements from its start.
    struct Place {
        std::size_t offset = 0;
        std::int64_t rows = 0, columns = 0;
    };
    void describe();
    void check(cudnnStatus_t status, const char* call) const;
    /// Place of linLayerID `id` (input matrices first, then recurrent ones) of a state.
    Place place(std::int64_t state, int id, bool bias) const;
    /// Calls visit(place, tensor, first row) for every gate's part of every weight tensor.
    template <class Tensors, class Visit>
    void for_each_gate(Tensors& states, const Visit& visit) const;
    Buffer upload(const std::vector<double>& values, std::int64_t count) const;
    Buffer zeros(std::int64_t count) const;
    void upload_weights();
    void read_gradients(NamedTensors& results) const;

    const Cudnn& cudnn_;
    ShapeLine line_;
    const RnnData& data_;
    cudnnHandle_t handle_ = nullptr;
    cudnnRNNDescriptor_t rnn_ = nullptr;
    cudnnDropoutDescriptor_t dropout_ = nullptr;
    cudnnRNNDataDescriptor_t x_ = nullptr, y_ = nullptr;
    cudnnTensorDescriptor_t h_ = nullptr;
    Buffer weights_, dweights_, workspace_, reserve_, lengths_, dropout_states_;
};

}  // namespace carousel::test

#endif
