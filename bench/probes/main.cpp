#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <regex>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/core/driver.hpp"
#include "bench/gpu/cuda_timer.hpp"
#include "bench/gpu/environment.hpp"
#include "bench/probes/probes.hpp"
#include "carousel/error.hpp"
#include "src/backend/cuda/device_query.hpp"
#include "src/io/convert.hpp"

// carousel_probes: latencies and bandwidths that the lower bound and the choice of kernels rest on, as
// JSON lines. A probe that fails, or whose wait ran out, is a line with an "error".

namespace carousel::bench::probes {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kNoDevice = 77;
constexpr int kTrials = 7;
constexpr std::size_t kScratchBytes = std::size_t{64} << 20;
constexpr std::size_t kFlagBytes = 128 * 32 * sizeof(std::uint32_t);

void print(const Json& line) {
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
}

double rounded(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value);
    return std::strtod(text.data(), nullptr);
}

class Probes {
public:
    Probes(int device, const std::string& only)
        : api_(cuda::device_api(device)),
          queue_(api_->default_queue()),
          timer_(make_cuda_timer()),
          only_(only),
          device_(device),
          scratch_(kScratchBytes, api_->device(), "scratch of the probes"),
          flags_(kFlagBytes, api_->device(), "flags"),
          status_(256, api_->device(), "status") {
        scratch_.zero();
    }

    void header() const {
        const cuda::DeviceCaps& caps = api_->caps();
        print({{"probe", "machine"},
               {"gpu", caps.name},
               {"sms", caps.num_sms},
               {"driver_cuda", cuda_version_text(caps.driver_version)},
               {"cuda_runtime", cuda_version_text(caps.runtime_version)},
               {"cublaslt", cublaslt_version()},
               {"smi", smi_report(device_)},
               {"commit", source_commit()},
               {"date", utc_now()}});
    }
    void footer() const { print({{"probe", "end"}, {"smi", smi_report(device_)}}); }

    void launches();
    void clusters();
    void l2_hops();
    void grid_barriers();
    void occupancy();
    void resident();
    void multicasts();
    void pointwise_chain();
    void peaks();
    void bandwidths();

private:
    bool wanted(const std::string& name) const {
        return std::regex_search(name, std::regex(only_));
    }
    unsigned sms() const { return static_cast<unsigned>(api_->caps().num_sms); }

    /// One line, whatever `measure` says or throws. A lost device ends the program.
    void line(Json about, const std::function<void(Json&)>& measure) {
        try {
            measure(about);
        } catch (const Error& error) {
            if (error.code() == ErrorCode::kDeviceLost) {
                about["error"] = error.what();
                print(about);
                throw;
            }
            about["error"] = error.what();
        }
        print(about);
    }

    double queue_ms(const std::function<void()>& enqueue) {
        timer_->mark(queue_, 0);
        enqueue();
        timer_->mark(queue_, 1);
        return timer_->between_ms(0, 1);
    }

    /// Microseconds of one iteration: what more iterations take more, the median of some trials.
    /// Errors: Internal: a wait ran out, or wrong data arrived.
    double us_per_iteration(const std::function<cuda::Launch(const Common&)>& make,
                            std::uint32_t few, std::uint32_t many) {
        const auto run_ms = [&](std::uint32_t iterations) {
            api_->zero(queue_, flags_.data(), flags_.bytes());
            api_->zero(queue_, scratch_.data(), std::size_t{1} << 20);
            api_->zero(queue_, status_.data(), status_.bytes());
            Common common;
            common.iterations = iterations;
            common.status = status_.as<std::uint32_t>();
            const cuda::Launch launch = make(common);
            const double ms = queue_ms([&] { api_->launch(queue_, launch); });
            api_->synchronize(queue_);
            std::uint32_t status = kFine;
            copy_to_host(&status, status_.data(), sizeof status, api_->device());
            if (status != kFine) {
                throw Error(ErrorCode::kInternal,
                            status == kTimedOut ? "a wait ran out" : "wrong data arrived");
            }
            return ms;
        };
        run_ms(few);
        std::vector<double> trials;
        for (int i = 0; i < kTrials; ++i) {
            const double short_ms = run_ms(few), long_ms = run_ms(many);
            trials.push_back((long_ms - short_ms) * 1e3 / static_cast<double>(many - few));
        }
        return quantiles_of(trials).median;
    }

    std::shared_ptr<cuda::DeviceApi> api_;
    cuda::Queue queue_;
    std::unique_ptr<QueueTimer> timer_;
    std::string only_;
    int device_;
    Buffer scratch_, flags_, status_;
};

void Probes::launches() {
    if (!wanted("launch")) return;
    constexpr int kMany = 2000;
    const auto many = [&] {
        for (int i = 0; i < kMany; ++i) api_->launch(queue_, empty());
    };
    line({{"probe", "launch"}, {"kind", "stream"}}, [&](Json& j) {
        many();
        api_->synchronize(queue_);
        j["us"] = rounded(queue_ms(many) * 1e3 / kMany);
    });
    line({{"probe", "launch"}, {"kind", "graph_node"}}, [&](Json& j) {
        api_->begin_capture(queue_);
        void* graph = nullptr;
        try {
            many();
            graph = api_->end_capture(queue_, true);
        } catch (...) {
            api_->end_capture(queue_, false);
            throw;
        }
        if (graph == nullptr) throw Error(ErrorCode::kInternal, "nothing was recorded");
        for (int i = 0; i < 3; ++i) api_->launch_graph(queue_, graph);
        api_->synchronize(queue_);
        std::vector<double> trials;
        for (int i = 0; i < kTrials; ++i) {
            trials.push_back(queue_ms([&] { api_->launch_graph(queue_, graph); }));
        }
        api_->synchronize(queue_);
        api_->release_graph(graph);
        j["us"] = rounded(quantiles_of(trials).median * 1e3 / kMany);
    });
}

void Probes::clusters() {
    if (!wanted("cluster")) return;
    constexpr unsigned kMostShared = 227 * 1024;
    for (const unsigned cluster : {2U, 4U, 8U, 16U}) {
        for (const unsigned bytes : {512U, 1024U, 2048U, 4096U, 8192U, 16384U}) {
            for (const auto& [exchange, name] :
                 {std::pair{Exchange::kRing, "ring"}, std::pair{Exchange::kAllToAll, "all_to_all"},
                  std::pair{Exchange::kAllToAllBulk, "all_to_all_bulk"}}) {
                if (exchange != Exchange::kRing && (2 * cluster + 2) * bytes > kMostShared)
                    continue;
                // One cluster alone, and as many as surely fit.
                for (const unsigned clusters : {1U, std::max(1U, sms() / cluster / 2)}) {
                    const Json about{{"probe", "cluster"},
                                     {"kind", name},
                                     {"cluster", cluster},
                                     {"clusters", clusters},
                                     {"bytes", bytes}};
                    line(about, [&, kind = exchange](Json& j) {
                        double us = us_per_iteration(
                            [&](const Common& common) {
                                return cluster_exchange(common, kind, cluster, clusters, bytes);
                            },
                            200, 2200);
                        if (kind == Exchange::kRing) us /= cluster;  // of one hop
                        j["us"] = rounded(us);
                        const unsigned received =
                            kind == Exchange::kRing ? bytes : bytes * (cluster - 1);
                        j["gb_per_s_per_block"] = rounded(received / us * 1e-3);
                    });
                }
            }
        }
    }
}

void Probes::l2_hops() {
    if (!wanted("l2_hop")) return;
    for (const unsigned blocks : {32U, 64U, 128U}) {
        for (const unsigned bytes : {1024U, 2048U, 4096U, 8192U, 16384U, 32768U}) {
            if (bytes / 16 < blocks) continue;  // every block writes something
            for (const auto& [hop, name] : {std::pair{Hop::kSelfValidating, "self_validating"},
                                            std::pair{Hop::kReleaseFlag, "release_flag"},
                                            std::pair{Hop::kCounter, "counter"}}) {
                const Json about{
                    {"probe", "l2_hop"}, {"kind", name}, {"blocks", blocks}, {"bytes", bytes}};
                line(about, [&, kind = hop](Json& j) {
                    j["us"] = rounded(us_per_iteration(
                        [&](const Common& common) {
                            return l2_hop(common, kind, blocks, bytes, scratch_.data(),
                                          flags_.as<std::uint32_t>());
                        },
                        200, 2200));
                });
            }
        }
    }
}

void Probes::grid_barriers() {
    if (!wanted("grid_barrier")) return;
    for (const unsigned blocks : {32U, 64U, 128U, sms()}) {
        line({{"probe", "grid_barrier"}, {"blocks", blocks}}, [&](Json& j) {
            j["us"] = rounded(us_per_iteration(
                [&](const Common& common) {
                    return grid_barrier(common, blocks, flags_.as<std::uint32_t>());
                },
                200, 2200));
        });
    }
}

void Probes::occupancy() {
    if (!wanted("occupancy")) return;
    for (const unsigned cluster : {1U, 2U, 4U, 8U, 16U}) {
        line({{"probe", "occupancy"}, {"cluster", cluster}, {"shared_bytes", 227 * 1024}},
             [&](Json& j) {
                 const int fit = clusters_that_fit(cluster);
                 if (fit < 0) throw Error(ErrorCode::kCuda, "CUDA error " + std::to_string(-fit));
                 j["clusters"] = fit;
             });
        const auto launch = [&](bool cooperative) {
            return us_per_iteration(
                [&](const Common& common) {
                    cuda::Launch l = big_kernel(common, cluster, cluster);
                    l.cooperative = cooperative;
                    return l;
                },
                1, 2);
        };
        for (const bool cooperative : {false, true}) {
            line({{"probe", "launch_kind"}, {"cluster", cluster}, {"cooperative", cooperative}},
                 [&](Json& j) {
                     launch(cooperative);
                     j["runs"] = true;
                 });
        }
    }
}

void Probes::resident() {
    if (!wanted("resident")) return;
    std::vector<std::uint16_t> weights(kResidentBytes / 2);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        weights[i] = io::f64_to_bf16(0.05 * std::sin(static_cast<double>(i)));
    }
    const Buffer on_device(kResidentBytes, api_->device(), "weights");
    copy_to_device(on_device.data(), weights.data(), kResidentBytes, api_->device());
    for (const auto& [name, n] :
         {std::pair{"mma_sync", 8U}, std::pair{"mma_sync", 16U}, std::pair{"mma_sync", 32U},
          std::pair{"wgmma", 8U}, std::pair{"wgmma", 16U}, std::pair{"wgmma", 32U},
          std::pair{"wgmma", 64U}}) {
        const bool group = std::strcmp(name, "wgmma") == 0;
        line({{"probe", "resident"}, {"kind", name}, {"n", n}, {"blocks", sms()}},
             [&, columns = n](Json& j) {
                 const double us = us_per_iteration(
                     [&](const Common& common) {
                         auto* out = scratch_.as<float>();
                         return group
                                    ? wgmma_resident(common, columns, sms(), on_device.data(), out)
                                    : mma_resident(common, columns, sms(), on_device.data(), out);
                     },
                     100, 2100);
                 j["us"] = rounded(us);
                 j["tflops"] = rounded(2.0 * (kResidentBytes / 2.0) * columns * sms() / us * 1e-6);
             });
    }
}

void Probes::multicasts() {
    if (!wanted("multicast")) return;
    // Words of 1, beyond what us_per_iteration clears.
    std::byte* data = scratch_.as<std::byte>() + (std::size_t{2} << 20);
    const std::vector<std::uint32_t> ones(65536 / 4, 1);
    copy_to_device(data, ones.data(), 65536, api_->device());
    for (const bool split : {false, true}) {
        double flag_us = 0.0;
        for (const unsigned bytes : {0U, 16384U, 32768U, 65536U}) {
            line({{"probe", "multicast"}, {"split", split}, {"bytes", bytes}, {"cluster", 4}},
                 [&](Json& j) {
                     const double us = us_per_iteration(
                         [&](const Common& common) {
                             return multicast(common, split, bytes, data,
                                              flags_.as<std::uint32_t>());
                         },
                         200, 2200);
                     if (bytes == 0) flag_us = us;
                     j["round_us"] = rounded(us);  // flag, load, answer
                     j["us"] = rounded(us - flag_us);
                 });
        }
    }
}

void Probes::pointwise_chain() {
    if (!wanted("pointwise")) return;
    line({{"probe", "pointwise"}, {"cell", "lstm"}}, [&](Json& j) {
        j["us"] = rounded(us_per_iteration(
            [&](const Common& common) { return pointwise(common, scratch_.as<float>()); }, 1000,
            101'000));
    });
}

void Probes::peaks() {
    if (!wanted("peak")) return;
    for (const auto& [dtype, n] : {std::pair{DType::kBf16, 8192}, std::pair{DType::kF16, 8192},
                                   std::pair{DType::kTf32, 8192}, std::pair{DType::kF32, 4096},
                                   std::pair{DType::kF64, 4096}}) {
        line({{"probe", "peak"}, {"dtype", dtype_name(dtype)}, {"n", n}},
             [&, type = dtype, size = std::int64_t{n}](Json& j) {
                 const std::size_t matrix =
                     static_cast<std::size_t>(size * size) * dtype_bytes(type);
                 Buffer a(matrix, api_->device()), b(matrix, api_->device()),
                     c(matrix, api_->device());
                 Buffer workspace(api_->gemm_workspace_bytes() + 256, api_->device());
                 a.zero();
                 b.zero();
                 cuda::GemmArgs g;
                 g.trans_a = true;
                 g.m = g.n = g.k = g.lda = g.ldb = g.ldc = size;
                 g.dtype = type;
                 g.out_dtype = type == DType::kTf32 ? DType::kF32 : type;
                 g.a = a.data();
                 g.b = b.data();
                 g.c = c.data();
                 g.workspace = workspace.data();
                 g.workspace_bytes = workspace.bytes();
                 for (int i = 0; i < 3; ++i) api_->gemm(queue_, g);
                 constexpr int kMany = 10;
                 const double ms = queue_ms([&] {
                     for (int i = 0; i < kMany; ++i) api_->gemm(queue_, g);
                 });
                 api_->synchronize(queue_);
                 j["tflops"] = rounded(2e-9 * std::pow(static_cast<double>(size), 3) * kMany / ms);
             });
    }
}

void Probes::bandwidths() {
    if (!wanted("bandwidth")) return;
    line({{"probe", "bandwidth"}, {"level", "memory"}, {"kind", "copy"}}, [&](Json& j) {
        constexpr std::size_t kBytes = std::size_t{2} << 30;
        const Buffer from(kBytes, api_->device()), to(kBytes, api_->device());
        api_->copy(queue_, to.data(), from.data(), kBytes);
        constexpr int kMany = 10;
        const double ms = queue_ms([&] {
            for (int i = 0; i < kMany; ++i) api_->copy(queue_, to.data(), from.data(), kBytes);
        });
        api_->synchronize(queue_);
        j["tb_per_s"] = rounded(2.0 * kBytes * kMany / ms * 1e-9);
    });
    constexpr std::size_t kBytes = std::size_t{24} << 20;
    line({{"probe", "bandwidth"}, {"level", "l2"}, {"kind", "read"}, {"bytes", kBytes}},
         [&](Json& j) {
             const double us = us_per_iteration(
                 [&](const Common& common) {
                     return read_l2(common, scratch_.data(), kBytes, 2 * sms(),
                                    flags_.as<std::uint32_t>());
                 },
                 20, 220);
             j["tb_per_s"] = rounded(static_cast<double>(kBytes) / us * 1e-6);
         });
}

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
