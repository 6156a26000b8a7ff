#pragma once

#include <string>
#include <vector>

#include "bench/core/flags.hpp"
#include "carousel/rnn_plan.hpp"

namespace carousel::bench {

/// The flags of carousel_bench_gpu.
struct GpuFlags : GridFlags {
    bool peer_cudnn = true, peer_gemm = true, all_math = false;
    std::vector<std::string> cudnn_algos;  ///< names; empty = all
    Algorithm algorithm = Algorithm::kAuto;
    std::string l2 = "warm";
    std::string probes;  ///< JSON lines of carousel_probes for the lower bound; empty = estimates
    std::vector<std::string> done;  ///< files of JSON lines whose rows are left out
    double hang_s = 90.0, compile_s = 90.0;
    bool one_process = false;
    int device = 0;
};

/// Errors: InvalidArgument names the flag.
GpuFlags parse_gpu_flags(const std::vector<std::string>& arguments);
std::string gpu_help();

}  // namespace carousel::bench
