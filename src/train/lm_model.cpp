#include "src/train/lm_model.hpp"

#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/graph_key.hpp"
#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"
#include "src/util/dtypes.hpp"

namespace carousel::train {

namespace {

Buffer numbers(const LmConfig& config, std::int64_t count, const char* what) {
    return Buffer(static_cast<std::size_t>(count) * dtype_bytes(config.dtype), config.device, what);
}

TensorView view3(const LmConfig& config, void* data, std::int64_t a, std::int64_t b,
                 std::int64_t c) {
    if (data == nullptr) return {};
    return TensorView(data, storage_dtype(config.dtype), {a, b, c}, config.device);
}

/// h and c of a state.
TensorView h_view(const LmConfig& config, const LmState& state, std::int64_t batch_size) {
    return view3(config, state.h.data(), config.num_layers, batch_size, config.hidden_size);
}
TensorView c_view(const LmConfig& config, const LmState& state, std::int64_t batch_size) {
    if (state.c.data() == nullptr) return {};
    return TensorView(state.c.data(), accumulator_dtype(config.dtype),
                      {config.num_layers, batch_size, config.hidden_size}, config.device);
}

void copy_state(Ops& ops, const LmState& from, const LmState& to) {
    ops.copy(from.h.data(), to.h.data(), from.h.bytes());
    if (from.c.data() != nullptr) ops.copy(from.c.data(), to.c.data(), from.c.bytes());
}

std::shared_ptr<ThreadPool> pool_of(const LmConfig& config, std::shared_ptr<ThreadPool> pool) {
    return pool ? std::move(pool) : std::make_shared<ThreadPool>(config.num_threads);
}

}  // namespace

LmState::LmState(const LmConfig& config, std::int64_t batch_size) {
    const std::int64_t count = config.num_layers * batch_size * config.hidden_size;
    h = numbers(config, count, "hidden state");
    if (cell_has_c(config.cell)) {
        c = Buffer(static_cast<std::size_t>(count) * dtype_bytes(accumulator_dtype(config.dtype)),
                   config.device, "cell state");
    }
    zero();
}

void LmState::zero() {
    h.zero();
    if (c.data() != nullptr) c.zero();
}

void LmState::zero(Ops& ops) {
    ops.zero(h.data(), h.bytes());
    if (c.data() != nullptr) ops.zero(c.data(), c.bytes());
}

LmModel::LmModel(const LmConfig& config, std::int64_t max_steps, std::int64_t batch_size,
                 std::shared_ptr<ThreadPool> pool)
    : config_(config),
      max_steps_(max_steps),
      batch_size_(batch_size),
      params_(ModuleContext(config.dtype, config.device, pool_of(config, std::move(pool)))),
      inputs_(params_.context(), max_steps * batch_size) {
    validate(config_);
    const std::int64_t rows = max_steps * batch_size;
    if (config_.embedding_size > 0) {
        embedding_ = std::make_unique<Embedding>(params_, "embedding", config_.vocab_size,
                                                 config_.embedding_size);
    }
    rnn_ = std::make_unique<Rnn>(params_, "rnn", config_.rnn_spec(), max_steps, batch_size);
    output_ = std::make_unique<Linear>(params_, "output", config_.hidden_size, config_.vocab_size);
    // The recurrent stack drops the outputs of layers 0 .. L-2 under these layer numbers.
    dropout_ =
        std::make_unique<Dropout>(params_.context(), config_.dropout, config_.num_layers - 1);
    loss_ = std::make_unique<SoftmaxCrossEntropy>(params_.context(), config_.vocab_size, rows);
    params_.allocate();
    if (embedding_ && folding_pays()) {
        const std::int64_t gates = cell_num_gates(config_.cell) * config_.hidden_size;
        folded_ = numbers(config_, gates * config_.vocab_size, "folded embedding");
        dfolded_ = numbers(config_, gates * config_.vocab_size, "gradient of the folded embedding");
        rnn_->replace_input_weights(config_.vocab_size, folded_.data(), dfolded_.data());
    }
    logits_ = numbers(config_, rows * config_.vocab_size, "logits");
    add_chunk_buffers();
}

bool LmModel::folding_pays() const {
    if (ops().has_working_copy()) return false;
    // Multiplications per gate unit. Folded: V a row forward and backward, and V*E three times a
    // window; else E a row three times (forward, weight gradient, input gradient).
    const auto v = static_cast<double>(config_.vocab_size);
    const auto e = static_cast<double>(config_.embedding_size);
    const auto rows = static_cast<double>(max_steps_ * batch_size_);
    constexpr double kClearly = 0.8;
    return v * (2.0 * rows + 3.0 * e) < kClearly * 3.0 * e * rows;
}

void LmModel::fold_weights() {
    if (folded_.data() == nullptr) return;
    MatMulArgs args;  // folded = w_ih embeddingᵀ
    args.trans_b = true;
    args.m = cell_num_gates(config_.cell) * config_.hidden_size;
    args.n = config_.vocab_size;
    args.k = config_.embedding_size;
    args.a = params_.value(params_.find("rnn.weight_ih_l0")).data;
    args.lda = args.k;
    args.b = params_.value(params_.find("embedding.weight")).data;
    args.ldb = args.k;
    args.c = folded_.data();
    args.ldc = args.n;
    ops().matmul(args);
}

void LmModel::unfold_gradients() {
    if (folded_.data() == nullptr) return;
    const std::size_t w_ih = params_.find("rnn.weight_ih_l0");
    const std::size_t embedding = params_.find("embedding.weight");
    const std::int64_t gates = cell_num_gates(config_.cell) * config_.hidden_size;
    const std::int64_t v = config_.vocab_size, e = config_.embedding_size;
    MatMulArgs dw;  // dw_ih = dfolded embedding
    dw.m = gates;
    dw.n = e;
    dw.k = v;
    dw.a = dfolded_.data();
    dw.lda = v;
    dw.b = params_.value(embedding).data;
    dw.ldb = e;
    dw.c = params_.grad(w_ih).data;
    dw.ldc = e;
    ops().matmul(dw);
    MatMulArgs de = dw;  // dembedding = dfoldedᵀ w_ih
    de.trans_a = true;
    de.m = v;
    de.k = gates;
    de.b = params_.value(w_ih).data;
    de.c = params_.grad(embedding).data;
    ops().matmul(de);
    if (!ops().visits_rows()) return;
    std::vector<std::int64_t>& rows = params_.touched_rows().front().rows;
    rows.resize(static_cast<std::size_t>(v));
    for (std::int64_t row = 0; row < v; ++row) rows[static_cast<std::size_t>(row)] = row;
}

void LmModel::add_chunk_buffers() {
    const std::int64_t rows = max_steps_ * batch_size_;
    ChunkBuffers buffers;
    buffers.x = numbers(config_, rows * stack_input_size(), "input of the recurrent stack");
    buffers.x.zero();
    if (one_hot_input()) {
        buffers.ones = Buffer(static_cast<std::size_t>(rows) * sizeof(std::int32_t), config_.device,
                              "places of the ones of a one-hot input");
        buffers.ones.zero();
    }
    buffers.y = numbers(config_, rows * config_.hidden_size, "output of the recurrent stack");
    chunks_.push_back(std::move(buffers));
    states_.emplace_back(config_, batch_size_);
    inputs_.reserve(chunks_.size());
}

/// Makes what training needs and evaluation does not; nothing after the first window of a size.
void LmModel::prepare_training(std::size_t num_chunks) {
    const std::int64_t rows = max_steps_ * batch_size_;
    while (chunks_.size() < num_chunks) add_chunk_buffers();
    for (ChunkBuffers& buffers : chunks_) {
        if (buffers.dy.data() != nullptr) continue;
        buffers.dy = numbers(config_, rows * config_.hidden_size, "gradient of the stack's output");
    }
    if (!one_hot_input() && dx_.data() == nullptr) {
        dx_ = numbers(config_, rows * config_.embedding_size, "gradient of the embedded input");
    }
    if (config_.dropout > 0.0 && dropped_.data() == nullptr) {
        dropped_ = numbers(config_, rows * config_.hidden_size, "output after dropout");
    }
    while (num_chunks > 1 && dstates_.size() < 2) dstates_.emplace_back(config_, batch_size_);
    if (num_chunks > 1 && ops().has_working_copy() && wide_ops_ == nullptr) {
        wide_ops_ = Ops::make(ops().state_dtype(), config_.device, params_.context().pool());
    }
}

void LmModel::check_ids(const Chunk& chunk, std::int64_t batch_size) const {
    const std::int64_t rows = chunk.steps * batch_size;
    nn::check_ids("tokens", chunk.tokens, rows, config_.vocab_size);
    if (chunk.targets != nullptr) {
        nn::check_ids("targets", chunk.targets, rows, config_.vocab_size, kIgnoreTarget);
    }
}

void LmModel::write_input(std::size_t chunk, std::int64_t rows) {
    ChunkBuffers& buffers = chunks_[chunk];
    const IdBuffer& tokens = inputs_.tokens(chunk);
    if (!one_hot_input()) {
        embedding_->forward(tokens, rows, buffers.x.data());
        return;
    }
    // Rows beyond these keep the one that `ones` says they have.
    auto* ones = buffers.ones.as<std::int32_t>();
    ops().set_one_hot(buffers.x.data(), config_.vocab_size, ones, rows, 0.0);
    ops().copy(tokens.data(), ones, static_cast<std::size_t>(rows) * sizeof(std::int32_t));
    ops().set_one_hot(buffers.x.data(), config_.vocab_size, ones, rows, 1.0);
}

RnnForwardArgs LmModel::forward_args(std::size_t chunk, std::int64_t steps, std::int64_t batch_size,
                                     const LmState& from, LmState& to) const {
    const ChunkBuffers& buffers = chunks_[chunk];
    RnnForwardArgs args;
    args.seq_len = steps;
    args.batch_size = batch_size;
    args.x = view3(config_, buffers.x.data(), steps, batch_size, stack_input_size());
    args.hx = h_view(config_, from, batch_size);
    args.cx = c_view(config_, from, batch_size);
    args.y = view3(config_, buffers.y.data(), steps, batch_size, config_.hidden_size);
    args.hy = h_view(config_, to, batch_size);
    args.cy = c_view(config_, to, batch_size);
    return args;
}

/// Linear, loss, and their backward, for one chunk: y -> dy. Logits live no longer than this call, so
/// all chunks share one buffer; the gradient of the logits overwrites them.
void LmModel::output_layer(std::size_t chunk, std::int64_t rows, double loss_scale,
                           bool accumulate) {
    ChunkBuffers& buffers = chunks_[chunk];
    const std::int64_t numel = rows * config_.hidden_size;
    const std::uint64_t* key = inputs_.dropout_key(chunk);
    const void* y = buffers.y.data();
    if (config_.dropout > 0.0) {
        dropout_->apply(y, numel, key, dropped_.data());
        y = dropped_.data();
    }
    output_->forward_no_bias(y, rows, logits_.data());
    loss_->enqueue(logits_.data(), output_->bias_data(), inputs_.targets(chunk), rows, loss_scale,
                   logits_.data(), accumulate);
    output_->backward(y, rows, logits_.data(), buffers.dy.data(), accumulate);
    if (config_.dropout > 0.0) {
        dropout_->apply(buffers.dy.data(), numel, key, buffers.dy.data());
    }
}

void LmModel::scale_state_gradient(LmState& gradient, double factor) {
    if (factor == 1.0) return;
    const std::int64_t numel = config_.num_layers * batch_size_ * config_.hidden_size;
    ops().scale(factor, gradient.h.data(), numel);
    Ops& wide = wide_ops_ != nullptr ? *wide_ops_ : ops();
    if (gradient.c.data() != nullptr) wide.scale(factor, gradient.c.data(), numel);
}

void LmModel::backward_chunks(const std::vector<Chunk>& chunks, double boundary_scale,
                              const LmState& state) {
    for (std::size_t i = chunks.size(); i-- > 0;) {
        const bool newest = i + 1 == chunks.size();
        const Chunk& chunk = chunks[i];
        ChunkBuffers& buffers = chunks_[i];
        const LmState& from = i == 0 ? state : states_[i - 1];
        const auto sequence = [&](const Buffer& buffer, std::int64_t size) {
            return view3(config_, buffer.data(), chunk.steps, batch_size_, size);
        };
        RnnBackwardArgs args;
        args.seq_len = chunk.steps;
        args.batch_size = batch_size_;
        args.x = sequence(buffers.x, stack_input_size());
        args.y = sequence(buffers.y, config_.hidden_size);
        args.hx = h_view(config_, from, batch_size_);
        args.cx = c_view(config_, from, batch_size_);
        if (chunk.targets != nullptr) args.dy = sequence(buffers.dy, config_.hidden_size);
        if (!newest) {
            LmState& later = dstates_[(i + 1) % 2];
            scale_state_gradient(later, boundary_scale);
            args.dhy = h_view(config_, later, batch_size_);
            args.dcy = c_view(config_, later, batch_size_);
        }
        if (i > 0) {
            args.dhx = h_view(config_, dstates_[i % 2], batch_size_);
            args.dcx = c_view(config_, dstates_[i % 2], batch_size_);
        }
        if (!one_hot_input()) args.dx = sequence(dx_, config_.embedding_size);
        args.accumulate = !newest;
        rnn_->backward(args, i);
        if (!one_hot_input()) {
            embedding_->backward(inputs_.tokens(i), chunk.steps * batch_size_, dx_.data(), !newest);
        }
    }
}

void LmModel::upload_window(const std::vector<Chunk>& chunks, const WindowOptions& options) {
    for (const Chunk& chunk : chunks) check_ids(chunk, batch_size_);
    prepare_training(chunks.size());
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        inputs_.write(i, chunks[i].tokens, chunks[i].targets, chunks[i].steps * batch_size_,
                      config_.seed, options.dropout_step + i);
    }
    inputs_.upload(chunks.size());
}

void LmModel::enqueue_window(const std::vector<Chunk>& chunks, const WindowOptions& options,
                             LmState& state) {
    bool first_loss = true;
    fold_weights();
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        const std::int64_t rows = chunks[i].steps * batch_size_;
        write_input(i, rows);
        RnnForwardArgs args = forward_args(i, chunks[i].steps, batch_size_,
                                           i == 0 ? state : states_[i - 1], states_[i]);
        args.dropout_seed = config_.seed;
        args.dropout_step = options.dropout_step + i;
        if (config_.device.type == DeviceType::kCuda) args.dropout_key = inputs_.dropout_key(i);
        rnn_->forward_training(args, i);
        if (chunks[i].targets == nullptr) continue;
        output_layer(i, rows, options.loss_scale, !first_loss);
        first_loss = false;
    }
    backward_chunks(chunks, options.boundary_scale, state);
    unfold_gradients();
    // A copy, not an exchange: a recorded window finds its state where it was.
    if (options.keep_after > 0) copy_state(ops(), states_[options.keep_after - 1], state);
}

void LmModel::add_to_key(cuda::GraphKey& key, const std::vector<Chunk>& chunks,
                         const WindowOptions& options, const LmState& state) const {
    const auto add = [&](const Buffer& buffer) {
        key.add(static_cast<const void*>(buffer.data()));
    };
    const auto add_state = [&](const LmState& of) {
        add(of.h);
        add(of.c);
    };
    key.add(options.loss_scale).add(options.boundary_scale);
    key.add(static_cast<std::int64_t>(options.keep_after));
    key.add(static_cast<std::int64_t>(chunks.size())).add(inputs_.data());
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        key.add(chunks[i].steps).add(std::int64_t{chunks[i].targets != nullptr});
        for (const Buffer* buffer :
             {&chunks_[i].x, &chunks_[i].y, &chunks_[i].dy, &chunks_[i].ones}) {
            add(*buffer);
        }
        add_state(states_[i]);
    }
    for (const LmState& gradient : dstates_) add_state(gradient);
    add_state(state);
    for (const Buffer* buffer : {&logits_, &dropped_, &dx_, &folded_, &dfolded_}) add(*buffer);
    for (const void* flat : {params_.flat_values(), params_.flat_masters(), params_.flat_grads()}) {
        key.add(flat);
    }
}

LmModel::Result LmModel::finish_read(SoftmaxCrossEntropy::Ticket ticket) {
    const SoftmaxCrossEntropy::Result loss = loss_->finish_read(ticket);
    return {loss.loss_sum, loss.count};
}

LmModel::Result LmModel::train_window(const std::vector<Chunk>& chunks,
                                      const WindowOptions& options, LmState& state) {
    upload_window(chunks, options);
    enqueue_window(chunks, options, state);
    return finish_read(begin_read());
}

void LmModel::enqueue_evaluation(const Chunk& chunk, std::int64_t batch_size, LmState& state) {
    check_ids(chunk, batch_size);
    const std::int64_t rows = chunk.steps * batch_size;
    inputs_.write(0, chunk.tokens, chunk.targets, rows, 0, 0);
    inputs_.upload(1);
    fold_weights();
    write_input(0, rows);
    rnn_->forward_inference(forward_args(0, chunk.steps, batch_size, state, state));
    output_->forward_no_bias(chunks_[0].y.data(), rows, logits_.data());
    loss_->enqueue(logits_.data(), output_->bias_data(), inputs_.targets(0), rows, 1.0, nullptr);
}

LmModel::Result LmModel::evaluate(const Chunk& chunk, std::int64_t batch_size, LmState& state) {
    enqueue_evaluation(chunk, batch_size, state);
    return finish_read(begin_read());
}

}  // namespace carousel::train
