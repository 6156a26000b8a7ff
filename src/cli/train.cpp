#include <memory>

#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/cli/train_flags.hpp"
#include "src/cli/train_run.hpp"

// `carousel train`: a character language model, from text files to a run directory.

namespace carousel::cli {

void add_train(CLI::App& app, Context& context) {
    CLI::App& command = *app.add_subcommand(
        "train", "Trains a character language model on text and writes a run directory");
    struct State {
        TrainFlags flags;
        std::unique_ptr<TrainFlagTable> table;
    };
    const auto state = std::make_shared<State>();
    state->table = std::make_unique<TrainFlagTable>(command, state->flags);
    command.callback([state, &context] {
        context.action = [state] {
            TrainFlags& flags = state->flags;
            if (!flags.resume.empty()) return TrainRun::resume(flags, *state->table)->train();
            if (!flags.config_file.empty()) state->table->apply_config_file(flags.config_file);
            return TrainRun::start(flags, *state->table)->train();
        };
    });
}

}  // namespace carousel::cli
