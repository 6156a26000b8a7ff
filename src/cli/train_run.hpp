#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/cli/train_flags.hpp"
#include "src/cli/tuned_products.hpp"
#include "src/io/folder_lock.hpp"
#include "src/train/checkpoint.hpp"

namespace carousel::cli {

/// One run of `train`: its text, its trainer, its folder.
class TrainRun {
public:
    /// A new run. Nothing is written before everything was checked and made.
    static std::unique_ptr<TrainRun> start(const TrainFlags& flags, const TrainFlagTable& table);
    /// Continues the run in flags.resume, whose configuration `flags` takes over.
    static std::unique_ptr<TrainRun> resume(TrainFlags& flags, TrainFlagTable& table);

    /// Trains to the end, or until Ctrl-C. Returns an exit code.
    int train();

private:
    explicit TrainRun(const TrainFlags& flags) : flags_(flags) {}
    void keep_tuning_file();
    void load_text(const std::string& builtin_copy);
    void make_trainer();
    void resolve_lengths();
    nlohmann::ordered_json config_json(const TrainFlagTable& table) const;
    void describe() const;
    void finish_step(class TrainProgress& progress);
    void evaluate(class TrainProgress& progress, bool on_schedule);
    void save_last();
    void note_divergence(const std::string& what);
    void report_end();

    TrainFlags flags_;
    std::string folder_;
    std::unique_ptr<io::FolderLock> lock_;  ///< of folder_: one process writes a run
    data::Vocabulary vocabulary_;
    std::vector<std::int32_t> tokens_;
    std::string text_hash_;
    data::TextSplits splits_;
    std::unique_ptr<TunedProducts> products_;
    std::unique_ptr<train::LmTrainer> trainer_;
    train::LmTrainer::PendingStep pending_;  ///< the newest update, until its numbers are shown
    std::unique_ptr<data::Batcher> batcher_;
    train::RunProgress progress_;
    std::int64_t total_steps_ = 0, eval_every_ = 0, save_every_ = 0;
    double updates_per_epoch_ = 0.0;
    std::int64_t saved_step_ = -1, evaluated_step_ = -1;
    bool diverged_ = false;  ///< a loss was not finite, and no validation loss since
    std::vector<std::string> pending_metrics_;
};

}  // namespace carousel::cli
