#include <unistd.h>

#include <memory>
#include <string>

#include "carousel/error.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/train/checkpoint.hpp"
#include "src/train/lm_sampler.hpp"
#include "src/train/random.hpp"

// `carousel sample`: text from a trained character model, one character at a time.

namespace carousel::cli {
namespace {

struct SampleFlags {
    std::string run;
    std::string prompt;
    std::int64_t length = 500;
    train::SampleOptions options;
    std::uint64_t seed = 1;
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
    train::TokenDraw draw(flags.options);
    const std::string folder = train::checkpoint_folder(flags.run);
    train::ModelFile file = train::read_model_file(folder);
    // The sampler runs on the CPU whatever the device, which must be there all the same.
    resolve_device(flags.device);
    file.config.num_threads = flags.threads;
    const std::vector<std::int32_t> prompt = first_tokens(file.vocabulary, flags.prompt);
    std::unique_ptr<train::LmModel> model = train::load_model(folder, file.config, 1, 1);
    train::LmSampler sampler(*model);
    model.reset();

    const bool streams = ::isatty(STDOUT_FILENO) == 1;
    print(flags.prompt);
    const double* logits = nullptr;
    for (const std::int32_t token : prompt) logits = sampler.next(token);
    std::string text;
    for (std::int64_t i = 0; i < flags.length; ++i) {
        const double uniform = train::random_uniform(flags.seed, train::RandomStream::kSample,
                                                     static_cast<std::uint64_t>(i));
        const std::int32_t token = draw(logits, sampler.vocab_size(), uniform);
        text.clear();
        data::append_utf8(text, file.vocabulary.code_point(token));
        print(text);
        if (streams) flush_output();
        if (i + 1 < flags.length) logits = sampler.next(token);
    }
    print_line("");
    return kExitDone;
}

}  // namespace

void add_sample(CLI::App& app, Context& context) {
    CLI::App& command = *app.add_subcommand(
        "sample", "Writes text with a trained model, to stdout, character by character");
    const auto flags = std::make_shared<SampleFlags>();
    command.add_option("RUN", flags->run, "Folder of the run (its best/ is used, else its last/)")
        ->required();
    command.add_option("--prompt", flags->prompt, "Text to continue; shown first");
    command.add_option("--length", flags->length, "Characters to write")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command
        .add_option(
            "--temperature", flags->options.temperature,
            "Divides the logits: below 1 bolder, above 1 wilder, 0 always the most probable")
        ->capture_default_str();
    command.add_option("--top-k", flags->options.top_k, "Draw among the K most probable; 0 = all")
        ->capture_default_str();
    command
        .add_option("--top-p", flags->options.top_p,
                    "Draw among the fewest characters whose probability reaches P; 1 = all")
        ->capture_default_str();
    flag_seed(command, flags->seed);
    flag_device(command, flags->device);
    flag_threads(command, flags->threads);
    command.callback([flags, &context] { context.action = [flags] { return sample(*flags); }; });
}

}  // namespace carousel::cli
