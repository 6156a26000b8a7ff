#include "carousel/loss.hpp"

#include <cmath>

#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"

namespace carousel {

SoftmaxCrossEntropy::SoftmaxCrossEntropy(const ModuleContext& context, std::int64_t num_classes,
                                         std::int64_t max_rows)
    : context_(context), num_classes_(num_classes), max_rows_(max_rows) {
    nn::check_positive("num_classes", num_classes);
    nn::check_positive("max_rows", max_rows);
    row_losses_ = Buffer(static_cast<std::size_t>(max_rows) * sizeof(double), context.device(),
                         "losses of one batch");
}

SoftmaxCrossEntropy::Result SoftmaxCrossEntropy::run(const void* logits, const void* bias,
                                                     const std::int32_t* targets, std::int64_t n,
                                                     double scale, void* dlogits) {
    if (n > max_rows_) {
        throw Error(ErrorCode::kInvalidArgument,
                    std::to_string(n) + " rows of logits; this loss was made for at most " +
                        std::to_string(max_rows_));
    }
    nn::check_ids("targets", targets, n, num_classes_, kIgnoreTarget);
    SoftmaxXentArgs args;
    args.logits = logits;
    args.bias = bias;
    args.targets = targets;
    args.rows = n;
    args.classes = num_classes_;
    args.scale = scale;
    args.dlogits = dlogits;
    args.row_losses = row_losses_.as<double>();
    context_.ops().softmax_xent(args);
    Result result;
    for (std::int64_t r = 0; r < n; ++r) {
        result.loss_sum += args.row_losses[r];
        result.count += targets[r] >= 0 ? 1 : 0;
    }
    return result;
}

std::int64_t SoftmaxCrossEntropy::count_unmasked(const std::int32_t* targets,
                                                 std::int64_t n) noexcept {
    std::int64_t count = 0;
    for (std::int64_t r = 0; r < n; ++r) count += targets[r] >= 0 ? 1 : 0;
    return count;
}

double perplexity(double mean_loss_nats) noexcept { return std::exp(mean_loss_nats); }

double bits_per_char(double mean_loss_nats) noexcept { return mean_loss_nats / std::log(2.0); }

double perplexity_per_word(double total_nats, std::int64_t num_words) noexcept {
    return std::exp(total_nats / static_cast<double>(num_words));
}

}  // namespace carousel
