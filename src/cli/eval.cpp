#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "carousel/error.hpp"
#include "carousel/loss.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/train/checkpoint.hpp"

// `carousel eval`: how well a trained character model predicts a text.

namespace carousel::cli {
namespace {

// Steps of one call: long enough that the products are of matrices, short enough for the caches.
constexpr std::int64_t kChunkSteps = 256;

struct EvalFlags {
    std::string run;
    std::vector<std::string> text;
    bool json = false;
    std::string device = "auto";
    int threads = 0;
};

int eval(const EvalFlags& flags) {
    const std::string folder = train::checkpoint_folder(flags.run);
    train::ModelFile file = train::read_model_file(folder);
    file.config.device = resolve_device(flags.device);
    file.config.num_threads = flags.threads;
    const data::Text text = data::load_text(flags.text);
    const std::vector<std::int32_t> tokens = file.vocabulary.encode(text);
    if (tokens.size() < 2) {
        throw Error(
            ErrorCode::kInvalidArgument,
            "the text has 1 character; the first one is not scored, so there must be at least 2");
    }
    const std::unique_ptr<train::LmModel> model =
        train::load_model(folder, file.config, kChunkSteps, 1);
    const train::Evaluation result =
        train::evaluate(*model, tokens.data(), static_cast<std::int64_t>(tokens.size()), 1);
    const double loss = result.loss();
    if (!std::isfinite(loss)) {
        throw Error(ErrorCode::kIo,
                    "the loss of the text is not a finite number: the weights in '" + folder +
                        "' are too large, the training has diverged");
    }
    if (flags.json) {
        const nlohmann::ordered_json json = {{"loss_nats", loss},
                                             {"perplexity", perplexity(loss)},
                                             {"bits_per_char", bits_per_char(loss)},
                                             {"tokens", result.tokens}};
        print_line(json.dump());
        return kExitDone;
    }
    char line[160];
    std::snprintf(line, sizeof(line),
                  "loss %.4f nats  perplexity %.3f  bits/char %.3f  over %lld characters", loss,
                  perplexity(loss), bits_per_char(loss), static_cast<long long>(result.tokens));
    print_line(line);
    return kExitDone;
}

}  // namespace

void add_eval(CLI::App& app, Context& context) {
    CLI::App& command = *app.add_subcommand(
        "eval", "Scores text with a trained model: loss, perplexity, bits per character");
    const auto flags = std::make_shared<EvalFlags>();
    command
        .add_option("RUN", flags->run,
                    "Folder of the run (its best/ is used, else its last/), or one of these")
        ->required();
    command
        .add_option("--text", flags->text,
                    "Text files, UTF-8, scored as one stream; the first character is not scored")
        ->required();
    flag_json(command, flags->json);
    flag_device(command, flags->device);
    flag_threads(command, flags->threads);
    command.callback([flags, &context] { context.action = [flags] { return eval(*flags); }; });
}

}  // namespace carousel::cli
