#include "src/train/token_step.hpp"

#include "src/backend/ops.hpp"
#include "src/util/dtypes.hpp"

namespace carousel::train {

namespace {

/// `count` numbers of a parameter and what lies behind it, where and as `context` computes.
Buffer copy_of(const ParameterSet& params, const char* name, std::int64_t count,
               const ModuleContext& context) {
    const std::size_t index = params.find(name);
    const TensorView view =
        params.context().dtype() == context.dtype() ? params.value(index) : params.master(index);
    Buffer buffer(static_cast<std::size_t>(count) * dtype_bytes(view.dtype), context.device(),
                  "weights of the sampler");
    if (view.device == context.device()) {
        context.ops().copy(view.data, buffer.data(), buffer.bytes());
    } else {
        copy_to_host(buffer.data(), view.data, buffer.bytes(), view.device);
    }
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

TokenStep::TokenStep(LmModel& model, const LmConfig& config)
    : config_(config),
      context_(config_.dtype, config_.device, model.params().context().pool()),
      plan_(sampling_plan(config_, context_)),
      state_(config_, 1) {
    const ParameterSet& params = model.params();
    const Device device = context_.device();
    const std::int64_t input = config_.input_size(), hidden = config_.hidden_size;
    if (config_.embedding_size > 0) {
        embedding_ = copy_of(params, "embedding.weight",
                             config_.vocab_size * config_.embedding_size, context_);
    }
    weight_ = copy_of(params, "output.weight", config_.vocab_size * hidden, context_);
    bias_ = copy_of(params, "output.bias", config_.vocab_size, context_);
    // Tensors of a stack lie without gaps.
    const Buffer stack = copy_of(params, "rnn.weight_ih_l0", param_count(plan_.spec()), context_);
    const RnnParams rnn = params_from_flat(plan_.spec(), stack.data(), device);
    packed_ = std::make_unique<PackedWeights>(
        PackedWeights::make(plan_.spec(), rnn, device, context_.pool().get()));
    const auto numbers = [&](std::int64_t count, const char* what) {
        return Buffer(static_cast<std::size_t>(count) * dtype_bytes(config_.dtype), device, what);
    };
    workspace_ = Buffer(plan_.workspace_bytes(), device, "workspace of the sampler");
    x_ = numbers(input, "input of one step");
    y_ = numbers(hidden, "output of one step");
    logits_ = numbers(config_.vocab_size, "logits");

    const DType dtype = storage_dtype(config_.dtype);
    const std::int64_t layers = config_.num_layers;
    args_.seq_len = 1;
    args_.batch_size = 1;
    args_.x = TensorView(x_.data(), dtype, {1, 1, input}, device);
    args_.y = TensorView(y_.data(), dtype, {1, 1, hidden}, device);
    args_.hy = TensorView(state_.h.data(), dtype, {layers, 1, hidden}, device);
    args_.hx = args_.hy;
    if (cell_has_c(config_.cell)) {
        args_.cy = TensorView(state_.c.data(), accumulator_dtype(config_.dtype),
                              {layers, 1, hidden}, device);
        args_.cx = args_.cy;
    }
    args_.packed = packed_.get();
    args_.workspace = workspace_.data();
    args_.workspace_bytes = workspace_.bytes();
}

void TokenStep::feed(const std::int32_t* token) {
    Ops& ops = context_.ops();
    if (config_.embedding_size > 0) {
        GatherRowsArgs gather;
        gather.table = embedding_.data();
        gather.row_size = config_.embedding_size;
        gather.ids = token;
        gather.n = 1;
        gather.y = x_.data();
        gather.num_rows = config_.vocab_size;
        ops.gather_rows(gather);
    } else {
        ops.zero(x_.data(), x_.bytes());
        ops.set_one_hot(x_.data(), config_.vocab_size, token, 1, 1.0);
    }
    forward_inference(plan_, args_);
}

void TokenStep::score() {
    MatVecArgs output;
    output.weight = weight_.data();
    output.rows = config_.vocab_size;
    output.cols = config_.hidden_size;
    output.x = y_.data();
    output.bias = bias_.data();
    output.y = logits_.data();
    context_.ops().matvec(output);
}

}  // namespace carousel::train
