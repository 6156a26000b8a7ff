#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "bench/gpu/cuda_timer.hpp"
#include "bench/gpu/supervisor.hpp"
#include "bench/probes/measure.hpp"
#include "carousel/error.hpp"
#include "src/backend/cuda/device_query.hpp"

// carousel_probes: latencies and bandwidths that the lower bound and the choice of kernels rest on, as
// JSON lines. A probe that fails, or whose wait ran out, is a line with an "error"; one that takes the
// device or the process with it ends its kind, and the next kind has a process of its own.

namespace carousel::bench::probes {
namespace {

constexpr int kNoDevice = 77;

constexpr std::array<std::pair<const char*, void (Probes::*)()>, 10> kKinds{
    {{"launch", &Probes::launches},
     {"pointwise", &Probes::pointwise_chain},
     {"peak", &Probes::peaks},
     {"bandwidth", &Probes::bandwidths},
     {"occupancy", &Probes::occupancy},
     {"cluster", &Probes::clusters},
     {"l2_hop", &Probes::l2_hops},
     {"grid_barrier", &Probes::grid_barriers},
     {"resident", &Probes::resident},
     {"multicast", &Probes::multicasts}}};

constexpr const char* kHelp =
    "usage: carousel_probes [--only REGEX] [--device INDEX]\n"
    "\n"
    "Measures what the lower bound and the choice of kernels rest on, and prints JSON lines: "
    "launch,\n"
    "cluster, l2_hop, grid_barrier, occupancy, resident, multicast, pointwise, peak, bandwidth.\n"
    "For cards of compute capability 9.0. Without one it says so and ends with status 77.\n";

/// Why the probes cannot run; empty = they can.
std::string reason_against(int device) {
    const std::string reason = cuda_unusable_reason(device);
    if (!reason.empty()) return reason;
    const cuda::DeviceCaps caps = cuda_status().devices.at(static_cast<std::size_t>(device));
    if (caps.compute_major == 9 && caps.compute_minor == 0) return "";
    return "the probes are compiled for compute capability 9.0, and " + caps.name + " has " +
           std::to_string(caps.compute_major) + "." + std::to_string(caps.compute_minor);
}

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
    const auto work = [&](const Task& task) {
        if (const std::string reason = reason_against(device); !reason.empty()) {
            print({{"probe", "machine"}, {"no_device", reason}});
            return kNoDevice;
        }
        use_cuda_device(device);
        Probes probes(device, only, [&task] { task.progress.running(""); });
        if (task.mishaps.empty()) probes.header();
        for (std::size_t kind = task.first_row; kind < kKinds.size(); ++kind) {
            task.progress.begin_row(kind);
            (probes.*kKinds[kind].second)();
        }
        probes.footer();
        return 0;
    };
    return supervise(work, {}, [](const Mishap& mishap) {
        print({{"probe", kKinds.at(mishap.row).first}, {"error", mishap.how}});
    });
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
