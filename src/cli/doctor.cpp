#include <dnnl.h>
#include <sched.h>
#include <unistd.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "src/backend/cpu/cpu_isa.hpp"
#include "src/backend/cuda/device_query.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/cli/doctor_selftest.hpp"

// `carousel doctor`: what this machine and this build are, and whether they compute rightly.

namespace carousel::cli {
namespace {

struct CpuInfo {
    std::string model = "unknown";
    std::vector<std::string> features;  ///< those that matter to the kernels and to oneDNN
};

CpuInfo read_cpu_info() {
    CpuInfo info;
    const std::vector<std::string> relevant{"sse4_2",      "avx",      "f16c",        "fma",
                                            "avx2",        "avx_vnni", "avx512f",     "avx512dq",
                                            "avx512bw",    "avx512vl", "avx512_vnni", "avx512_bf16",
                                            "avx512_fp16", "amx_bf16", "amx_int8",    "amx_tile"};
    std::ifstream file("/proc/cpuinfo");
    std::string line;
    bool flags_seen = false;
    while (std::getline(file, line)) {
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        const std::string value = colon + 2 <= line.size() ? line.substr(colon + 2) : "";
        if (line.rfind("model name", 0) == 0) info.model = value;
        if (line.rfind("flags", 0) == 0 && !flags_seen) {
            flags_seen = true;
            std::istringstream words(value);
            std::string word;
            while (words >> word) {
                if (std::find(relevant.begin(), relevant.end(), word) != relevant.end()) {
                    info.features.push_back(word);
                }
            }
        }
    }
    return info;
}

int usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::string eigen_version() {
    return std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
           std::to_string(EIGEN_MINOR_VERSION);
}

std::string onednn_version() {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
           std::to_string(v->patch);
}

std::string compiler_name() {
#if defined(__clang__)
    return std::string("clang ") + __clang_version__;
#else
    return std::string("gcc ") + __VERSION__;
#endif
}

nlohmann::ordered_json describe_system() {
    const CpuInfo cpu = read_cpu_info();
    const CudaStatus cuda = cuda_status();
    const auto cache_bytes = [](int name) { return std::max(0L, ::sysconf(name)); };
    return {{"kind", "system"},
            {"carousel", CAROUSEL_VERSION},
            {"compiler", compiler_name()},
            {"cpu", cpu.model},
            {"cpu_features", cpu.features},
            {"cores", ::sysconf(_SC_NPROCESSORS_ONLN)},
            {"usable_cores", usable_cores()},
            {"threads", ThreadPool().num_threads()},
            {"l2_bytes", cache_bytes(_SC_LEVEL2_CACHE_SIZE)},
            {"l3_bytes", cache_bytes(_SC_LEVEL3_CACHE_SIZE)},
            {"memory_bytes",
             static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE)},
            {"isa", cpu::isa_name(cpu::current_isa())},
            {"isa_best", cpu::isa_name(cpu::best_isa())},
            {"onednn", onednn_version()},
            {"eigen", eigen_version()},
            {"cuda_compiled", cuda.compiled},
            {"cuda_devices", cuda.device_count},
            {"cuda_status", cuda.reason.empty() ? "usable" : cuda.reason}};
}

void print_system(const nlohmann::ordered_json& s) {
    const auto text = [&](const char* key) {
        return s[key].is_string() ? s[key].get<std::string>() : s[key].dump();
    };
    std::string features;
    for (const auto& f : s["cpu_features"]) features += " " + f.get<std::string>();
    const auto size = [&](const char* key) { return bytes_text(s[key].get<std::uint64_t>()); };
    print_line("carousel     " + text("carousel"));
    print_line("compiler     " + text("compiler"));
    print_line("processor    " + text("cpu"));
    print_line("features    " + features);
    print_line("cores        " + text("cores") + ", usable " + text("usable_cores") +
               ", threads by default up to " + text("threads"));
    print_line("caches       L2 " + size("l2_bytes") + ", L3 " + size("l3_bytes"));
    print_line("memory       " + size("memory_bytes"));
    print_line("kernels      " + text("isa") +
               (s["isa"] == s["isa_best"]
                    ? ""
                    : " (forced; this processor has " + text("isa_best") + ")"));
    print_line("BLAS         oneDNN " + text("onednn") + " (f32), Eigen " + text("eigen") +
               " (f64)");
    print_line("GPU          " + (s["cuda_status"] == "usable"
                                      ? text("cuda_devices") + " CUDA device(s)"
                                      : text("cuda_status")));
}

std::string error_text(double error) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%8.1e", error);
    return text.data();
}

void print_self_test(const SelfTest& t) {
    std::string name = cell_name(t.cell);
    name.resize(18, ' ');
    print_line("  " + name + error_text(t.y_error) + "  " + error_text(t.dx_error) + "  " +
               error_text(t.dw_error) + (t.ok ? "  ok" : "  WRONG"));
}

int doctor(bool json) {
    const nlohmann::ordered_json system = describe_system();
    if (json) {
        print_line(system.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    } else {
        print_system(system);
        print_line("self-test    f32 against f64, largest error over largest value");
        print_line("  cell                     y        dx        dw");
    }
    bool all_ok = true;
    for (const SelfTest& t : run_self_tests(Device::cpu())) {
        all_ok = all_ok && t.ok;
        if (json) {
            const nlohmann::ordered_json line{{"kind", "self_test"},
                                              {"device", "cpu"},
                                              {"cell", cell_name(t.cell)},
                                              {"y_error", t.y_error},
                                              {"dx_error", t.dx_error},
                                              {"dw_error", t.dw_error},
                                              {"ok", t.ok}};
            print_line(line.dump());
        } else {
            print_self_test(t);
        }
    }
    if (!all_ok) {
        note(
            "carousel: the self-test failed: this build computes wrong numbers on this machine. "
            "Please report it with the output above.");
        return kExitFailed;
    }
    return kExitDone;
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
    CLI::App* command = app.add_subcommand(
        "doctor",
        "Shows processor, threads, libraries, GPU, and tests that the layers compute rightly");
    auto json = std::make_shared<bool>(false);
    flag_json(*command, *json);
    command->callback([&context, json] { context.action = [json] { return doctor(*json); }; });
}

}  // namespace carousel::cli
