#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "carousel/rnn_spec.hpp"
#include "carousel/tensor.hpp"

namespace carousel {

/// Weights of one (layer, direction), under PyTorch's names; contiguous, row-major.
///   w_ih [G*H, I_layer]   w_hh [G*H, O]   b_ih [G*H]   b_hh [G*H]   w_hr [P, H]
/// Tensors that the spec does not have (b_hh with bias single, …) must stay undefined.
struct RnnLayerParams {
    ConstTensorView w_ih, w_hh, b_ih, b_hh, w_hr;
};

/// Weights of a whole stack, indexed by layer * D + direction. A view; owns no weights.
struct RnnParams {
    std::vector<RnnLayerParams> layers;
};

/// Where gradients of one (layer, direction) go; shapes as RnnLayerParams. An undefined tensor is
/// not computed.
struct RnnLayerGrads {
    TensorView dw_ih, dw_hh, db_ih, db_hh, dw_hr;
};
struct RnnGrads {
    std::vector<RnnLayerGrads> layers;
};

/// One tensor of the flat parameter layout.
struct RnnParamInfo {
    std::string name;  ///< "weight_ih_l0", "bias_hh_l1_reverse", … (PyTorch's names)
    std::int64_t shape[2] = {0, 0};  ///< biases: {G*H, 0}
    int ndim = 0;
    std::int64_t offset = 0;  ///< in elements, into one flat buffer without gaps
    std::int64_t numel = 0;
};

/// All tensors of a spec in PyTorch's state-dict order (per layer and direction: weight_ih,
/// weight_hh, bias_ih, bias_hh, weight_hr).
CAROUSEL_API std::vector<RnnParamInfo> param_layout(const RnnSpec& spec);
/// Total number of elements of that layout.
CAROUSEL_API std::int64_t param_count(const RnnSpec& spec);
/// Views into one flat buffer of param_count(spec) elements laid out by param_layout.
CAROUSEL_API RnnParams params_from_flat(const RnnSpec& spec, const void* flat, Device device = {});
CAROUSEL_API RnnGrads grads_from_flat(const RnnSpec& spec, void* flat, Device device = {});

/// An immutable copy of weights in the layout that the kernels of one device read. Made once, shared
/// by any plans with the same spec (dropout and training mode may differ) on the same device. It
/// does not follow later changes of the weights: make it again after every change.
class CAROUSEL_API PackedWeights {
public:
    struct Impl;
    ~PackedWeights();
    PackedWeights(PackedWeights&&) noexcept;
    PackedWeights& operator=(PackedWeights&&) noexcept;

    /// `for_backward` false leaves out what only backward reads (about half of the memory).
    /// Errors: InvalidArgument naming the tensor; Unsupported; OutOfMemory.
    static PackedWeights make(const RnnSpec& spec, const RnnParams& params, Device device = {},
                              ThreadPool* pool = nullptr, bool for_backward = true);
    std::size_t bytes() const noexcept;
    const Impl& impl() const noexcept { return *impl_; }

private:
    explicit PackedWeights(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace carousel
