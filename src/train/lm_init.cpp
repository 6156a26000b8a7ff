#include <cmath>
#include <vector>

#include "kernels/cell/gates.hpp"
#include "src/train/lm_model.hpp"
#include "src/train/random.hpp"

namespace carousel::train {

namespace {

/// How one parameter is drawn.
struct Draw {
    bool normal = false;
    double range = 0.0;
};

Draw draw_of(const LmConfig& config, const ParameterInfo& info) {
    if (config.init.kind == InitOptions::Kind::kUniform) return {false, config.init.range};
    if (info.name == "embedding.weight") return {true, 1.0};
    // torch.nn.RNNBase and torch.nn.Linear: 1/sqrt of what a unit sums over.
    return {false, 1.0 / std::sqrt(static_cast<double>(config.hidden_size))};
}

template <class T>
void fill(const LmConfig& config, std::size_t index, const Draw& draw, std::int64_t numel,
          T* value) {
    const auto b = static_cast<std::uint32_t>(index);
    for (std::int64_t e = 0; e < numel; ++e) {
        const auto a = static_cast<std::uint64_t>(e);
        const double number =
            draw.normal
                ? random_normal(config.seed, RandomStream::kInit, a, b)
                : draw.range * (2.0 * random_uniform(config.seed, RandomStream::kInit, a, b) - 1.0);
        value[e] = static_cast<T>(number);
    }
}

/// PyTorch's LSTM has two biases per gate; the forget gate's total becomes `bias`.
template <class T>
void set_forget_bias(const LmConfig& config, const ParameterInfo& info, T* value) {
    const bool input_side = info.name.find(".bias_ih_l") != std::string::npos;
    const bool state_side = info.name.find(".bias_hh_l") != std::string::npos;
    if (!input_side && !state_side) return;
    for (std::int64_t j = 0; j < config.hidden_size; ++j) {
        value[cell::kLstmF * config.hidden_size + j] =
            input_side ? static_cast<T>(config.forget_bias) : T(0);
    }
}

/// Draws masters of type T on the host; values follow from them.
template <class T>
void initialize_as(const LmConfig& config, ParameterSet& params) {
    std::vector<T> value;
    for (std::size_t i = 0; i < params.infos().size(); ++i) {
        const ParameterInfo& info = params.infos()[i];
        value.resize(static_cast<std::size_t>(info.numel));
        fill(config, i, draw_of(config, info), info.numel, value.data());
        if (config.cell == Cell::kLstm && config.forget_bias >= 0.0) {
            set_forget_bias(config, info, value.data());
        }
        copy_to_device(params.master(i).data, value.data(), value.size() * sizeof(T),
                       config.device);
    }
    params.values_from_masters();
}

}  // namespace

void LmModel::initialize() {
    if (config_.dtype == DType::kF64) {
        initialize_as<double>(config_, params_);
    } else {
        initialize_as<float>(config_, params_);
    }
}

}  // namespace carousel::train
