#include "src/train/lm_model.hpp"

#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"

namespace carousel::train {

namespace {

Buffer numbers(const LmConfig& config, std::int64_t count, const char* what) {
    return Buffer(static_cast<std::size_t>(count) * dtype_bytes(config.dtype), config.device, what);
}

TensorView view3(const LmConfig& config, void* data, std::int64_t a, std::int64_t b,
                 std::int64_t c) {
    if (data == nullptr) return {};
    return TensorView(data, config.dtype, {a, b, c}, config.device);
}

std::shared_ptr<ThreadPool> pool_of(const LmConfig& config, std::shared_ptr<ThreadPool> pool) {
    return pool ? std::move(pool) : std::make_shared<ThreadPool>(config.num_threads);
}

}  // namespace

LmState::LmState(const LmConfig& config, std::int64_t batch_size) {
    const std::int64_t count = config.num_layers * batch_size * config.hidden_size;
    h = numbers(config, count, "hidden state");
    if (cell_has_c(config.cell)) c = numbers(config, count, "cell state");
    zero();
}

void LmState::zero() {
    h.zero();
    if (c.data() != nullptr) c.zero();
}

LmModel::LmModel(const LmConfig& config, std::int64_t max_steps, std::int64_t batch_size,
                 std::shared_ptr<ThreadPool> pool)
    : config_(config),
      max_steps_(max_steps),
      batch_size_(batch_size),
      params_(ModuleContext(config.dtype, config.device, pool_of(config, std::move(pool)))) {
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
    states_.emplace_back(config_, batch_size);
    add_chunk_buffers();
}

bool LmModel::folding_pays() const {
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
    params_.context().ops().matmul(args);
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
    params_.context().ops().matmul(dw);
    MatMulArgs de = dw;  // dembedding = dfoldedᵀ w_ih
    de.trans_a = true;
    de.m = v;
    de.k = gates;
    de.b = params_.value(w_ih).data;
    de.c = params_.grad(embedding).data;
    params_.context().ops().matmul(de);
    std::vector<std::int64_t>& rows = params_.touched_rows().front().rows;
    rows.resize(static_cast<std::size_t>(v));
    for (std::int64_t row = 0; row < v; ++row) rows[static_cast<std::size_t>(row)] = row;
}

void LmModel::add_chunk_buffers() {
    const std::int64_t rows = max_steps_ * batch_size_;
    ChunkBuffers buffers;
    buffers.x = numbers(config_, rows * stack_input_size(), "input of the recurrent stack");
    buffers.x.zero();
    if (one_hot_input()) buffers.ones.reserve(static_cast<std::size_t>(rows));
    buffers.y = numbers(config_, rows * config_.hidden_size, "output of the recurrent stack");
    chunks_.push_back(std::move(buffers));
    states_.emplace_back(config_, batch_size_);
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
}

void LmModel::write_input(const Chunk& chunk, std::int64_t batch_size, ChunkBuffers& buffers) {
    const std::int64_t rows = chunk.steps * batch_size;
    if (!one_hot_input()) {
        embedding_->forward(chunk.tokens, rows, buffers.x.data());
        return;
    }
    Ops& ops = params_.context().ops();
    const std::int64_t classes = config_.vocab_size;
    for (std::int64_t r = 0; r < rows; ++r) {
        if (chunk.tokens[r] >= 0 && chunk.tokens[r] < classes) continue;
        throw Error(ErrorCode::kInvalidArgument,
                    "tokens[" + std::to_string(r) + "] is " + std::to_string(chunk.tokens[r]) +
                        "; ids must lie in [0, " + std::to_string(classes) + ")");
    }
    ops.set_one_hot(buffers.x.data(), classes, buffers.ones.data(),
                    static_cast<std::int64_t>(buffers.ones.size()), 0.0);
    buffers.ones.assign(chunk.tokens, chunk.tokens + rows);
    ops.set_one_hot(buffers.x.data(), classes, buffers.ones.data(), rows, 1.0);
}

RnnForwardArgs LmModel::forward_args(const Chunk& chunk, std::int64_t batch_size,
                                     ChunkBuffers& buffers, const LmState& from,
                                     LmState& to) const {
    const std::int64_t layers = config_.num_layers, hidden = config_.hidden_size;
    RnnForwardArgs args;
    args.seq_len = chunk.steps;
    args.batch_size = batch_size;
    args.x = view3(config_, buffers.x.data(), chunk.steps, batch_size, stack_input_size());
    args.hx = view3(config_, from.h.data(), layers, batch_size, hidden);
    args.cx = view3(config_, from.c.data(), layers, batch_size, hidden);
    args.y = view3(config_, buffers.y.data(), chunk.steps, batch_size, hidden);
    args.hy = view3(config_, to.h.data(), layers, batch_size, hidden);
    args.cy = view3(config_, to.c.data(), layers, batch_size, hidden);
    args.dropout_seed = config_.seed;
    return args;
}

/// Linear, loss, and their backward, for one chunk: y -> dy. Logits live no longer than this call, so
/// all chunks share one buffer; the gradient of the logits overwrites them.
LmModel::Result LmModel::output_layer(const Chunk& chunk, std::uint64_t dropout_step,
                                      double loss_scale, ChunkBuffers& buffers, bool accumulate) {
    const std::int64_t rows = chunk.steps * batch_size_;
    const std::int64_t numel = rows * config_.hidden_size;
    const void* y = buffers.y.data();
    if (config_.dropout > 0.0) {
        dropout_->apply(y, numel, config_.seed, dropout_step, dropped_.data());
        y = dropped_.data();
    }
    output_->forward_no_bias(y, rows, logits_.data());
    const SoftmaxCrossEntropy::Result loss = loss_->run(
        logits_.data(), output_->bias_data(), chunk.targets, rows, loss_scale, logits_.data());
    output_->backward(y, rows, logits_.data(), buffers.dy.data(), accumulate);
    if (config_.dropout > 0.0) {
        dropout_->apply(buffers.dy.data(), numel, config_.seed, dropout_step, buffers.dy.data());
    }
    return {loss.loss_sum, loss.count};
}

void LmModel::backward_chunks(const std::vector<Chunk>& chunks, double boundary_scale) {
    const std::int64_t layers = config_.num_layers, hidden = config_.hidden_size;
    const std::int64_t state_numel = layers * batch_size_ * hidden;
    for (std::size_t i = chunks.size(); i-- > 0;) {
        const bool newest = i + 1 == chunks.size();
        const Chunk& chunk = chunks[i];
        ChunkBuffers& buffers = chunks_[i];
        const auto state_view = [&](const Buffer& buffer) {
            return view3(config_, buffer.data(), layers, batch_size_, hidden);
        };
        RnnBackwardArgs args;
        args.seq_len = chunk.steps;
        args.batch_size = batch_size_;
        args.x = view3(config_, buffers.x.data(), chunk.steps, batch_size_, stack_input_size());
        args.y = view3(config_, buffers.y.data(), chunk.steps, batch_size_, hidden);
        args.hx = state_view(states_[i].h);
        args.cx = state_view(states_[i].c);
        if (chunk.targets != nullptr) {
            args.dy = view3(config_, buffers.dy.data(), chunk.steps, batch_size_, hidden);
        }
        if (!newest) {
            LmState& later = dstates_[(i + 1) % 2];
            if (boundary_scale != 1.0) {
                Ops& ops = params_.context().ops();
                ops.scale(boundary_scale, later.h.data(), state_numel);
                if (later.c.data() != nullptr)
                    ops.scale(boundary_scale, later.c.data(), state_numel);
            }
            args.dhy = state_view(later.h);
            args.dcy = state_view(later.c);
        }
        if (i > 0) {
            args.dhx = state_view(dstates_[i % 2].h);
            args.dcx = state_view(dstates_[i % 2].c);
        }
        if (!one_hot_input()) {
            args.dx = view3(config_, dx_.data(), chunk.steps, batch_size_, config_.embedding_size);
        }
        args.accumulate = !newest;
        rnn_->backward(args, i);
        if (!one_hot_input()) {
            embedding_->backward(chunk.tokens, chunk.steps * batch_size_, dx_.data(), !newest);
        }
    }
}

LmModel::Result LmModel::train_window(const std::vector<Chunk>& chunks,
                                      const WindowOptions& options, LmState& state) {
    prepare_training(chunks.size());
    Result total;
    bool first_loss = true;
    fold_weights();
    std::swap(states_[0], state);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        write_input(chunks[i], batch_size_, chunks_[i]);
        RnnForwardArgs args =
            forward_args(chunks[i], batch_size_, chunks_[i], states_[i], states_[i + 1]);
        args.dropout_step = options.dropout_step + i;
        rnn_->forward_training(args, i);
        if (chunks[i].targets == nullptr) continue;
        const Result loss =
            output_layer(chunks[i], args.dropout_step, options.loss_scale, chunks_[i], !first_loss);
        total.loss_sum += loss.loss_sum;
        total.count += loss.count;
        first_loss = false;
    }
    backward_chunks(chunks, options.boundary_scale);
    unfold_gradients();
    std::swap(state, states_[options.keep_after]);
    return total;
}

LmModel::Result LmModel::evaluate(const Chunk& chunk, std::int64_t batch_size, LmState& state) {
    fold_weights();
    write_input(chunk, batch_size, chunks_[0]);
    rnn_->forward_inference(forward_args(chunk, batch_size, chunks_[0], state, state));
    const std::int64_t rows = chunk.steps * batch_size;
    output_->forward_no_bias(chunks_[0].y.data(), rows, logits_.data());
    const SoftmaxCrossEntropy::Result loss =
        loss_->run(logits_.data(), output_->bias_data(), chunk.targets, rows, 1.0, nullptr);
    return {loss.loss_sum, loss.count};
}

}  // namespace carousel::train
