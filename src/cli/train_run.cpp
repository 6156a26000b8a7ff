#include "src/cli/train_run.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "carousel/error.hpp"
#include "carousel/loss.hpp"
#include "src/cli/builtin_text.hpp"
#include "src/cli/common.hpp"
#include "src/cli/train_progress.hpp"
#include "src/io/file.hpp"
#include "src/io/json.hpp"

namespace carousel::cli {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

constexpr const char* kBuiltinName = "the built-in text";

/// FNV-1a over code points: tells a text that was changed since a run began from the one it had.
std::string hash_of(const data::Text& text) {
    std::uint64_t hash = 14695981039346656037ull;
    for (const char32_t code_point : text.code_points) {
        hash = (hash ^ static_cast<std::uint64_t>(code_point)) * 1099511628211ull;
    }
    char digits[17];
    std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(hash));
    return digits;
}

std::int64_t parameter_count(const train::LmTrainer& trainer) {
    std::int64_t count = 0;
    for (const ParameterInfo& info : trainer.model().params().infos()) count += info.numel;
    return count;
}

std::string absolute_path(const std::string& path) {
    return fs::absolute(path).lexically_normal().string();
}

/// The first of runs/1, runs/2, ... that holds nothing.
std::string free_folder() {
    for (int i = 1;; ++i) {
        const std::string folder = "runs/" + std::to_string(i);
        if (!fs::exists(folder)) return folder;
    }
}

/// Metrics of updates after `step` came from a run that went on after its last checkpoint.
void cut_metrics(const std::string& path, std::int64_t step) {
    if (!fs::exists(path)) return;
    std::string kept;
    for (const std::string& line : io::read_lines(path)) {
        const ordered_json json = ordered_json::parse(line, nullptr, false);
        if (json.is_discarded() || !json.contains("step") || json["step"] > step) continue;
        kept += line + "\n";
    }
    io::write_file_atomic(path, kept);
}

/// Calls `read`, which reads RUN/last; says what is left if that is damaged.
template <class F>
void read_last(const std::string& run, F&& read) {
    try {
        read();
    } catch (const Error& error) {
        if (error.code() != ErrorCode::kIo || !fs::exists(run + "/best")) throw;
        std::string sentence = error.what();
        if (sentence.back() != '.') sentence += '.';
        throw Error(ErrorCode::kIo, sentence +
                                        " To continue from the best checkpoint, put a copy of '" +
                                        run + "/best' in the place of '" + run + "/last'.");
    }
}

}  // namespace

/// The run may be continued from another folder.
void TrainRun::keep_tuning_file() {
    if (!flags_.tune_products.empty()) flags_.tune_products = absolute_path(flags_.tune_products);
}

void TrainRun::load_text(const std::string& builtin_copy) {
    data::Text text;
    if (!flags_.text.empty()) {
        text = data::load_text(flags_.text);
    } else if (!builtin_copy.empty()) {
        text = data::load_text({builtin_copy});
    } else {
        text = data::decode_utf8(builtin_text(), kBuiltinName);
    }
    if (vocabulary_.size() == 0) vocabulary_ = data::Vocabulary::from_text(text);
    tokens_ = vocabulary_.encode(text);
    text_hash_ = hash_of(text);
}

void TrainRun::make_trainer() {
    train::LmConfig config = flags_.lm_config();
    config.vocab_size = vocabulary_.size();
    const data::Batching batching = data::batching_parse(flags_.batching);
    const TbpttOptions tbptt = tbptt_resolve(config.tbptt, config.seq_len);
    const std::int64_t window =
        tbptt.kind == TbpttOptions::Kind::kFixed ? tbptt.k1 : config.seq_len;
    splits_ =
        data::split_tokens(static_cast<std::int64_t>(tokens_.size()),
                           data::SplitFractions::parse(flags_.split), window, config.batch_size);
    if (batching == data::Batching::kRandom &&
        (tbptt.kind == TbpttOptions::Kind::kRandom || tbptt.k2 > tbptt.k1)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--tbptt " + to_string(tbptt) +
                        " looks beyond a window; it needs --batching sequential");
    }
    products_ = std::make_unique<TunedProducts>(config.device, flags_.tune_products);
    trainer_ = std::make_unique<train::LmTrainer>(config);
    batcher_ = data::make_batcher(batching, tokens_.data() + splits_.train.begin,
                                  splits_.train.size(), config.batch_size, window, config.seed);
    const auto positions = static_cast<double>(batcher_->positions_per_epoch());
    updates_per_epoch_ = tbptt.kind == TbpttOptions::Kind::kRandom
                             ? positions / static_cast<double>(tbptt.mean)
                             : static_cast<double>(batcher_->batches_per_epoch());
}

void TrainRun::resolve_lengths() {
    constexpr double kDefaultEpochs = 5.0;
    constexpr std::int64_t kMostBetweenEvaluations = 500;
    if (flags_.steps < 0 || flags_.epochs < 0.0 || flags_.eval_every < 0 || flags_.save_every < 0) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--steps, --epochs, --eval-every and --save-every must not be negative");
    }
    const double epochs = flags_.epochs > 0.0 ? flags_.epochs : kDefaultEpochs;
    const double updates = std::ceil(epochs * updates_per_epoch_);
    constexpr double kMostUpdates = 9007199254740992.0;  // 2^53
    if (flags_.steps == 0 && !(updates <= kMostUpdates)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--epochs is too large: the training would take more than 2^53 updates");
    }
    total_steps_ =
        flags_.steps > 0 ? flags_.steps : std::max<std::int64_t>(1, std::llround(updates));
    const auto one_epoch = static_cast<std::int64_t>(std::ceil(updates_per_epoch_));
    eval_every_ = flags_.eval_every > 0
                      ? flags_.eval_every
                      : std::clamp<std::int64_t>(one_epoch, 1, kMostBetweenEvaluations);
    save_every_ = flags_.save_every > 0 ? flags_.save_every : eval_every_;
}

ordered_json TrainRun::config_json(const TrainFlagTable& table) const {
    ordered_json json = table.to_json();
    json["text"] = flags_.text;
    if (!flags_.tune_products.empty()) json["tune_products"] = flags_.tune_products;
    json["resolved"] = {{"steps", total_steps_},
                        {"eval_every", eval_every_},
                        {"save_every", save_every_},
                        {"vocab_size", vocabulary_.size()},
                        {"text_characters", tokens_.size()},
                        {"text_hash", text_hash_},
                        {"train_characters", splits_.train.size()},
                        {"validation_characters", splits_.validation.size()},
                        {"test_characters", splits_.test.size()},
                        {"parameters", parameter_count(*trainer_)}};
    return json;
}

void TrainRun::describe() const {
    const std::int64_t parameters = parameter_count(*trainer_);
    note("text: " + std::to_string(tokens_.size()) + " characters, " +
         std::to_string(vocabulary_.size()) + " kinds; train " +
         std::to_string(splits_.train.size()) + ", validation " +
         std::to_string(splits_.validation.size()) + ", test " +
         std::to_string(splits_.test.size()));
    std::string where = trainer_->config().device.name();
    if (trainer_->config().device.type == DeviceType::kCpu) {
        const int threads = trainer_->model().params().context().pool()->num_threads();
        where += " with " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
    }
    note("model: " + to_string(trainer_->config().rnn_spec()) + ", " + std::to_string(parameters) +
         " parameters, on " + where);
    if (flags_.verbose) note(trainer_->model().plan().describe());
    note("run: '" + folder_ + "', updates " + std::to_string(trainer_->steps_done()) + " to " +
         std::to_string(total_steps_));
}

std::unique_ptr<TrainRun> TrainRun::start(const TrainFlags& flags, const TrainFlagTable& table) {
    std::unique_ptr<TrainRun> run(new TrainRun(flags));
    run->folder_ = flags.out.empty() ? free_folder() : flags.out;
    if (train::holds_run(run->folder_) && !train::holds_checkpoint(run->folder_)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "'" + run->folder_ +
                        "' holds a run that stopped before its first checkpoint; remove it, or "
                        "name another folder with --out");
    }
    if (train::holds_run(run->folder_)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "'" + run->folder_ + "' already holds a run; continue it with `" + program() +
                        " train --resume " + shell_quoted(run->folder_) +
                        "`, or name another folder with --out");
    }
    for (std::string& path : run->flags_.text) path = absolute_path(path);
    run->keep_tuning_file();
    run->load_text("");
    run->make_trainer();
    run->resolve_lengths();
    io::make_folder(run->folder_);
    run->lock_ = std::make_unique<io::FolderLock>(run->folder_);
    if (flags.text.empty()) io::write_file_atomic(run->folder_ + "/text.txt", builtin_text());
    io::write_file_atomic(run->folder_ + "/config.json", run->config_json(table).dump(2) + "\n");
    run->describe();
    return run;
}

std::unique_ptr<TrainRun> TrainRun::resume(TrainFlags& flags, TrainFlagTable& table) {
    const std::string folder = flags.resume;
    const std::string path = folder + "/config.json";
    if (!fs::exists(path)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--resume '" + folder + "' holds no run: there is no '" + path + "'");
    }
    const ordered_json config = io::parse_json_ordered(io::read_file(path), path);
    const bool is_plateau = config.contains("schedule") && config["schedule"].is_string() &&
                            config["schedule"].get<std::string>().rfind("plateau", 0) == 0;
    if (is_plateau && table.given("eval_every")) {
        throw Error(
            ErrorCode::kInvalidArgument,
            "--eval-every cannot change in a run with --schedule plateau, which depends on it");
    }
    table.apply_run(config, path);
    std::unique_ptr<TrainRun> run(new TrainRun(flags));
    run->folder_ = folder;
    run->lock_ = std::make_unique<io::FolderLock>(folder);
    run->keep_tuning_file();
    // A run that goes on on the CPU leaves the file of its device alone.
    if (!table.given("tune_products") && resolve_device(flags.device).type == DeviceType::kCpu) {
        run->flags_.tune_products.clear();
    }
    read_last(folder, [&] {
        run->vocabulary_ = train::read_model_file(train::last_folder(folder)).vocabulary;
    });
    run->load_text(folder + "/text.txt");
    const ordered_json resolved = config.value("resolved", ordered_json::object());
    if (resolved.value("text_hash", std::string()) != run->text_hash_) {
        throw Error(ErrorCode::kInvalidArgument,
                    "the text of the run '" + folder +
                        "' has changed since it was started; put the old text back, or start a run "
                        "of its own with --out");
    }
    run->make_trainer();
    run->resolve_lengths();
    read_last(folder, [&] { run->progress_ = train::load_checkpoint(folder, *run->trainer_); });
    run->batcher_->set_cursor(run->progress_.cursor);
    run->saved_step_ = run->trainer_->steps_done();
    if (run->trainer_->steps_done() >= run->total_steps_) {
        note("the run '" + folder +
             "' is complete: " + std::to_string(run->trainer_->steps_done()) +
             " updates; give --steps or --epochs for more");
        return run;
    }
    cut_metrics(folder + "/metrics.jsonl", run->trainer_->steps_done());
    io::write_file_atomic(path, run->config_json(table).dump(2) + "\n");
    run->describe();
    return run;
}

void TrainRun::evaluate(TrainProgress& progress, bool on_schedule) {
    if (splits_.validation.size() < 2 || evaluated_step_ == trainer_->steps_done()) return;
    evaluated_step_ = trainer_->steps_done();
    const train::Evaluation result =
        train::evaluate(trainer_->model(), tokens_.data() + splits_.validation.begin,
                        splits_.validation.size(), trainer_->config().batch_size);
    progress.validation(result.loss());
    // Only evaluations that every run of this configuration has may steer the training.
    if (on_schedule) trainer_->schedule().observe(result.loss());
    pending_metrics_.push_back(
        ordered_json{{"step", trainer_->steps_done()},
                     {"validation_loss_nats", result.loss()},
                     {"validation_bits_per_char", bits_per_char(result.loss())},
                     {"validation_perplexity", perplexity(result.loss())}}
            .dump());
    if (!std::isfinite(result.loss())) {
        return note_divergence("the validation loss after update " +
                               std::to_string(trainer_->steps_done()));
    }
    diverged_ = false;
    if (progress_.has_best && !(result.loss() < progress_.best_loss)) return;
    progress_.has_best = true;
    progress_.best_loss = result.loss();
    progress_.best_step = trainer_->steps_done();
    progress_.cursor = batcher_->cursor();
    train::save_checkpoint(folder_, "best", *trainer_, vocabulary_, progress_);
}

/// Says so once. The run goes on, since updates with gradients that are not finite change nothing; if no
/// validation loss is finite again, it ends as failed.
void TrainRun::note_divergence(const std::string& what) {
    if (diverged_) return;
    diverged_ = true;
    note("carousel: " + what +
         " is not a finite number: the training has diverged. Start again with a lower --lr, or a "
         "lower --clip-norm.");
}

void TrainRun::save_last() {
    if (saved_step_ == trainer_->steps_done()) return;
    progress_.cursor = batcher_->cursor();
    train::save_checkpoint(folder_, "last", *trainer_, vocabulary_, progress_);
    products_->store();
    saved_step_ = trainer_->steps_done();
}

/// Waits for the newest update and shows its numbers.
void TrainRun::finish_step(TrainProgress& progress) {
    if (!pending_.valid()) return;
    const train::LmTrainer::StepResult result = trainer_->finish_step(std::move(pending_));
    progress.update(result.number, result);
    if (!std::isfinite(result.loss())) {
        note_divergence("the loss of update " + std::to_string(result.number));
    }
    ordered_json line = {{"step", result.number},
                         {"loss_nats", result.loss()},
                         {"bits_per_char", bits_per_char(result.loss())},
                         {"lr", result.lr},
                         {"grad_norm", result.grad_norm},
                         {"chars_per_second", std::llround(progress.chars_per_second())}};
    if (result.skipped) line["skipped"] = true;
    pending_metrics_.push_back(line.dump());
}

int TrainRun::train() {
    if (trainer_->steps_done() >= total_steps_) return kExitDone;
    catch_interrupts();
    io::LineFile metrics(folder_ + "/metrics.jsonl");
    TrainProgress progress(trainer_->steps_done(), total_steps_, trainer_->config().batch_size);
    const auto flush_metrics = [&] {
        for (const std::string& line : pending_metrics_) metrics.append(line);
        pending_metrics_.clear();
    };
    while (trainer_->steps_done() < total_steps_ && !interrupted()) {
        // A device works on one update while the next batch is read and enqueued.
        train::LmTrainer::PendingStep next = trainer_->begin_step(*batcher_);
        finish_step(progress);
        pending_ = std::move(next);
        const std::int64_t step = trainer_->steps_done();
        const bool evaluates = step % eval_every_ == 0 || step == total_steps_;
        const bool saves = step % save_every_ == 0 || step == total_steps_ || interrupted();
        if (evaluates || saves) {
            finish_step(progress);
            progress.pause_clock();
            if (evaluates) evaluate(progress, step % eval_every_ == 0);
            if (saves) save_last();
            flush_metrics();
            progress.resume_clock();
            if (evaluates) progress.show();
        } else if (pending_metrics_.size() >= 64) {
            flush_metrics();
        }
    }
    finish_step(progress);
    save_last();
    flush_metrics();
    progress.finish();
    if (flags_.verbose) note(trainer_->graphs().describe());
    if (trainer_->steps_done() < total_steps_) {
        note("interrupted after update " + std::to_string(trainer_->steps_done()) +
             "; saved. Continue with:");
        note(program() + " train --resume " + shell_quoted(folder_));
        return kExitInterrupted;
    }
    report_end();
    return diverged_ ? kExitFailed : kExitDone;
}

void TrainRun::report_end() {
    char text[160];
    if (progress_.has_best) {
        std::snprintf(text, sizeof(text),
                      "best validation: %.4f nats, %.3f bits/char, after update %lld",
                      progress_.best_loss, bits_per_char(progress_.best_loss),
                      static_cast<long long>(progress_.best_step));
        note(text);
    }
    if (diverged_ && !progress_.has_best) return;  // there are no weights to use
    if (splits_.test.size() >= 2) {
        const auto model = train::load_model(
            train::checkpoint_folder(folder_), trainer_->config(), trainer_->model().max_steps(),
            trainer_->config().batch_size, trainer_->model().params().context().pool());
        const train::Evaluation test =
            train::evaluate(*model, tokens_.data() + splits_.test.begin, splits_.test.size(),
                            trainer_->config().batch_size);
        std::snprintf(text, sizeof(text), "test: %.4f nats, %.3f bits/char, perplexity %.3f",
                      test.loss(), bits_per_char(test.loss()), perplexity(test.loss()));
        note(text);
    }
    note("sample it with: " + program() + " sample " + shell_quoted(folder_));
}

}  // namespace carousel::cli
