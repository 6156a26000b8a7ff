#include "carousel/optimizer.hpp"

#include <cmath>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"

namespace carousel {

const char* optimizer_name(OptimizerKind kind) noexcept {
    switch (kind) {
        case OptimizerKind::kSgd:
            return "sgd";
        case OptimizerKind::kRmsprop:
            return "rmsprop";
        case OptimizerKind::kAdam:
            return "adam";
        case OptimizerKind::kAdamW:
            return "adamw";
    }
    return "?";
}

OptimizerKind optimizer_parse(const std::string& text) {
    for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kRmsprop,
                                     OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
        if (text == optimizer_name(kind)) return kind;
    }
    throw Error(ErrorCode::kInvalidArgument,
                "optimizer '" + text + "' is unknown; use sgd, rmsprop, adam or adamw");
}

namespace {

void check_range(const char* name, double value, double low, double high) {
    if (value >= low && value < high) return;
    throw Error(ErrorCode::kInvalidArgument,
                std::string("the optimizer's ") + name + " is " + nn::number_text(value) +
                    (high == HUGE_VAL ? "; it must be " + nn::number_text(low) + " or more"
                                      : "; it must lie in [" + nn::number_text(low) + ", " +
                                            nn::number_text(high) + ")"));
}

void check(const OptimizerOptions& options) {
    check_range("momentum", options.momentum, 0.0, 1.0);
    check_range("alpha", options.alpha, 0.0, 1.0);
    check_range("beta1", options.beta1, 0.0, 1.0);
    check_range("beta2", options.beta2, 0.0, 1.0);
    check_range("eps", options.eps, 0.0, HUGE_VAL);
    check_range("weight_decay", options.weight_decay, 0.0, HUGE_VAL);
    check_range("clip_value", options.clip_value, 0.0, HUGE_VAL);
}

UpdateRule rule_of(const OptimizerOptions& options) {
    const bool momentum = options.momentum > 0.0;
    switch (options.kind) {
        case OptimizerKind::kSgd:
            return momentum ? UpdateRule::kSgdMomentum : UpdateRule::kSgd;
        case OptimizerKind::kRmsprop:
            return momentum ? UpdateRule::kRmspropMomentum : UpdateRule::kRmsprop;
        case OptimizerKind::kAdam:
            return UpdateRule::kAdam;
        case OptimizerKind::kAdamW:
            return UpdateRule::kAdamW;
    }
    return UpdateRule::kSgd;
}

/// Names of the state buffers, as torch.optim has them.
std::vector<const char*> slot_names(UpdateRule rule) {
    switch (rule) {
        case UpdateRule::kSgd:
            return {};
        case UpdateRule::kSgdMomentum:
            return {"momentum_buffer"};
        case UpdateRule::kRmsprop:
            return {"square_avg"};
        case UpdateRule::kRmspropMomentum:
            return {"square_avg", "momentum_buffer"};
        case UpdateRule::kAdam:
        case UpdateRule::kAdamW:
            return {"exp_avg", "exp_avg_sq"};
    }
    return {};
}

}  // namespace

Optimizer::Optimizer(ParameterSet& params, GradClip& clip, const OptimizerOptions& options)
    : params_(&params), clip_(&clip), options_(options) {
    check(options);
    nn::check_allocated(params.flat_values());
    const std::size_t bytes = static_cast<std::size_t>(params.numel()) *
                              dtype_bytes(params.context().ops().state_dtype());
    for (std::size_t slot = 0; slot < slot_names(rule_of(options)).size(); ++slot) {
        slots_[slot] = Buffer(bytes, params.context().device(), "optimiser state");
        slots_[slot].zero();
    }
    lr_ = Buffer(sizeof(double), params.context().device(), "learning rate");
    set_lr(0.0);
}

void Optimizer::set_lr(double lr) {
    check_range("learning rate", lr, 0.0, HUGE_VAL);
    params_->context().ops().upload(lr_.data(), &lr, sizeof lr);
}

void Optimizer::step(double lr) {
    check_range("learning rate", lr, 0.0, HUGE_VAL);
    update(lr, nullptr);
}

void Optimizer::step() { update(0.0, lr_.as<double>()); }

void Optimizer::update(double lr, const double* device_lr) {
    Ops& ops = params_->context().ops();
    OptimizerStepArgs args;
    args.lr = device_lr;
    args.loss_scale = clip_->loss_scaler() != nullptr ? clip_->loss_scaler()->state() : nullptr;
    if (ops.has_working_copy()) args.working = params_->flat_values();
    args.numel = params_->numel();
    args.control = clip_->control();
    UpdateArgs& fields = args.update;
    fields.rule = rule_of(options_);
    fields.value = params_->flat_masters();
    fields.grad = params_->flat_grads();
    fields.slot0 = slots_[0].data();
    fields.slot1 = slots_[1].data();
    fields.lr = lr;
    fields.clip_value = options_.clip_value;
    fields.weight_decay = options_.weight_decay;
    fields.momentum = options_.momentum;
    fields.alpha = options_.alpha;
    fields.beta1 = options_.beta1;
    fields.beta2 = options_.beta2;
    fields.eps = options_.eps;
    const auto& touched = params_->touched_rows();
    if (fields.rule == UpdateRule::kSgd && options_.weight_decay == 0.0 && touched.size() == 1 &&
        ops.visits_rows()) {
        // A row without gradient does not move: only the touched ones are visited.
        const ParameterInfo& table = params_->infos()[touched.front().parameter];
        args.row_begin = table.offset;
        args.row_numel = table.numel;
        args.row_set.row_size = touched.front().row_size;
        args.row_set.rows = touched.front().rows.data();
        args.row_set.num_rows = static_cast<std::int64_t>(touched.front().rows.size());
    }
    ops.optimizer_step(args);
}

std::vector<Optimizer::StateTensor> Optimizer::state() const {
    std::vector<StateTensor> tensors;
    const std::size_t element = dtype_bytes(params_->context().ops().state_dtype());
    const std::vector<const char*> names = slot_names(rule_of(options_));
    for (std::size_t slot = 0; slot < names.size(); ++slot) {
        for (std::size_t i = 0; i < params_->infos().size(); ++i) {
            const ParameterInfo& info = params_->infos()[i];
            StateTensor tensor;
            tensor.name = std::string(names[slot]) + "." + info.name;
            tensor.shape = info.shape;
            tensor.view = params_->master(i);
            tensor.view.data =
                slots_[slot].as<std::byte>() + static_cast<std::size_t>(info.offset) * element;
            tensors.push_back(std::move(tensor));
        }
    }
    return tensors;
}

std::int64_t Optimizer::applied_steps() const { return clip_->applied_steps(); }

void Optimizer::set_applied_steps(std::int64_t steps) { clip_->set_applied_steps(steps); }

}  // namespace carousel
