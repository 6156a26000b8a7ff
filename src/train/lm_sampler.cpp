#include "src/train/lm_sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "carousel/error.hpp"
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

}  // namespace

LmSampler::LmSampler(LmModel& model)
    : step_(model, on_cpu(model.config())),
      logits_f64_(static_cast<std::size_t>(model.config().vocab_size)) {}

const double* LmSampler::next(std::int32_t token) {
    if (token < 0 || token >= vocab_size()) {
        throw Error(ErrorCode::kInvalidArgument, "token " + std::to_string(token) +
                                                     " is outside the vocabulary of " +
                                                     std::to_string(vocab_size()));
    }
    step_.feed(&token);
    step_.score();
    const auto widen = [&](const auto* logits) {
        std::copy_n(logits, logits_f64_.size(), logits_f64_.begin());
    };
    if (step_.config().dtype == DType::kF64) {
        widen(static_cast<const double*>(step_.logits()));
    } else {
        widen(static_cast<const float*>(step_.logits()));
    }
    return logits_f64_.data();
}

std::int32_t LmSampler::sample(std::int32_t token, TokenDraw& draw, double uniform) {
    return draw(next(token), vocab_size(), uniform);
}

}  // namespace carousel::train
