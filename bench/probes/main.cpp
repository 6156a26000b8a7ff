#include <cstdio>
#include <cstdlib>
#include <string>

#include "bench/gpu/cuda_timer.hpp"
#include "bench/probes/measure.hpp"
#include "carousel/error.hpp"
#include "src/backend/cuda/device_query.hpp"

// carousel_probes: latencies and bandwidths that the lower bound and the choice of kernels rest on, as
// JSON lines. A probe that fails, or whose wait ran out, is a line with an "error".

namespace carousel::bench::probes {
namespace {

constexpr int kNoDevice = 77;

constexpr const char* kHelp =
    "usage: carousel_probes [--only REGEX] [--device INDEX]\n"
    "\n"
    "Measures what the lower bound and the choice of kernels rest on, and prints JSON lines: "
    "launch,\n"
    "cluster, l2_hop, grid_barrier, occupancy, resident, multicast, pointwise, peak, bandwidth.\n"
    "For cards of compute capability 9.0. Without one it says so and ends with status 77.\n";

int run(int argc, char** argv) {
    std::string only = ".*";
    int device = 0;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (flag == "--help" || flag == "-h") {
            std::fputs(kHelp, stdout);
            return 0;
        }
        if ((flag != "--only" && flag != "--device") || i + 1 == argc) {
            throw Error(ErrorCode::kInvalidArgument, "unknown flag or no value: " + flag);
        }
        const std::string value = argv[++i];
        if (flag == "--only") {
            only = value;
        } else {
            device = std::atoi(value.c_str());
        }
    }
    std::string reason = cuda_unusable_reason(device);
    if (reason.empty()) {
        const cuda::DeviceCaps caps = cuda_status().devices.at(static_cast<std::size_t>(device));
        if (caps.compute_major != 9 || caps.compute_minor != 0) {
            reason = "the probes are compiled for compute capability 9.0, and " + caps.name +
                     " has " + std::to_string(caps.compute_major) + "." +
                     std::to_string(caps.compute_minor);
        }
    }
    if (!reason.empty()) {
        print({{"probe", "machine"}, {"no_device", reason}});
        return kNoDevice;
    }
    use_cuda_device(device);
    Probes probes(device, only);
    probes.header();
    probes.launches();
    probes.pointwise_chain();
    probes.peaks();
    probes.bandwidths();
    probes.occupancy();
    probes.clusters();
    probes.l2_hops();
    probes.grid_barriers();
    probes.resident();
    probes.multicasts();
    probes.footer();
    return 0;
}

}  // namespace
}  // namespace carousel::bench::probes

int main(int argc, char** argv) {
    try {
        return carousel::bench::probes::run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "carousel_probes: %s\n", error.what());
        return 2;
    }
}
