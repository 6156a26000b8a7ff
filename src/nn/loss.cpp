#include "carousel/loss.hpp"

#include <cmath>

#include "carousel/error.hpp"
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
    record_ = Buffer(sizeof(LossRecord), context.device(), "sum of losses");
    const LossRecord empty;
    context_.ops().upload(record_.data(), &empty, sizeof empty);
}

void SoftmaxCrossEntropy::check_rows(std::int64_t n) const {
    if (n <= max_rows_) return;
    throw Error(ErrorCode::kInvalidArgument,
                std::to_string(n) + " rows of logits; this loss was made for at most " +
                    std::to_string(max_rows_));
}

void SoftmaxCrossEntropy::launch(const void* logits, const void* bias,
                                 const std::int32_t* device_targets, std::int64_t n, double scale,
                                 void* dlogits, bool accumulate) {
    SoftmaxXentArgs args;
    args.logits = logits;
    args.bias = bias;
    args.targets = device_targets;
    args.rows = n;
    args.classes = num_classes_;
    args.scale = scale;
    args.loss_scale = scaler_ != nullptr ? scaler_->state() : nullptr;
    args.dlogits = dlogits;
    args.row_losses = row_losses_.as<double>();
    context_.ops().softmax_xent(args);
    LossSumArgs sum;
    sum.row_losses = args.row_losses;
    sum.targets = device_targets;
    sum.rows = n;
    sum.classes = num_classes_;
    sum.record = record_.as<LossRecord>();
    sum.accumulate = accumulate;
    context_.ops().sum_losses(sum);
}

SoftmaxCrossEntropy::Result SoftmaxCrossEntropy::run(const void* logits, const void* bias,
                                                     const std::int32_t* targets, std::int64_t n,
                                                     double scale, void* dlogits) {
    check_rows(n);
    nn::check_given("n", n, {{"logits", logits}, {"targets", targets}});
    nn::check_ids("targets", targets, n, num_classes_, kIgnoreTarget);
    const std::int32_t* device_targets = targets;
    if (context_.device().type != DeviceType::kCpu) {
        if (!staged_) staged_ = std::make_unique<IdBuffer>(context_, max_rows_);
        staged_->upload(targets, n);
        device_targets = staged_->data();
    }
    launch(logits, bias, device_targets, n, scale, dlogits, false);
    return finish_read(begin_read());
}

void SoftmaxCrossEntropy::enqueue(const void* logits, const void* bias, const IdBuffer& targets,
                                  std::int64_t n, double scale, void* dlogits, bool accumulate) {
    check_rows(n);
    nn::check_given("n", n, {{"logits", logits}});
    if (context_.device().type == DeviceType::kCpu) {
        nn::check_ids("targets", targets.data(), n, num_classes_, kIgnoreTarget);
    }
    launch(logits, bias, targets.data(), n, scale, dlogits, accumulate);
}

SoftmaxCrossEntropy::Ticket SoftmaxCrossEntropy::begin_read() {
    return context_.ops().read_back(record_.data(), sizeof(LossRecord));
}

SoftmaxCrossEntropy::Result SoftmaxCrossEntropy::finish_read(Ticket ticket) {
    LossRecord record;
    context_.ops().collect(ticket, &record);
    if (record.status != 0) {
        context_.ops().clear_status();
        throw Error(ErrorCode::kInvalidArgument, nn::status_text(record.status));
    }
    return {record.loss_sum, record.count};
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
