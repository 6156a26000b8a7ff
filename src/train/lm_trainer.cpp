#include "src/train/lm_trainer.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"

namespace carousel::train {

namespace {

// Chunks of one update get dropout keys of their own: step * 2^20 + chunk.
constexpr int kChunkKeyBits = 20;

LmConfig checked(const LmConfig& config) {
    validate(config);
    return config;
}

}  // namespace

std::int64_t LmTrainer::max_chunk_steps(const LmConfig& config) {
    const TbpttOptions tbptt = tbptt_resolve(config.tbptt, config.seq_len);
    if (tbptt.kind == TbpttOptions::Kind::kRandom) return tbptt.chunk;
    return std::max(tbptt.k1, tbptt.k2 - tbptt.k1);
}

LmTrainer::LmTrainer(const LmConfig& config, std::shared_ptr<ThreadPool> pool)
    : tbptt_(tbptt_resolve(config.tbptt, config.seq_len)),
      model_(checked(config), max_chunk_steps(config), config.batch_size, std::move(pool)),
      clip_(model_.params(), config.clip_norm),
      optimizer_(model_.params(), clip_, config.optimizer),
      schedule_(config.schedule, config.lr),
      state_(config, config.batch_size),
      graphs_(config.device, config.graphs) {
    if (config.dtype == DType::kF16) {
        scaler_ = std::make_unique<LossScaler>(model_.params().context());
        clip_.set_loss_scaler(scaler_.get());
        model_.set_loss_scaler(scaler_.get());
    }
    model_.initialize();
}

void LmTrainer::PendingStep::swap(PendingStep& other) noexcept {
    std::swap(trainer_, other.trainer_);
    std::swap(loss_, other.loss_);
    std::swap(norm_, other.norm_);
    std::swap(result_, other.result_);
}

void LmTrainer::PendingStep::drop() noexcept {
    if (trainer_ == nullptr) return;
    LmTrainer& trainer = *std::exchange(trainer_, nullptr);
    --trainer.num_pending_;
    for (const Ops::Ticket ticket : {norm_, loss_}) {
        try {
            trainer.model_.params().context().ops().drop(ticket);
        } catch (...) {  // NOLINT(bugprone-empty-catch)
            // One that was collected has no slot to give back.
        }
    }
}

LmTrainer::PendingStep LmTrainer::begin_step(const std::int32_t* tokens,
                                             const std::int32_t* targets, std::int64_t seq_len,
                                             bool reset_state) {
    if (seq_len < 1 || seq_len > model_.max_steps()) {
        throw Error(ErrorCode::kInvalidArgument, "a window of " + std::to_string(seq_len) +
                                                     " steps; this trainer was made for 1 to " +
                                                     std::to_string(model_.max_steps()));
    }
    window_.chunks.assign(1, {tokens, targets, seq_len});
    window_.keep_after = 1;
    window_.new_steps = seq_len;
    window_.reset_state = reset_state;
    window_.mean_steps = 0.0;
    return begin(window_);
}

LmTrainer::PendingStep LmTrainer::begin_step(data::Batcher& batcher) {
    read_window(batcher, window_);
    return begin(window_);
}

void LmTrainer::read_window(data::Batcher& batcher, Window& window) {
    window.chunks.clear();
    window.mean_steps = 0.0;
    auto* sequential = dynamic_cast<data::SequentialBatcher*>(&batcher);
    const bool random = tbptt_.kind == TbpttOptions::Kind::kRandom;
    if (sequential == nullptr && (random || tbptt_.k2 > tbptt_.k1)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "truncated backpropagation '" + to_string(tbptt_) +
                        "' looks beyond a window; it needs --batching sequential");
    }
    if (random) return read_random_segment(batcher, window);
    if (tbptt_.k2 > tbptt_.k1) return read_history_window(*sequential, window);
    const std::int64_t n = model_.batch_size();
    tokens_.resize(static_cast<std::size_t>(tbptt_.k1 * n));
    targets_.resize(tokens_.size());
    window.new_steps =
        batcher.next(tbptt_.k1, tokens_.data(), targets_.data(), &window.reset_state);
    window.chunks.push_back({tokens_.data(), targets_.data(), window.new_steps});
    window.keep_after = 1;
}

/// k2 > k1: the window's older part is read again, and cut where the next window's state lies and
/// where the losses begin.
void LmTrainer::read_history_window(data::SequentialBatcher& batcher, Window& window) {
    const std::int64_t n = model_.batch_size();
    tokens_.resize(static_cast<std::size_t>(tbptt_.k2 * n));
    targets_.resize(tokens_.size());
    const std::int64_t position = batcher.cursor().position;
    const TbpttWindow span = tbptt_window(tbptt_, 0, position, tbptt_.k1);
    const std::int64_t history = position - span.begin;
    batcher.read(span.begin, history, tokens_.data(), targets_.data());
    window.new_steps = batcher.next(tbptt_.k1, tokens_.data() + history * n,
                                    targets_.data() + history * n, &window.reset_state);
    const TbpttWindow cut = tbptt_window(tbptt_, 0, position, window.new_steps);
    std::int64_t edges[4] = {cut.begin, std::min(cut.next_begin, cut.loss_begin),
                             std::max(cut.next_begin, cut.loss_begin), cut.end};
    window.keep_after = 0;
    for (int e = 0; e < 3; ++e) {
        const std::int64_t steps = edges[e + 1] - edges[e];
        if (steps > 0) {
            const std::int64_t first = (edges[e] - cut.begin) * n;
            window.chunks.push_back({tokens_.data() + first,
                                     edges[e] >= cut.loss_begin ? targets_.data() + first : nullptr,
                                     steps});
        }
        if (edges[e + 1] == cut.next_begin) window.keep_after = window.chunks.size();
    }
}

/// A segment of random length; the end of the text ends it too, which cuts nothing.
void LmTrainer::read_random_segment(data::Batcher& batcher, Window& window) {
    const std::int64_t n = model_.batch_size();
    const std::int64_t num_chunks =
        tbptt_segment_chunks(tbptt_, config().seed, static_cast<std::uint64_t>(step_));
    const auto chunk_size = static_cast<std::size_t>(tbptt_.chunk * n);
    const std::int64_t epoch = batcher.cursor().epoch;
    window.new_steps = 0;
    for (std::int64_t i = 0; i < num_chunks && batcher.cursor().epoch == epoch; ++i) {
        const std::size_t first = chunk_size * static_cast<std::size_t>(i);
        if (tokens_.size() < first + chunk_size) {
            tokens_.resize(2 * (first + chunk_size));
            targets_.resize(tokens_.size());
        }
        bool reset = false;
        const std::int64_t steps =
            batcher.next(tbptt_.chunk, tokens_.data() + first, targets_.data() + first, &reset);
        window.chunks.push_back({nullptr, nullptr, steps});
        window.new_steps += steps;
        if (i == 0) window.reset_state = reset;
    }
    for (std::size_t i = 0; i < window.chunks.size(); ++i) {  // the buffers no longer move
        window.chunks[i].tokens = tokens_.data() + chunk_size * i;
        window.chunks[i].targets = targets_.data() + chunk_size * i;
    }
    window.keep_after = window.chunks.size();
    window.mean_steps = static_cast<double>(tbptt_.mean);
}

/// What the sum of the window's losses is divided by.
double LmTrainer::loss_divisor(const Window& window) const {
    const auto n = static_cast<double>(model_.batch_size());
    if (config().loss_scale == LossScale::kStreams) return n;
    if (window.mean_steps > 0.0) return n * window.mean_steps;
    std::int64_t count = 0;
    for (const LmModel::Chunk& chunk : window.chunks) {
        if (chunk.targets == nullptr) continue;
        count +=
            SoftmaxCrossEntropy::count_unmasked(chunk.targets, chunk.steps * model_.batch_size());
    }
    return static_cast<double>(std::max<std::int64_t>(1, count));
}

LmTrainer::PendingStep LmTrainer::begin(const Window& window) {
    if (num_pending_ >= kMaxPending) {
        throw Error(ErrorCode::kInvalidArgument,
                    std::to_string(num_pending_) + " steps are pending; finish the oldest first");
    }
    LmModel::WindowOptions options;
    options.keep_after = window.keep_after;
    options.dropout_step = static_cast<std::uint64_t>(step_) << kChunkKeyBits;
    if (window.mean_steps > 0.0) options.boundary_scale = tbptt_boundary_scale(tbptt_);
    options.loss_scale = 1.0 / loss_divisor(window);
    PendingStep pending;
    pending.result_.lr = schedule_.lr(step_);
    pending.result_.steps = window.new_steps;
    pending.result_.number = step_ + 1;

    // What a recorded step reads goes to the device first.
    model_.upload_window(window.chunks, options);
    optimizer_.set_lr(pending.result_.lr);
    if (window.reset_state) state_.zero(model_.params().context().ops());
    graphs_.run(
        [&](cuda::GraphKey& key) { model_.add_to_key(key, window.chunks, options, state_); },
        [&] {
            model_.enqueue_window(window.chunks, options, state_);
            clip_.measure();
            optimizer_.step();
        });
    ++step_;
    pending.norm_ = clip_.begin_read();
    pending.loss_ = model_.begin_read();
    pending.trainer_ = this;
    ++num_pending_;
    return pending;
}

LmTrainer::StepResult LmTrainer::finish_step(PendingStep pending) {
    if (pending.trainer_ != this) {
        throw Error(ErrorCode::kInvalidArgument,
                    "the step to be finished is not a pending one of this trainer");
    }
    StepResult result = pending.result_;
    const GradNorm norm = clip_.finish_read(pending.norm_);
    pending.trainer_ = nullptr;  // the loss frees its slot in any case
    --num_pending_;
    const LmModel::Result loss = model_.finish_read(pending.loss_);
    result.loss_sum = loss.loss_sum;
    result.tokens = loss.count;
    result.grad_norm = norm.norm;
    result.skipped = norm.skipped;
    return result;
}

Evaluation evaluate(LmModel& model, const std::int32_t* tokens, std::int64_t num_tokens,
                    std::int64_t max_streams) {
    Evaluation evaluation;
    if (num_tokens < 2) return evaluation;
    // Few streams lose little context at their starts; many are quicker.
    const std::int64_t steps = model.max_steps();
    const std::int64_t streams = std::clamp<std::int64_t>(
        (num_tokens - 1) / (8 * steps), 1, std::min(max_streams, model.batch_size()));
    data::SequentialBatcher batcher(tokens, num_tokens, streams, steps);
    const auto room = static_cast<std::size_t>(steps * streams);
    std::vector<std::int32_t> inputs(room), targets(room);
    LmState state(model.config(), streams);
    bool pending = false;  // one chunk is read while the device scores the one before
    SoftmaxCrossEntropy::Ticket ticket = 0;
    const auto finish = [&] {
        if (!std::exchange(pending, false)) return;
        const LmModel::Result loss = model.finish_read(ticket);
        evaluation.loss_sum += loss.loss_sum;
        evaluation.tokens += loss.count;
    };
    while (batcher.cursor().epoch == 0) {
        bool reset = false;
        const std::int64_t t = batcher.next(steps, inputs.data(), targets.data(), &reset);
        model.enqueue_evaluation({inputs.data(), targets.data(), t}, streams, state);
        const SoftmaxCrossEntropy::Ticket next = model.begin_read();
        finish();
        ticket = next;
        pending = true;
    }
    finish();
    return evaluation;
}

}  // namespace carousel::train
