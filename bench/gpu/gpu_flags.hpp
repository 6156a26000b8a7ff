#pragma once

#include <string>
#include <vector>

#include "bench/core/lower_bound.hpp"
#include "carousel/rnn_plan.hpp"

namespace carousel::bench {

/// The flags of carousel_bench_gpu.
struct GpuFlags {
    std::string grid = "headline";
    std::string shapes = CAROUSEL_SHAPES_DIR "/grid.txt";
    std::string row = ".*";  ///< regular expression over the line
    std::string line;        ///< one row made of --cell, --hidden, …; empty = rows of the grid
    std::vector<std::string> dtypes;  ///< empty: the row's first
    bool every_dtype = false, every_cell = false;
    std::vector<Pass> passes{std::begin(kPasses), std::end(kPasses)};
    bool peer_cudnn = true, peer_gemm = true, all_math = false;
    std::vector<std::string> cudnn_algos;  ///< names; empty = all
    Algorithm algorithm = Algorithm::kAuto;
    std::string l2 = "warm";
    std::string probes;  ///< JSON lines of carousel_probes for the lower bound; empty = estimates
    int device = 0;
    int min_pairs = 5;
    double turn_ms = 20.0, pass_ms = 300.0, budget_s = 0.0;
    bool json = false, list = false, help = false;
    std::string command_line;
};

/// Errors: InvalidArgument names the flag.
GpuFlags parse_gpu_flags(const std::vector<std::string>& arguments);
std::string gpu_help();

}  // namespace carousel::bench
