#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/train/checkpoint.hpp"
#include "src/train/token_stream.hpp"

// `carousel sample`: text from a trained character model, one character at a time.

namespace carousel::cli {
namespace {

struct SampleFlags {
    std::string run;
    std::string prompt;
    std::int64_t length = 500;
    train::SampleOptions draw;
    std::uint64_t seed = 1;
    bool no_graphs = false;
    std::string device = "auto";
    int threads = 0;
};

/// What the model reads before it writes: the prompt, or a newline (else the first character of the
/// vocabulary), which is not shown.
std::vector<std::int32_t> first_tokens(const data::Vocabulary& vocabulary,
                                       const std::string& prompt) {
    if (!prompt.empty()) {
        return vocabulary.encode(
            data::decode_utf8(prompt, "--prompt", ErrorCode::kInvalidArgument));
    }
    const std::int32_t newline = vocabulary.find(U'\n');
    return {newline >= 0 ? newline : 0};
}

int sample(const SampleFlags& flags) {
    train::StreamOptions options;
    options.draw = flags.draw;
    options.seed = flags.seed;
    options.length = flags.length;
    options.graphs = !flags.no_graphs;
    train::validate(options.draw);
    const std::string folder = train::checkpoint_folder(flags.run);
    train::ModelFile file = train::read_model_file(folder);
    file.config.device = resolve_device(flags.device);
    file.config.num_threads = flags.threads;
    options.prompt = first_tokens(file.vocabulary, flags.prompt);
    std::unique_ptr<train::LmModel> model = train::load_model(folder, file.config, 1, 1);
    const auto stream = train::TokenStream::make(*model, std::move(options));
    model.reset();

    const bool shows = ::isatty(STDOUT_FILENO) == 1;
    print(flags.prompt);
    std::string text;
    for (std::int64_t i = 0; i < flags.length; ++i) {
        text.clear();
        data::append_utf8(text, file.vocabulary.code_point(stream->next()));
        print(text);
        if (shows) flush_output();
    }
    print_line("");
    return kExitDone;
}

}  // namespace

void add_sample(CLI::App& app, Context& context) {
    CLI::App& command = *app.add_subcommand(
        "sample", "Writes text with a trained model, to stdout, character by character");
    const auto flags = std::make_shared<SampleFlags>();
    command
        .add_option("RUN", flags->run,
                    "Folder of the run (its best/ is used, else its last/), or one of these")
        ->required();
    command.add_option("--prompt", flags->prompt, "Text to continue; shown first");
    command.add_option("--length", flags->length, "Characters to write")
        ->check(at_least_zero())
        ->capture_default_str();
    command
        .add_option(
            "--temperature", flags->draw.temperature,
            "Divides the logits: below 1 bolder, above 1 wilder, 0 always the most probable")
        ->capture_default_str();
    command.add_option("--top-k", flags->draw.top_k, "Draw among the K most probable; 0 = all")
        ->capture_default_str();
    command
        .add_option("--top-p", flags->draw.top_p,
                    "Draw among the fewest characters whose probability reaches P; 1 = all")
        ->capture_default_str();
    flag_seed(command, flags->seed);
    flag_device(command, flags->device);
    flag_threads(command, flags->threads);
    command.add_flag("--no-graphs", flags->no_graphs,
                     "CUDA: enqueue each character anew instead of replaying a graph of several");
    command.callback([flags, &context] { context.action = [flags] { return sample(*flags); }; });
}

}  // namespace carousel::cli
