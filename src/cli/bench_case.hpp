#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "carousel/rnn_plan.hpp"
#include "carousel/rnn_spec.hpp"

// The flags of `bench rnn` and `explain rnn`: lists of values, each combination of which is a case.

namespace carousel::cli {

/// All combinations of one index below each size; the last index varies fastest.
std::vector<std::vector<std::size_t>> combinations(const std::vector<std::size_t>& sizes);

/// What a case runs.
///   infer     forward for inference, weights packed once beforehand
///   forward   forward that saves for backward, plain weights
///   backward  backward alone, every gradient, plain weights
///   train     forward + backward
enum class BenchMode { kInfer, kForward, kBackward, kTrain };
const char* bench_mode_name(BenchMode mode) noexcept;
BenchMode bench_mode_parse(const std::string& text);  ///< InvalidArgument if unknown

/// One recurrent layer to be timed or explained.
struct RnnCase {
    RnnSpec spec;
    RnnPlanOptions plan;  ///< seq_len, batch_size, device, threads, training
    BenchMode mode = BenchMode::kTrain;

    /// Floating-point operations of the matrix products, multiply and add counted as two; the
    /// element-wise work is left out, as is customary.
    double flops() const;
    /// The flags' values, in the order of --help.
    nlohmann::ordered_json to_json() const;
};

struct RnnCaseFlags {
    std::vector<std::string> cell{"lstm"};
    std::vector<std::int64_t> hidden{512};
    std::vector<std::int64_t> input;  ///< empty: as hidden
    std::vector<std::int64_t> batch{64};
    std::vector<std::int64_t> seq_len{64};
    std::vector<std::int64_t> layers{1};
    std::vector<std::string> mode{"train"};
    std::vector<std::string> dtype{"f32"};
    std::vector<int> threads{0};
    std::string device = "auto";
    std::int64_t proj = 0;
    bool bidirectional = false;
};

void add_rnn_case_flags(CLI::App& app, RnnCaseFlags& flags);

/// All combinations on `device`, the last flag varying fastest. InvalidArgument if one is not a legal
/// layer.
std::vector<RnnCase> expand(const RnnCaseFlags& flags, Device device);
/// The same on the device that the flags name.
std::vector<RnnCase> expand(const RnnCaseFlags& flags);

}  // namespace carousel::cli
