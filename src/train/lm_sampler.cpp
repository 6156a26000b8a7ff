#include "src/train/lm_sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"
#include "src/train/parse.hpp"
#include "src/util/dtypes.hpp"

namespace carousel::train {

void validate(const SampleOptions& options) {
    const auto require = [](bool rule, const std::string& sentence) {
        if (!rule) throw Error(ErrorCode::kInvalidArgument, sentence);
    };
    require(options.temperature >= 0.0 && std::isfinite(options.temperature),
            "the temperature is " + number_text(options.temperature) +
                "; it must be 0 (always the most probable) or more");
    require(options.top_k >= 0, "top-k is " + std::to_string(options.top_k) +
                                    "; it must be at least 1, or 0 for all tokens");
    require(options.top_p > 0.0 && options.top_p <= 1.0,
            "top-p is " + number_text(options.top_p) + "; it must lie in (0, 1]");
}

TokenDraw::TokenDraw(const SampleOptions& options) : options_(options) { validate(options); }

std::int32_t TokenDraw::operator()(const double* logits, std::int64_t vocab_size, double uniform) {
    const double* largest = std::max_element(logits, logits + vocab_size);
    const auto argmax = static_cast<std::int32_t>(largest - logits);
    if (options_.temperature == 0.0) return argmax;
    probabilities_.resize(static_cast<std::size_t>(vocab_size));
    for (std::int64_t j = 0; j < vocab_size; ++j) {
        probabilities_[static_cast<std::size_t>(j)] =
            std::exp((logits[j] - *largest) / options_.temperature);
    }
    order_.resize(probabilities_.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::size_t kept = order_.size();
    if (options_.top_k > 0 || options_.top_p < 1.0) {
        std::sort(order_.begin(), order_.end(), [&](std::int32_t a, std::int32_t b) {
            const double pa = probabilities_[static_cast<std::size_t>(a)];
            const double pb = probabilities_[static_cast<std::size_t>(b)];
            return pa != pb ? pa > pb : a < b;
        });
        if (options_.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options_.top_k));
    }
    double total = 0.0;
    for (std::size_t i = 0; i < kept; ++i) {
        total += probabilities_[static_cast<std::size_t>(order_[i])];
    }
    if (options_.top_p < 1.0) {
        // Of the tokens that top-k left, the fewest whose share reaches p.
        double sum = 0.0;
        for (std::size_t i = 0; i < kept; ++i) {
            sum += probabilities_[static_cast<std::size_t>(order_[i])];
            if (sum >= options_.top_p * total) {
                kept = i + 1;
                total = sum;
                break;
            }
        }
    }
    double rest = uniform * total;
    for (std::size_t i = 0; i < kept; ++i) {
        rest -= probabilities_[static_cast<std::size_t>(order_[i])];
        if (rest < 0.0) return order_[i];
    }
    return order_[kept - 1];
}

namespace {

LmConfig on_cpu(LmConfig config) {
    config.device = Device::cpu();
    config.dtype = accumulator_dtype(config.dtype);
    return config;
}

/// `count` numbers on the CPU, from the master of a parameter and what lies behind it.
Buffer copy_of(const ParameterSet& params, const char* name, std::int64_t count) {
    const TensorView view = params.master(params.find(name));
    Buffer buffer(static_cast<std::size_t>(count) * dtype_bytes(view.dtype), Device::cpu(),
                  "weights of the sampler");
    copy_to_host(buffer.data(), view.data, buffer.bytes(), view.device);
    return buffer;
}

RnnPlan sampling_plan(const LmConfig& config, const ModuleContext& context) {
    RnnPlanOptions options;
    options.seq_len = 1;
    options.batch_size = 1;
    options.training = false;
    options.device = context.device();
    options.pool = context.pool();
    RnnSpec spec = config.rnn_spec();
    spec.dropout = 0.0;
    return RnnPlan::create(spec, options);
}

}  // namespace

LmSampler::LmSampler(LmModel& model)
    : config_(on_cpu(model.config())),
      context_(config_.dtype, config_.device, model.params().context().pool()),
      plan_(sampling_plan(config_, context_)),
      state_(config_, 1) {
    const ParameterSet& params = model.params();
    const Device device = context_.device();
    const std::size_t element = dtype_bytes(config_.dtype);
    if (config_.embedding_size > 0) {
        embedding_ =
            copy_of(params, "embedding.weight", config_.vocab_size * config_.embedding_size);
    }
    weight_ = copy_of(params, "output.weight", config_.vocab_size * config_.hidden_size);
    bias_ = copy_of(params, "output.bias", config_.vocab_size);
    // Tensors of a stack lie without gaps.
    const Buffer stack = copy_of(params, "rnn.weight_ih_l0", param_count(plan_.spec()));
    const RnnParams rnn = params_from_flat(plan_.spec(), stack.data(), device);
    packed_ = std::make_unique<PackedWeights>(
        PackedWeights::make(plan_.spec(), rnn, device, context_.pool().get()));
    workspace_ = Buffer(plan_.workspace_bytes(), device, "workspace of the sampler");
    const auto input = config_.input_size(), hidden = config_.hidden_size;
    x_ = Buffer(static_cast<std::size_t>(input) * element, device, "input of one step");
    x_.zero();
    y_ = Buffer(static_cast<std::size_t>(hidden) * element, device, "output of one step");
    logits_ = Buffer(static_cast<std::size_t>(config_.vocab_size) * element, device, "logits");
    logits_f64_.resize(static_cast<std::size_t>(config_.vocab_size));

    const DType dtype = config_.dtype;
    const std::int64_t layers = config_.num_layers;
    args_.seq_len = 1;
    args_.batch_size = 1;
    args_.x = TensorView(x_.data(), dtype, {1, 1, input}, device);
    args_.y = TensorView(y_.data(), dtype, {1, 1, hidden}, device);
    args_.hy = TensorView(state_.h.data(), dtype, {layers, 1, hidden}, device);
    args_.hx = args_.hy;
    if (cell_has_c(config_.cell)) {
        args_.cy = TensorView(state_.c.data(), dtype, {layers, 1, hidden}, device);
        args_.cx = args_.cy;
    }
    args_.packed = packed_.get();
    args_.workspace = workspace_.data();
    args_.workspace_bytes = workspace_.bytes();
}

const double* LmSampler::next(std::int32_t token) {
    if (token < 0 || token >= config_.vocab_size) {
        throw Error(ErrorCode::kInvalidArgument, "token " + std::to_string(token) +
                                                     " is outside the vocabulary of " +
                                                     std::to_string(config_.vocab_size));
    }
    Ops& ops = context_.ops();
    if (config_.embedding_size > 0) {
        const GatherRowsArgs gather{embedding_.data(), config_.embedding_size, &token, 1,
                                    x_.data()};
        ops.gather_rows(gather);
    } else {
        if (one_ >= 0) ops.set_one_hot(x_.data(), config_.vocab_size, &one_, 1, 0.0);
        one_ = token;
        ops.set_one_hot(x_.data(), config_.vocab_size, &one_, 1, 1.0);
    }
    forward_inference(plan_, args_);
    MatVecArgs output;
    output.weight = weight_.data();
    output.rows = config_.vocab_size;
    output.cols = config_.hidden_size;
    output.x = y_.data();
    output.bias = bias_.data();
    output.y = logits_.data();
    ops.matvec(output);
    for (std::size_t j = 0; j < logits_f64_.size(); ++j) {
        logits_f64_[j] = config_.dtype == DType::kF64 ? logits_.as<double>()[j]
                                                      : static_cast<double>(logits_.as<float>()[j]);
    }
    return logits_f64_.data();
}

std::int32_t LmSampler::sample(std::int32_t token, TokenDraw& draw, double uniform) {
    return draw(next(token), config_.vocab_size, uniform);
}

void LmSampler::reset() { state_.zero(); }

}  // namespace carousel::train
