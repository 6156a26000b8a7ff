#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "src/data/batcher.hpp"
#include "src/data/text.hpp"
#include "src/train/lm_config.hpp"

namespace carousel::cli {

/// The values of `train`'s flags. Those in the table below stand in config.json under the flag's name
/// with '_' for '-', which is also what --config reads.
struct TrainFlags {
    std::vector<std::string> text;  ///< empty: the text built into the tool
    std::string cell = "lstm";
    std::int64_t hidden = 128;
    std::int64_t layers = 2;
    std::int64_t embed = 64;
    bool one_hot = false;
    std::int64_t seq_len = 64;
    std::int64_t batch = 32;
    std::string batching = "sequential";
    std::string optimizer = "adam";
    double lr = 0.002;
    std::string schedule = "constant";
    std::int64_t lr_steps = 0;
    std::string loss = "mean";
    double clip_norm = 1.0;
    double clip_value = 0.0;
    double dropout = 0.0;
    std::string init = "torch";
    double forget_bias = 1.0;
    double epochs = 0.0;
    std::int64_t steps = 0;
    std::string tbptt;
    std::string split = "0.9,0.05,0.05";
    std::int64_t eval_every = 0;
    std::int64_t save_every = 0;
    std::uint64_t seed = 1;
    std::string device = "auto";
    std::string dtype = "f32";
    bool no_graphs = false;
    std::string tune_products;  ///< empty: no tuning
    int threads = 0;

    std::string out, resume, config_file;
    bool verbose = false;

    /// The model and its training; vocab_size is left to the caller. InvalidArgument names the flag.
    train::LmConfig lm_config() const;
};

/// Declares the flags on a CLI11 app and moves their values to and from JSON.
class TrainFlagTable {
public:
    TrainFlagTable(CLI::App& app, TrainFlags& flags);

    /// Sets every flag that the command line did not give from a --config file. Io: not JSON;
    /// InvalidArgument: an unknown name or a value of the wrong kind.
    void apply_config_file(const std::string& path);
    /// Sets every flag from the config.json of a run. A flag that the command line gave another value
    /// is InvalidArgument, except those that do not change what is computed.
    void apply_run(const nlohmann::ordered_json& config, const std::string& path);
    /// All values, in the order of --help.
    nlohmann::ordered_json to_json() const;
    bool given(const std::string& name) const;  ///< on the command line; name as in config.json

private:
    struct Row {
        std::string name;  ///< as in config.json
        CLI::Option* option;
        bool may_change;  ///< when a run is resumed
        std::function<nlohmann::ordered_json()> get;
        std::function<void(const nlohmann::ordered_json&)> set;
    };
    template <class T>
    void bind(CLI::Option* option, T& value, bool may_change = false);
    void set_row(const Row& row, const nlohmann::ordered_json& value, const std::string& path);
    const Row* find(const std::string& name) const;

    TrainFlags& flags_;
    std::vector<Row> rows_;
};

}  // namespace carousel::cli
