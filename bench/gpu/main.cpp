#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/core/carousel_side.hpp"
#include "bench/core/environment.hpp"
#include "bench/core/report.hpp"
#include "bench/core/row_bench.hpp"
#include "bench/gpu/cuda_timer.hpp"
#include "bench/gpu/cudnn_side.hpp"
#include "bench/gpu/environment.hpp"
#include "bench/gpu/gemm_side.hpp"
#include "bench/gpu/gpu_flags.hpp"
#include "carousel/error.hpp"
#include "src/backend/cuda/device_query.hpp"

// carousel_bench_gpu: Carousel on a CUDA device beside cuDNN and the bare products, in one process and
// in turn. README.md says what is counted.

namespace carousel::bench {
namespace {

constexpr int kNoDevice = 77;
constexpr std::size_t kFlushBytes = std::size_t{256} << 20;  // several times any L2

double now_s() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

void print(const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
}

class Run {
public:
    explicit Run(const GpuFlags& flags)
        : flags_(flags),
          figures_(flags.probes.empty() ? estimated_figures() : figures_from_probes(flags.probes)) {
    }

    int all(const std::vector<GridCase>& cases) {
        const double begin = now_s();
        use_cuda_device(flags_.device);
        venue_.api = cuda::device_api(flags_.device);
        venue_.queue = venue_.api->default_queue();
        const auto timer = make_cuda_timer();
        venue_.timer = timer.get();
        venue_.turn_ms = flags_.turn_ms;
        const Buffer flush(flags_.l2 == "warm" ? 0 : kFlushBytes, venue_.api->device(), "L2 flush");
        header(cases.size());
        std::size_t done = 0;
        for (; done < cases.size(); ++done) {
            if (flags_.budget_s > 0.0 && now_s() - begin > flags_.budget_s) break;
            const GridCase& c = cases[done];
            if (!c.not_yet.empty()) {
                print_line(json_of_missing(c, c.not_yet, "gpu"), flags_.json);
                continue;
            }
            if (flags_.l2 != "flushed") row(c, nullptr);
            if (flags_.l2 != "warm") row(c, flush.data());
        }
        footer(cases, done, now_s() - begin);
        return failures_ == 0 ? 0 : 1;
    }

private:
    void header(std::size_t rows) const {
        const cuda::DeviceCaps& caps = venue_.api->caps();
        nlohmann::ordered_json j{{"bench", "gpu"},
                                 {"about", "machine"},
                                 {"gpu", caps.name},
                                 {"sms", caps.num_sms},
                                 {"driver_cuda", cuda_version_text(caps.driver_version)},
                                 {"cuda_runtime", cuda_version_text(caps.runtime_version)},
                                 {"cublaslt", cublaslt_version()},
                                 {"cudnn", cudnn_version()},
                                 {"smi", smi_report(flags_.device)},
                                 {"commit", source_commit()},
                                 {"date", utc_now()},
                                 {"flags", flags_.command_line},
                                 {"rows", rows},
                                 {"bound", figures_.source}};
        if (!cudnn_reason().empty()) j["cudnn_absent"] = cudnn_reason();
        if (flags_.json) return print(j.dump());
        print(j.dump(2));
        print(
            "us per layer and step, median; ratio: the best peer's time over Carousel's, pair by "
            "pair; reserve and work in MiB; * L2 flushed");
        print(table_head());
    }

    void row(const GridCase& c, void* flush_memory) {
        GpuVenue venue = venue_;
        venue.flush_memory = flush_memory;
        venue.flush_bytes = flush_memory == nullptr ? 0 : kFlushBytes;
        const auto api = venue_.api;
        const Algorithm algorithm = flags_.algorithm;
        SideMaker ours;
        ours.name = "carousel";
        ours.make = [algorithm](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
            return std::make_unique<CarouselSide>(p, a, algorithm);
        };
        std::vector<SideMaker> others;
        if (flags_.peer_cudnn) {
            for (const CudnnOptions& options : cudnn_candidates(c, flags_.all_math)) {
                const auto& algos = flags_.cudnn_algos;
                const bool wanted = algos.empty() || std::count(algos.begin(), algos.end(),
                                                                cudnn_algo_name(options.algo)) > 0;
                if (!wanted) continue;
                SideMaker maker;
                maker.name = "cudnn " + options.name();
                maker.resets = false;
                maker.make = [api, options](const Problem& p, Arena& a) {
                    return make_cudnn_side(p, a, api, options);
                };
                others.push_back(std::move(maker));
            }
        }
        if (flags_.peer_gemm) {
            SideMaker maker;
            maker.name = "gemm";
            maker.is_peer = maker.checked = false;
            maker.make = [api](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
                return std::make_unique<GemmSide>(p, a, api);
            };
            others.push_back(std::move(maker));
        }
        RowOptions options;
        options.passes = flags_.passes;
        options.min_pairs = flags_.min_pairs;
        options.pass_ms = flags_.pass_ms;
        const RowResult result = run_row(c, venue, ours, others, options);
        if (!result.failed.empty()) {
            ++failures_;
            print_line(json_of_missing(c, result.failed, "gpu"), flags_.json);
        }
        ReportOptions report;
        report.bench = "gpu";
        report.pytorch_choice = "cudnn " + pytorch_choice(c).name();
        report.bound = [this](const PassResult& p) {
            return lower_bound(p.grid_case, p.pass, figures_);
        };
        for (const auto& line : json_lines(result, report)) print_line(line, flags_.json);
    }

    void footer(const std::vector<GridCase>& cases, std::size_t done, double seconds) const {
        nlohmann::ordered_json j{{"bench", "gpu"},
                                 {"about", "end"},
                                 {"smi", smi_report(flags_.device)},
                                 {"seconds", static_cast<std::int64_t>(seconds)},
                                 {"rows_done", done}};
        nlohmann::ordered_json left = nlohmann::ordered_json::array();
        for (std::size_t i = done; i < cases.size(); ++i) left.push_back(cases[i].name());
        j["rows_left"] = left;
        print(flags_.json ? j.dump() : j.dump(2));
    }

    GpuFlags flags_;
    CardFigures figures_;
    GpuVenue venue_;
    int failures_ = 0;
};

int run(const GpuFlags& flags) {
    const std::vector<GridCase> cases = in_order_of_value(cases_of(flags));
    if (flags.list) {
        list_cases(cases);
        return 0;
    }
    const std::string reason = cuda_unusable_reason(flags.device);
    if (!reason.empty()) {
        const nlohmann::ordered_json j{{"bench", "gpu"}, {"no_device", reason}};
        print(flags.json ? j.dump() : "no device: " + reason);
        return kNoDevice;
    }
    return Run(flags).all(cases);
}

}  // namespace
}  // namespace carousel::bench

int main(int argc, char** argv) {
    try {
        const auto flags = carousel::bench::parse_gpu_flags({argv + 1, argv + argc});
        if (flags.help) {
            std::fputs(carousel::bench::gpu_help().c_str(), stdout);
            return 0;
        }
        return carousel::bench::run(flags);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "carousel_bench_gpu: %s\n", error.what());
        return 2;
    }
}
