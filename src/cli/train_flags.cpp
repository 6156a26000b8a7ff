#include "src/cli/train_flags.hpp"

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "carousel/error.hpp"
#include "src/cli/common.hpp"
#include "src/cli/tuned_products.hpp"
#include "src/io/file.hpp"
#include "src/io/json.hpp"
#include "src/train/parse.hpp"

namespace carousel::cli {

using nlohmann::ordered_json;

namespace {

/// `--optimizer KIND[:VALUE]`: the one number of each kind that people change.
OptimizerOptions optimizer_options(const std::string& text) {
    const std::size_t colon = text.find(':');
    OptimizerOptions options;
    options.kind = optimizer_parse(text.substr(0, colon));
    if (colon == std::string::npos) return options;
    const double value = train::parse_number(text.substr(colon + 1), "the value of --optimizer");
    switch (options.kind) {
        case OptimizerKind::kSgd:
            options.momentum = value;
            break;
        case OptimizerKind::kRmsprop:
            options.alpha = value;
            break;
        case OptimizerKind::kAdam:
        case OptimizerKind::kAdamW:
            options.weight_decay = value;
            break;
    }
    return options;
}

}  // namespace

train::LmConfig TrainFlags::lm_config() const {
    train::LmConfig config;
    config.cell = cell_parse(cell);
    config.embedding_size = one_hot ? 0 : embed;
    config.hidden_size = hidden;
    config.num_layers = layers;
    config.dropout = dropout;
    config.device = resolve_device(device);
    config.dtype = layer_dtype(dtype);
    config.graphs = !no_graphs;
    config.num_threads = threads;
    config.seq_len = seq_len;
    config.batch_size = batch;
    if (!tbptt.empty()) config.tbptt = tbptt_parse(tbptt);
    config.optimizer = optimizer_options(optimizer);
    config.optimizer.clip_value = clip_value;
    config.schedule = schedule_parse(schedule);
    config.schedule.lr_steps = lr_steps;
    config.lr = lr;
    if (loss != "mean" && loss != "sum-steps") {
        throw Error(ErrorCode::kInvalidArgument,
                    "--loss is '" + loss + "'; expected mean or sum-steps");
    }
    config.loss_scale = loss == "mean" ? train::LossScale::kTokens : train::LossScale::kStreams;
    config.clip_norm = clip_norm;
    config.init = train::init_parse(init);
    config.forget_bias = forget_bias;
    config.seed = seed;
    return config;
}

namespace {

/// True if a JSON value is of the kind that T is; a number is not cut or wrapped to fit.
template <class T>
bool holds(const ordered_json& json) {
    if constexpr (std::is_same_v<T, bool>) {
        return json.is_boolean();
    } else if constexpr (std::is_integral_v<T>) {
        if (json.is_number_unsigned()) return std::in_range<T>(json.get<std::uint64_t>());
        return json.is_number_integer() && std::in_range<T>(json.get<std::int64_t>());
    } else if constexpr (std::is_floating_point_v<T>) {
        return json.is_number();
    } else if constexpr (std::is_same_v<T, std::string>) {
        return json.is_string();
    } else {
        return json.is_array() && std::all_of(json.begin(), json.end(), [](const auto& element) {
                   return element.is_string();
               });
    }
}

/// What a JSON value must be for T.
template <class T>
const char* kind_name() {
    if constexpr (std::is_same_v<T, bool>) return "true or false";
    if constexpr (std::is_integral_v<T>) return "a whole number within its range";
    if constexpr (std::is_floating_point_v<T>) return "a number";
    if constexpr (std::is_same_v<T, std::string>) return "a text";
    return "a list of texts";
}

}  // namespace

template <class T>
void TrainFlagTable::bind(CLI::Option* option, T& value, bool may_change) {
    Row row;
    row.name = option->get_lnames().front();
    std::replace(row.name.begin(), row.name.end(), '-', '_');
    row.option = option;
    row.may_change = may_change;
    row.get = [&value] { return ordered_json(value); };
    row.set = [&value](const ordered_json& json) {
        if (!holds<T>(json)) throw std::invalid_argument(kind_name<T>());
        value = json.get<T>();
    };
    rows_.push_back(std::move(row));
}

TrainFlagTable::TrainFlagTable(CLI::App& app, TrainFlags& f) : flags_(f) {
    const auto option = [&](const char* name, auto& value, const char* text) {
        return app.add_option(name, value, text)->capture_default_str();
    };
    bind(app.add_option("--text", f.text,
                        "Text files, UTF-8, joined in order; default: the project's own sources"),
         f.text);
    bind(flag_cell(app, f.cell), f.cell);
    bind(flag_hidden(app, f.hidden), f.hidden);
    bind(flag_layers(app, f.layers), f.layers);
    CLI::Option* embed =
        option("--embed", f.embed, "Embedding size of a character [numbers]")->check(above_zero());
    bind(embed, f.embed);
    bind(app.add_flag("--one-hot", f.one_hot,
                      "Characters as one-hot vectors instead of an embedding")
             ->excludes(embed),
         f.one_hot);
    bind(flag_seq_len(app, f.seq_len), f.seq_len);
    bind(flag_batch(app, f.batch), f.batch);
    bind(option("--batching", f.batching,
                "sequential: parallel streams that carry state; random: windows in random order"),
         f.batching);
    bind(option("--optimizer", f.optimizer,
                "sgd[:MOMENTUM], rmsprop[:ALPHA], adam[:WEIGHT_DECAY] or adamw[:WEIGHT_DECAY]"),
         f.optimizer);
    bind(option("--lr", f.lr, "Learning rate")->check(above_zero()), f.lr);
    bind(option("--schedule", f.schedule,
                "constant, step[:GAMMA[,HOLD]], cosine[:WARMUP[,MINIMUM]] or "
                "plateau[:GAMMA[,PATIENCE]]; HOLD and WARMUP in steps, MINIMUM as a fraction of "
                "--lr, PATIENCE in evaluations"),
         f.schedule);
    bind(option("--lr-steps", f.lr_steps,
                "Horizon of the schedule [steps]: one stage of step, the whole of cosine"),
         f.lr_steps);
    bind(option("--loss", f.loss,
                "What gradients are taken of: mean over all characters of a window, or sum-steps: "
                "summed over time steps, averaged over sequences"),
         f.loss);
    bind(option("--clip-norm", f.clip_norm, "Largest norm of all gradients together; 0 = no limit")
             ->check(at_least_zero()),
         f.clip_norm);
    bind(option("--clip-value", f.clip_value, "Largest gradient element; 0 = no limit")
             ->check(at_least_zero()),
         f.clip_value);
    bind(option("--dropout", f.dropout, "Probability of dropping an output of a recurrent layer"),
         f.dropout);
    bind(option("--init", f.init, "Weights at the start: torch, or uniform:RANGE"), f.init);
    bind(option("--forget-bias", f.forget_bias,
                "LSTM: bias of the forget gate at the start; negative = as --init made it"),
         f.forget_bias);
    CLI::Option* epochs = app.add_option("--epochs", f.epochs,
                                         "Length of the training [passes over the training split]; "
                                         "5 if --steps is not given either")
                              ->check(at_least_zero());
    bind(epochs, f.epochs, true);
    bind(app.add_option("--steps", f.steps,
                        "Length of the training [updates since the very first one]")
             ->check(at_least_zero())
             ->excludes(epochs),
         f.steps, true);
    bind(
        app.add_option("--tbptt", f.tbptt,
                       "Truncated backpropagation: K1,K2 (every K1 steps an update whose gradients "
                       "flow back K2 steps) or random:MEAN; default: --seq-len for both"),
        f.tbptt);
    bind(option("--split", f.split, "Fractions for training, validation, test (0 if left out)"),
         f.split);
    bind(app.add_option("--eval-every", f.eval_every,
                        "Updates between validations; default: one epoch, at most 500")
             ->check(at_least_zero()),
         f.eval_every, true);
    bind(app.add_option("--save-every", f.save_every,
                        "Updates between checkpoints; default: as --eval-every")
             ->check(at_least_zero()),
         f.save_every, true);
    bind(flag_seed(app, f.seed), f.seed);
    bind(flag_device(app, f.device), f.device, true);
    bind(flag_dtype(app, f.dtype), f.dtype, true);
    bind(app.add_flag("--no-graphs", f.no_graphs,
                      "CUDA: enqueue each step anew instead of replaying it as one graph"),
         f.no_graphs, true);
    bind(flag_tune_products(app, f.tune_products), f.tune_products, true);
    bind(flag_threads(app, f.threads), f.threads, true);

    CLI::Option* out = app.add_option(
        "--out", f.out,
        "Folder of the run, which must not hold one yet; default: runs/1, runs/2, ...");
    CLI::Option* resume = app.add_option("--resume", f.resume,
                                         "Continue the run in this folder; needs no other flag");
    app.add_option("--config", f.config_file,
                   "JSON file with values for the flags, such as a run's config.json; flags given "
                   "here win")
        ->excludes(resume);
    out->excludes(resume);
    app.add_flag("--verbose", f.verbose,
                 "Also show how the recurrent stack is run, and at the end the recorded steps");
}

const TrainFlagTable::Row* TrainFlagTable::find(const std::string& name) const {
    for (const Row& row : rows_) {
        if (row.name == name) return &row;
    }
    return nullptr;
}

bool TrainFlagTable::given(const std::string& name) const {
    const Row* row = find(name);
    return row != nullptr && row->option->count() > 0;
}

void TrainFlagTable::set_row(const Row& row, const ordered_json& value, const std::string& path) {
    try {
        row.set(value);
    } catch (const std::invalid_argument& kind) {
        throw Error(ErrorCode::kInvalidArgument,
                    "'" + path + "': \"" + row.name + "\" is " + value.dump() + "; expected " +
                        kind.what() + ", as --" + row.option->get_lnames().front() + " takes it");
    }
}

void TrainFlagTable::apply_config_file(const std::string& path) {
    const ordered_json config = io::parse_json_ordered(io::read_file(path), path);
    if (!config.is_object()) {
        throw Error(ErrorCode::kInvalidArgument,
                    "'" + path + "' must be a JSON object with the names of flags as keys");
    }
    for (const auto& [name, value] : config.items()) {
        if (name == "resolved") continue;  // what a run worked out from the flags
        const Row* row = find(name);
        if (row == nullptr) {
            throw Error(ErrorCode::kInvalidArgument,
                        "'" + path + "': there is no flag for \"" + name +
                            "\"; names are those of `carousel train --help` with '_' for '-'");
        }
        if (row->option->count() > 0) continue;
        // Of two flags that exclude each other the one of the command line wins.
        if ((name == "steps" && given("epochs")) || (name == "epochs" && given("steps"))) continue;
        if ((name == "one_hot" && given("embed")) || (name == "embed" && given("one_hot")))
            continue;
        set_row(*row, value, path);
    }
}

void TrainFlagTable::apply_run(const ordered_json& config, const std::string& path) {
    if (!config.is_object()) {
        throw Error(ErrorCode::kIo, "'" + path + "' is not the configuration of a run");
    }
    for (const Row& row : rows_) {
        if (!config.contains(row.name)) {
            if (row.may_change) continue;  // a flag that came later
            throw Error(ErrorCode::kIo, "'" + path + "' has no \"" + row.name +
                                            "\"; it is not the configuration of a run "
                                            "of this version");
        }
        const ordered_json& of_run = config[row.name];
        if (row.option->count() > 0) {
            ordered_json here = row.get();
            if (row.name == "text") {
                for (auto& file : here) {
                    file = std::filesystem::absolute(file.get<std::string>())
                               .lexically_normal()
                               .string();
                }
            }
            if (row.may_change || here == of_run) continue;
            throw Error(ErrorCode::kInvalidArgument,
                        "--" + row.option->get_lnames().front() + " " + here.dump() +
                            " conflicts with the run, which was started with " + of_run.dump() +
                            "; leave the flag out, or start a run of its own with --out");
        }
        set_row(row, of_run, path);
    }
    // A new length replaces the old one, in whichever unit that was given.
    if (given("steps")) flags_.epochs = 0.0;
    if (given("epochs")) flags_.steps = 0;
}

ordered_json TrainFlagTable::to_json() const {
    ordered_json json = ordered_json::object();
    for (const Row& row : rows_) json[row.name] = row.get();
    return json;
}

}  // namespace carousel::cli
