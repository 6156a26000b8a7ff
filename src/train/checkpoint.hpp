#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "src/data/text.hpp"
#include "src/train/lm_trainer.hpp"

// A run directory:
//   config.json                 the resolved configuration
//   metrics.jsonl               one object per update and per evaluation
//   last/, best/                model.safetensors (weights, cell, vocabulary) and state.safetensors
//   text.txt                    the text, if it is the one built into the tool
// A checkpoint folder is written under another name, flushed, and exchanged with the old one in one
// step, so that a full disk or a crash leaves the old one whole.

namespace carousel::train {

/// What a run must keep besides the trainer itself.
struct RunProgress {
    data::BatchCursor cursor{};
    bool has_best = false;
    double best_loss = 0.0;  ///< lowest validation loss so far [nats per token]
    std::int64_t best_step = 0;
};

/// Writes `<run>/<which>/`. Io: the sentence names the file; the old checkpoint stays.
void save_checkpoint(const std::string& run, const std::string& which, LmTrainer& trainer,
                     const data::Vocabulary& vocabulary, const RunProgress& progress);

/// Sets a trainer made with the run's configuration to the state of `<run>/last/`.
/// Errors   Io: missing, cut short, or not of this configuration; names file and tensor.
RunProgress load_checkpoint(const std::string& run, LmTrainer& trainer);

/// The folder of the newest checkpoint: last/. Io if the run has none.
std::string last_folder(const std::string& run);
/// The folder to sample and score with: best/, else last/, or `run` itself where that is such a folder.
/// Io if there is no model in any.
std::string checkpoint_folder(const std::string& run);

/// What model.safetensors says of itself.
struct ModelFile {
    LmConfig config;  ///< cell and sizes
    data::Vocabulary vocabulary;
};
/// The vocabulary and the sizes of `<folder>/model.safetensors`, inferred from names and shapes.
ModelFile read_model_file(const std::string& folder);

/// Makes a model for `max_steps` of `batch_size` streams with the weights of `<folder>`.
std::unique_ptr<LmModel> load_model(const std::string& folder, const LmConfig& config,
                                    std::int64_t max_steps, std::int64_t batch_size,
                                    std::shared_ptr<ThreadPool> pool = nullptr);

/// True if a run lives in this folder.
bool holds_run(const std::string& folder);

/// True if there is something to continue from.
bool holds_checkpoint(const std::string& run);

}  // namespace carousel::train
