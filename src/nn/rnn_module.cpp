#include <utility>

#include "carousel/error.hpp"
#include "carousel/module.hpp"
#include "src/backend/largest_batch.hpp"
#include "src/util/dtypes.hpp"

namespace carousel {

namespace {

std::vector<ParameterInfo> prefixed_layout(const std::string& name, const RnnSpec& spec) {
    std::vector<ParameterInfo> group;
    for (const RnnParamInfo& info : param_layout(spec)) {
        ParameterInfo parameter;
        parameter.name = name + "." + info.name;
        parameter.shape.assign(info.shape, info.shape + info.ndim);
        group.push_back(std::move(parameter));
    }
    return group;
}

RnnSpec with_dtype(RnnSpec spec, DType dtype) {
    spec.dtype = dtype;
    return spec;
}

}  // namespace

Rnn::Rnn(ParameterSet& params, const std::string& name, const RnnSpec& spec, std::int64_t seq_len,
         std::int64_t batch_size)
    : params_(&params), spec_(with_dtype(spec, params.context().dtype())) {
    validate(spec_);
    first_ = params.add(prefixed_layout(name, spec_));
    make_plan(seq_len, batch_size);
}

void Rnn::make_plan(std::int64_t seq_len, std::int64_t batch_size) {
    RnnSpec spec = spec_;
    if (input_weights_.defined()) spec.input_size = input_weights_.shape[1];
    RnnPlanOptions options;
    options.seq_len = seq_len;
    options.batch_size = batch_size;
    options.training = true;
    options.device = params_->context().device();
    options.pool = params_->context().pool();
    plan_ = RnnPlan::create(spec, options);
    allocate_for_plan(spec, options, "The recurrent layer", [&] {
        workspace_ =
            Buffer(plan_.workspace_bytes(), options.device, "workspace of the recurrent layer");
    });
    reserves_.clear();
}

void Rnn::replace_input_weights(std::int64_t input_size, const void* w_ih, void* dw_ih) {
    const Device device = params_->context().device();
    const std::int64_t rows = spec_.num_gates() * spec_.hidden_size;
    input_weights_ = ConstTensorView(w_ih, storage_dtype(spec_.dtype), {rows, input_size}, device);
    input_grads_ = TensorView(dw_ih, grad_dtype(spec_.dtype), {rows, input_size}, device);
    weights_.layers.clear();
    make_plan(plan_.options().seq_len, plan_.options().batch_size);
}

void Rnn::bind() {
    if (!weights_.layers.empty()) return;
    weights_ = params_from_flat(spec_, params_->value(first_).data, params_->context().device());
    grads_ = grads_from_flat(spec_, params_->grad(first_).data, params_->context().device());
    if (!input_weights_.defined()) return;
    weights_.layers[0].w_ih = input_weights_;
    grads_.layers[0].dw_ih = input_grads_;
}

RnnParams Rnn::weights() const {
    return params_from_flat(spec_, params_->value(first_).data, params_->context().device());
}

void Rnn::forward_training(RnnForwardArgs args, std::size_t chunk) {
    bind();
    while (reserves_.size() <= chunk) {
        allocate_for_plan(plan_.spec(), plan_.options(), "The recurrent layer", [&] {
            reserves_.emplace_back(plan_.reserve_bytes(), params_->context().device(),
                                   "reserve of the recurrent layer");
        });
    }
    args.params = &weights_;
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.bytes();
    args.reserve = reserves_[chunk].data();
    args.reserve_bytes = reserves_[chunk].bytes();
    carousel::forward_training(plan_, args);
}

void Rnn::forward_inference(RnnForwardArgs args) {
    bind();
    args.params = &weights_;
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.bytes();
    carousel::forward_inference(plan_, args);
}

void Rnn::backward(RnnBackwardArgs args, std::size_t chunk) {
    bind();
    if (chunk >= reserves_.size()) {
        throw Error(ErrorCode::kInvalidArgument, "backward of chunk " + std::to_string(chunk) +
                                                     ", which forward_training never ran");
    }
    args.params = &weights_;
    args.grads = &grads_;
    args.workspace = workspace_.data();
    args.workspace_bytes = workspace_.bytes();
    args.reserve = reserves_[chunk].data();
    args.reserve_bytes = reserves_[chunk].bytes();
    carousel::backward(plan_, args);
}

std::size_t Rnn::h_bytes() const noexcept {
    return static_cast<std::size_t>(spec_.num_states() * plan_.options().batch_size *
                                    spec_.output_size()) *
           dtype_bytes(spec_.dtype);
}

std::size_t Rnn::c_bytes() const noexcept {
    return static_cast<std::size_t>(spec_.num_states() * plan_.options().batch_size *
                                    spec_.hidden_size) *
           dtype_bytes(accumulator_dtype(spec_.dtype));
}

}  // namespace carousel
