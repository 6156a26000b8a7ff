#include "src/cli/bench_case.hpp"

#include <algorithm>
#include <utility>

#include "src/cli/common.hpp"

namespace carousel::cli {

const char* bench_mode_name(BenchMode mode) noexcept {
    switch (mode) {
        case BenchMode::kInfer:
            return "infer";
        case BenchMode::kForward:
            return "forward";
        case BenchMode::kBackward:
            return "backward";
        case BenchMode::kTrain:
            return "train";
    }
    return "?";
}

BenchMode bench_mode_parse(const std::string& text) {
    for (const BenchMode mode :
         {BenchMode::kInfer, BenchMode::kForward, BenchMode::kBackward, BenchMode::kTrain}) {
        if (text == bench_mode_name(mode)) return mode;
    }
    throw Error(ErrorCode::kInvalidArgument,
                "unknown --mode '" + text + "'; expected infer, forward, backward or train.");
}

double RnnCase::flops() const {
    const auto gates = static_cast<double>(spec.num_gates());
    const auto hidden = static_cast<double>(spec.hidden_size);
    const auto output = static_cast<double>(spec.output_size());
    double per_step = 0.0;
    for (std::int64_t layer = 0; layer < spec.num_layers; ++layer) {
        const auto input = static_cast<double>(spec.layer_input_size(layer));
        per_step += 2.0 * gates * hidden * (input + output);
        if (spec.proj_size > 0) per_step += 2.0 * hidden * output;
    }
    // Backward multiplies with each weight twice: for the gradient of its input and of itself.
    const double passes = mode == BenchMode::kBackward ? 2.0
                          : mode == BenchMode::kTrain  ? 3.0
                                                       : 1.0;
    return per_step * passes * static_cast<double>(spec.num_directions()) *
           static_cast<double>(plan.seq_len) * static_cast<double>(plan.batch_size);
}

nlohmann::ordered_json RnnCase::to_json() const {
    return {{"cell", cell_name(spec.cell)},
            {"hidden", spec.hidden_size},
            {"input", spec.input_size},
            {"batch", plan.batch_size},
            {"seq_len", plan.seq_len},
            {"layers", spec.num_layers},
            {"bidirectional", spec.bidirectional},
            {"proj", spec.proj_size},
            {"mode", bench_mode_name(mode)},
            {"device", plan.device.name()},
            {"dtype", dtype_name(spec.dtype)},
            {"threads", plan.num_threads}};
}

void add_rnn_case_flags(CLI::App& app, RnnCaseFlags& flags) {
    flag_cell(app, flags.cell);
    flag_hidden(app, flags.hidden);
    app.add_option("--input", flags.input,
                   "Input size [features]; a list a,b,... tries each [default: as --hidden]")
        ->delimiter(',')
        ->check(above_zero());
    flag_batch(app, flags.batch);
    flag_seq_len(app, flags.seq_len);
    flag_layers(app, flags.layers);
    app.add_flag("--bidirectional", flags.bidirectional, "Both directions, outputs concatenated");
    app.add_option("--proj", flags.proj, "Projection size, lstm only [units]; 0 = none")
        ->capture_default_str();
    app.add_option("--mode", flags.mode,
                   "infer (weights packed once), forward (saves for backward), backward (alone), "
                   "train (forward + backward, every gradient); all but infer take plain weights; "
                   "a list a,b,... tries each")
        ->delimiter(',')
        ->capture_default_str();
    flag_device(app, flags.device);
    flag_dtype(app, flags.dtype);
    flag_threads(app, flags.threads);
}

std::vector<std::vector<std::size_t>> combinations(const std::vector<std::size_t>& sizes) {
    std::vector<std::vector<std::size_t>> all{{}};
    for (const std::size_t size : sizes) {
        std::vector<std::vector<std::size_t>> longer;
        for (const auto& prefix : all) {
            for (std::size_t i = 0; i < size; ++i) {
                longer.push_back(prefix);
                longer.back().push_back(i);
            }
        }
        all = std::move(longer);
    }
    return all;
}

std::vector<RnnCase> expand(const RnnCaseFlags& flags) {
    return expand(flags, resolve_device(flags.device));
}

std::vector<RnnCase> expand(const RnnCaseFlags& flags, Device device) {
    std::vector<RnnCase> cases;
    for (const auto& digit : combinations(
             {flags.cell.size(), flags.hidden.size(), std::max<std::size_t>(1, flags.input.size()),
              flags.batch.size(), flags.seq_len.size(), flags.layers.size(), flags.mode.size(),
              flags.dtype.size(), flags.threads.size()})) {
        RnnCase c;
        c.spec.cell = cell_parse(flags.cell[digit[0]]);
        c.spec.hidden_size = flags.hidden[digit[1]];
        c.spec.input_size = flags.input.empty() ? c.spec.hidden_size : flags.input[digit[2]];
        c.plan.batch_size = flags.batch[digit[3]];
        c.plan.seq_len = flags.seq_len[digit[4]];
        c.spec.num_layers = flags.layers[digit[5]];
        c.mode = bench_mode_parse(flags.mode[digit[6]]);
        c.spec.dtype = layer_dtype(flags.dtype[digit[7]]);
        c.plan.num_threads = flags.threads[digit[8]];
        c.spec.bidirectional = flags.bidirectional;
        c.spec.proj_size = flags.proj;
        c.plan.device = device;
        c.plan.training = c.mode != BenchMode::kInfer;
        validate(c.spec);
        cases.push_back(c);
    }
    return cases;
}

}  // namespace carousel::cli
