#pragma once

#include <memory>
#include <string>
#include <vector>

#include "carousel/rnn_params.hpp"
#include "carousel/tensor.hpp"
#include "src/io/safetensors.hpp"

namespace carousel::io {

/// The weights of a recurrent stack, read from a file.
struct RnnWeights {
    RnnSpec spec;        ///< all but dropout inferred from names and shapes
    std::string prefix;  ///< what stood before "weight_ih_l0", e.g. "rnn."
    Buffer flat;         ///< laid out by param_layout(spec), in spec.dtype
    RnnParams params() const { return params_from_flat(spec, flat.data()); }
    /// Tensors of the file that belong to other modules, in order of name.
    std::vector<std::string> others;
};

/// Finds the stack of a PyTorch state dict in a file and infers its spec:
///   layers, directions  from the names (weight_ih_l<layer>[_reverse])
///   H, I, P             from the shapes of weight_hh_l0, weight_ih_l0, weight_hr_l0
///   bias                none, single (bias_ih alone) or double
///
/// In       prefix   "" = the only one that occurs; else the one wanted. A tensor whose name goes
///                   on after the prefix without a further dot belongs to the stack and must be
///                   known; others belong to other modules and are left alone.
///          dtype    the tensors are converted to it.
/// Errors   Io: no stack, or several (they are named); a tensor is missing, unknown or misshapen;
///          names file and tensor, with the shape expected.
RnnWeights load_rnn_weights(const SafetensorsFile& file, Cell cell, DType dtype,
                            const std::string& prefix = "");

}  // namespace carousel::io
