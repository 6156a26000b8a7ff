#pragma once

#include <cstdint>
#include <string>

#include "carousel/export.hpp"
#include "carousel/tensor.hpp"

namespace carousel {

/// The recurrent cells. With s = logistic sigmoid, (.) = elementwise product, h' the new state:
///   kRnnTanh         h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
///   kRnnRelu         h' = max(0, W_ih x + b_ih + W_hh h + b_hh)
///   kLstm            i,f,o = s(.), g = tanh(.);  c' = f(.)c + i(.)g;  h' = o(.)tanh(c')
///   kGru             r,z = s(.);  n = tanh(W_in x + b_in + r(.)(W_hn h + b_hn))     (reset-after)
///   kGruResetBefore  r,z = s(.);  n = tanh(W_in x + b_in + W_hn (r(.)h) + b_hn)
///                    both GRUs: h' = (1-z)(.)n + z(.)h
/// Gate order in the weights: LSTM i,f,g,o; GRU r,z,n (as torch.nn).
enum class Cell : int { kRnnTanh = 0, kRnnRelu = 1, kLstm = 2, kGru = 3, kGruResetBefore = 4 };

/// kSingle has b_ih only; kDouble has b_ih and b_hh.
enum class BiasMode : int { kNone = 0, kSingle = 1, kDouble = 2 };

CAROUSEL_API const char* cell_name(
    Cell cell) noexcept;  ///< "rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"
CAROUSEL_API Cell cell_parse(const std::string& text);  ///< InvalidArgument if unknown
CAROUSEL_API int cell_num_gates(Cell cell) noexcept;    ///< G: LSTM 4, GRU 3, vanilla 1
CAROUSEL_API bool cell_has_c(Cell cell) noexcept;       ///< true for LSTM

/// What to compute: a stack of recurrent layers. A plain value; nothing here depends on a device,
/// a sequence length or a batch size.
struct RnnSpec {
    Cell cell = Cell::kLstm;
    DType dtype = DType::kF32;     ///< of every floating-point tensor, and the arithmetic
    std::int64_t input_size = 0;   ///< I
    std::int64_t hidden_size = 0;  ///< H
    std::int64_t proj_size = 0;    ///< P, LSTM only; 0 = none; else 0 < P < H
    std::int64_t num_layers = 1;   ///< L
    bool bidirectional = false;    ///< D = 2, outputs of the directions concatenated
    BiasMode bias = BiasMode::kDouble;
    /// Probability of zeroing an output element of every layer but the last, in forward_training.
    double dropout = 0.0;

    std::int64_t num_directions() const noexcept { return bidirectional ? 2 : 1; }
    std::int64_t num_gates() const noexcept { return cell_num_gates(cell); }
    /// O: size of h and of one direction's output.
    std::int64_t output_size() const noexcept { return proj_size > 0 ? proj_size : hidden_size; }
    /// Input size of `layer`: I for layer 0, D*O above.
    std::int64_t layer_input_size(std::int64_t layer) const noexcept {
        return layer == 0 ? input_size : num_directions() * output_size();
    }
    /// Number of (layer, direction) pairs; state index = layer * D + direction.
    std::int64_t num_states() const noexcept { return num_layers * num_directions(); }
};

/// Checks every rule of a spec. InvalidArgument names the field, its value and the rule; Unsupported:
/// more than 65,536 layers.
CAROUSEL_API void validate(const RnnSpec& spec);

/// One line: "lstm f32 L2 D1 I512 H512 bias double".
CAROUSEL_API std::string to_string(const RnnSpec& spec);

}  // namespace carousel
