#pragma once

#include <string>
#include <vector>

#include "bench/core/flags.hpp"

namespace carousel::bench {

/// The flags of carousel_bench_cpu.
struct CpuFlags : GridFlags {
    bool peer_onednn = true, peer_torch = false;
    int threads = 2;
    int visits = 3;
    std::string python;  ///< a python that has torch
};

/// Errors: InvalidArgument names the flag.
CpuFlags parse_cpu_flags(const std::vector<std::string>& arguments);
std::string cpu_help();

}  // namespace carousel::bench
