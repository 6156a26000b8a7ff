#pragma once

#include <cstdint>
#include <string>

#include "carousel/optimizer.hpp"
#include "carousel/rnn_spec.hpp"
#include "carousel/schedule.hpp"
#include "carousel/tbptt.hpp"

namespace carousel::train {

/// How weights start. kTorch: as torch.nn makes them: embedding N(0,1), recurrent layers
/// U(+-1/sqrt(H)), linear U(+-1/sqrt(in)). kUniform: every parameter U(+-range).
struct InitOptions {
    enum class Kind : int { kTorch = 0, kUniform = 1 };
    Kind kind = Kind::kTorch;
    double range = 0.0;
};
InitOptions init_parse(const std::string& text);  ///< "torch" or "uniform:RANGE"
std::string to_string(const InitOptions& options);

/// What the loss of one update is divided by. kTokens: the number of tokens, so the gradient does not
/// grow with the window. kStreams: the batch size, i.e. summed over time, averaged over the batch
/// (Zaremba et al. 2014).
enum class LossScale : int { kTokens = 0, kStreams = 1 };

/// A language model and how it is trained; a plain value.
struct LmConfig {
    Cell cell = Cell::kLstm;
    std::int64_t vocab_size = 0;
    std::int64_t embedding_size = 0;  ///< 0: one-hot input
    std::int64_t hidden_size = 128;
    std::int64_t num_layers = 2;
    double dropout = 0.0;  ///< on the output of every recurrent layer, the last one included
    DType dtype = DType::kF32;
    Device device{};
    int num_threads = 0;
    bool graphs = true;  ///< CUDA: replay a training step as one graph

    std::int64_t seq_len = 64;
    std::int64_t batch_size = 32;
    TbpttOptions tbptt{};  ///< as given; resolved against seq_len
    OptimizerOptions optimizer{};
    ScheduleOptions schedule{};
    double lr = 2e-3;
    double clip_norm = 0.0;  ///< 0 = none
    LossScale loss_scale = LossScale::kTokens;
    InitOptions init{};
    /// LSTM: the forget gate's bias at the start, all of it in b_ih (b_hh's part is 0). Ignored by
    /// other cells, and if negative (left as `init` made it).
    double forget_bias = 1.0;
    std::uint64_t seed = 1;

    RnnSpec rnn_spec() const;
    /// Input size of the first recurrent layer.
    std::int64_t input_size() const noexcept {
        return embedding_size > 0 ? embedding_size : vocab_size;
    }
};

/// Checks every rule that no part checks for itself; InvalidArgument names the field.
void validate(const LmConfig& config);

}  // namespace carousel::train
