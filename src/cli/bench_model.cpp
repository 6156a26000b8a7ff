#include "src/cli/bench_model.hpp"

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/cli/bench_case.hpp"
#include "src/cli/bench_timing.hpp"
#include "src/cli/common.hpp"
#include "src/cli/tuned_products.hpp"
#include "src/train/lm_trainer.hpp"
#include "src/train/random.hpp"
#include "src/train/token_stream.hpp"

// `bench lm` and `bench sample`: the training step and the sampling step that `train` and `sample`
// run, on a model with fresh weights and synthetic ids.

namespace carousel::cli {
namespace {

struct ModelFlags {
    std::vector<std::string> cell{"lstm"};
    std::vector<std::int64_t> vocab{65};
    std::vector<std::int64_t> hidden{512};
    std::vector<std::int64_t> layers{2};
    std::vector<std::int64_t> batch{64};
    std::vector<std::int64_t> seq_len{64};
    std::vector<std::string> optimizer{"adam"};
    std::vector<std::string> dtype{"f32"};
    std::vector<int> threads{0};
    std::int64_t embed = -1;  ///< -1: as hidden
    bool one_hot = false;
    double clip_norm = 1.0;
    double dropout = 0.0;
    bool no_graphs = false;
    std::string tune_products;
    std::string device = "auto";
    TimingOptions timing;
    bool json = false;
};

void add_model_flags(CLI::App& app, ModelFlags& flags) {
    flag_cell(app, flags.cell);
    app.add_option("--vocab", flags.vocab, "Vocabulary [tokens]; a list a,b,... tries each")
        ->delimiter(',')
        ->capture_default_str()
        ->check(above_zero());
    flag_hidden(app, flags.hidden);
    flag_layers(app, flags.layers);
    CLI::Option* embed =
        app.add_option("--embed", flags.embed, "Embedding size [features] [default: as --hidden]")
            ->check(above_zero());
    app.add_flag("--one-hot", flags.one_hot, "One-hot input instead of an embedding")
        ->excludes(embed);
    flag_device(app, flags.device);
    flag_dtype(app, flags.dtype);
    flag_threads(app, flags.threads);
    app.add_flag("--no-graphs", flags.no_graphs,
                 "CUDA: enqueue each step anew instead of replaying a graph");
    flag_tune_products(app, flags.tune_products);
    add_timing_flags(app, flags.timing);
    flag_json(app, flags.json);
}

/// The models of all combinations of the flags.
std::vector<train::LmConfig> expand(const ModelFlags& flags) {
    std::vector<train::LmConfig> configs;
    const Device device = resolve_device(flags.device);
    for (const auto& digit :
         combinations({flags.cell.size(), flags.vocab.size(), flags.hidden.size(),
                       flags.layers.size(), flags.batch.size(), flags.seq_len.size(),
                       flags.optimizer.size(), flags.dtype.size(), flags.threads.size()})) {
        train::LmConfig c;
        c.cell = cell_parse(flags.cell[digit[0]]);
        c.vocab_size = flags.vocab[digit[1]];
        c.hidden_size = flags.hidden[digit[2]];
        c.num_layers = flags.layers[digit[3]];
        c.batch_size = flags.batch[digit[4]];
        c.seq_len = flags.seq_len[digit[5]];
        c.optimizer.kind = optimizer_parse(flags.optimizer[digit[6]]);
        c.dtype = layer_dtype(flags.dtype[digit[7]]);
        c.num_threads = flags.threads[digit[8]];
        c.embedding_size = flags.one_hot ? 0 : flags.embed > 0 ? flags.embed : c.hidden_size;
        c.clip_norm = flags.clip_norm;
        c.dropout = flags.dropout;
        c.device = device;
        c.graphs = !flags.no_graphs;
        // Small enough that no choice of flags drives the weights to infinity while it is timed.
        c.lr = 1e-4;
        train::validate(c);
        configs.push_back(c);
    }
    return configs;
}

/// Floating-point operations of one step's matrix products, of recurrent stack and output layer.
double flops_of(const train::LmConfig& config, BenchMode mode) {
    RnnCase c;
    c.spec = config.rnn_spec();
    c.mode = mode;
    c.plan.seq_len = config.seq_len;
    c.plan.batch_size = config.batch_size;
    const double tokens = static_cast<double>(config.seq_len * config.batch_size);
    const double passes = mode == BenchMode::kTrain ? 3.0 : 1.0;
    double flops = c.flops() + 2.0 * passes * tokens * static_cast<double>(config.hidden_size) *
                                   static_cast<double>(config.vocab_size);
    if (config.embedding_size == 0) {
        // A one-hot input is a row to be picked, not a product.
        flops -= 2.0 * passes * tokens * static_cast<double>(c.spec.num_gates()) *
                 static_cast<double>(c.spec.hidden_size) * static_cast<double>(c.spec.input_size);
    }
    return flops;
}

nlohmann::ordered_json json_of(const train::LmConfig& c, const char* what, int num_threads) {
    nlohmann::ordered_json json{{"bench", what},          {"cell", cell_name(c.cell)},
                                {"vocab", c.vocab_size},  {"hidden", c.hidden_size},
                                {"layers", c.num_layers}, {"embed", c.embedding_size}};
    if (std::string(what) == "lm") {
        json["batch"] = c.batch_size;
        json["seq_len"] = c.seq_len;
        json["optimizer"] = optimizer_name(c.optimizer.kind);
        json["clip_norm"] = c.clip_norm;
        json["dropout"] = c.dropout;
    }
    json["device"] = c.device.name();
    json["dtype"] = dtype_name(c.dtype);
    json["threads"] = num_threads;
    return json;
}

/// Ids drawn evenly from the vocabulary.
std::vector<std::int32_t> random_ids(std::int64_t n, std::int64_t vocab_size) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const double u = train::random_uniform(1, train::RandomStream::kSample, i);
        ids[i] = static_cast<std::int32_t>(u * static_cast<double>(vocab_size));
    }
    return ids;
}

int bench_lm(const ModelFlags& flags) {
    catch_interrupts();
    BenchReport report(flags.json);
    const std::vector<train::LmConfig> configs = expand(flags);
    TunedProducts products(configs.front().device, flags.tune_products);
    for (const train::LmConfig& config : configs) {
        train::LmTrainer trainer(config);
        trainer.model().initialize();
        const std::int64_t window = config.seq_len * config.batch_size;
        // Several windows in turn, so that an embedding's rows are not always the same ones.
        constexpr std::int64_t kWindows = 8;
        const auto ids = random_ids(kWindows * window + config.batch_size, config.vocab_size);
        std::int64_t turn = 0;
        // As `train` does: the next step is enqueued before the results of this one are read.
        train::LmTrainer::PendingStep pending;
        const Timing timing = measure(flags.timing, [&] {
            const std::int32_t* tokens = ids.data() + turn * window;
            train::LmTrainer::PendingStep next =
                trainer.begin_step(tokens, tokens + config.batch_size, config.seq_len, false);
            if (pending.valid()) trainer.finish_step(std::move(pending));
            pending = std::move(next);
            turn = (turn + 1) % kWindows;
        });
        if (interrupted()) return kExitInterrupted;
        report.add(json_of(config, "lm", trainer.model().plan().options().num_threads), timing,
                   flops_of(config, BenchMode::kTrain));
        products.store();
    }
    return kExitDone;
}

/// Of one of the `items` that each repetition made.
Timing per_item(Timing timing, std::int64_t items) {
    for (double* ms : {&timing.median_ms, &timing.p10_ms, &timing.p90_ms}) {
        *ms /= static_cast<double>(items);
    }
    return timing;
}

int bench_sample(const ModelFlags& flags) {
    catch_interrupts();
    BenchReport report(flags.json);
    const std::vector<train::LmConfig> configs = expand(flags);
    TunedProducts products(configs.front().device, flags.tune_products);
    for (train::LmConfig config : configs) {
        config.seq_len = 1;
        config.batch_size = 1;
        train::LmModel model(config, 1, 1, nullptr);
        model.initialize();
        train::StreamOptions options;
        options.prompt = {0};
        options.graphs = config.graphs;
        const auto stream = train::TokenStream::make(model, options);
        const std::int64_t tokens = stream->batch_size();
        const Timing timing = per_item(measure(flags.timing,
                                               [&] {
                                                   for (std::int64_t i = 0; i < tokens; ++i) {
                                                       stream->next();
                                                   }
                                               }),
                                       tokens);
        if (interrupted()) return kExitInterrupted;
        report.add(json_of(config, "sample", model.plan().options().num_threads), timing,
                   flops_of(config, BenchMode::kInfer));
        products.store();
    }
    return kExitDone;
}

}  // namespace

void add_bench_model(CLI::App& bench, Context& context) {
    CLI::App* lm = bench.add_subcommand(
        "lm", "Times one whole training step of a language model on synthetic ids");
    auto lm_flags = std::make_shared<ModelFlags>();
    add_model_flags(*lm, *lm_flags);
    flag_batch(*lm, lm_flags->batch);
    flag_seq_len(*lm, lm_flags->seq_len);
    lm->add_option("--optimizer", lm_flags->optimizer,
                   "sgd, rmsprop, adam, adamw; a list a,b,... tries each")
        ->delimiter(',')
        ->capture_default_str();
    lm->add_option("--clip-norm", lm_flags->clip_norm,
                   "Global gradient norm above which gradients are scaled down; 0 = no clipping")
        ->capture_default_str()
        ->check(at_least_zero());
    lm->add_option("--dropout", lm_flags->dropout,
                   "Probability of dropping an output of a recurrent layer")
        ->capture_default_str();
    lm->callback(
        [&context, lm_flags] { context.action = [lm_flags] { return bench_lm(*lm_flags); }; });

    CLI::App* sample =
        bench.add_subcommand("sample", "Times one sampled token: model step and draw");
    auto sample_flags = std::make_shared<ModelFlags>();
    add_model_flags(*sample, *sample_flags);
    sample->callback([&context, sample_flags] {
        context.action = [sample_flags] { return bench_sample(*sample_flags); };
    });
}

}  // namespace carousel::cli
