#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/core/carousel_side.hpp"
#include "bench/core/done_rows.hpp"
#include "bench/core/environment.hpp"
#include "bench/core/report.hpp"
#include "bench/core/row_bench.hpp"
#include "bench/gpu/cuda_timer.hpp"
#include "bench/gpu/cudnn_side.hpp"
#include "bench/gpu/environment.hpp"
#include "bench/gpu/gemm_side.hpp"
#include "bench/gpu/gpu_flags.hpp"
#include "bench/gpu/supervisor.hpp"
#include "carousel/error.hpp"
#include "src/backend/cuda/device_query.hpp"

// carousel_bench_gpu: Carousel on a CUDA device beside cuDNN and the bare products, in one process and
// in turn. README.md says what is counted.

namespace carousel::bench {
namespace {

constexpr int kNoDevice = 77;
constexpr std::size_t kFlushBytes = std::size_t{256} << 20;  // several times any L2
constexpr double kRowGraceS = 20.0;                          // beyond the budget, for a row begun
constexpr const char* kOurs = "carousel";

double now_s() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

void print(const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
}

/// What one worker process does.
class Run {
public:
    Run(const GpuFlags& flags, const Task& task, double begin_s)
        : flags_(flags),
          task_(task),
          begin_s_(begin_s),
          figures_(flags.probes.empty() ? estimated_figures() : figures_from_probes(flags.probes)) {
    }

    int all(const std::vector<GridCase>& cases) {
        use_cuda_device(flags_.device);
        limit_cudnn_compiling(flags_.compile_s);
        venue_.api = cuda::device_api(flags_.device);
        venue_.queue = venue_.api->default_queue();
        const auto timer = make_cuda_timer();
        venue_.timer = timer.get();
        venue_.turn_ms = flags_.turn_ms;
        const Buffer flush(flags_.l2 == "warm" ? 0 : kFlushBytes, venue_.api->device(), "L2 flush");
        if (task_.mishaps.empty()) header(cases.size());
        std::size_t done = task_.first_row;
        for (; done < cases.size() && in_time(0.0); ++done) {
            const GridCase& c = cases[done];
            task_.progress.begin_row(done);
            if (!c.not_yet.empty()) {
                print_line(json_of_missing(c, c.not_yet, "gpu"), flags_.json);
                continue;
            }
            if (flags_.l2 != "flushed") row(done, c, nullptr);
            if (flags_.l2 != "warm") row(done, c, flush.data());
        }
        footer(cases, done, now_s() - begin_s_);
        return failures_ == 0 ? 0 : 1;
    }

private:
    bool in_time(double grace_s) const {
        return flags_.budget_s <= 0.0 || now_s() - begin_s_ <= flags_.budget_s + grace_s;
    }

    /// Not again where it took the process with it.
    SideMaker spared(std::size_t row, SideMaker maker) const {
        const std::string why = excluded(task_, row, maker.name);
        if (why.empty()) return maker;
        maker.checked = true;  // which is where it says so
        maker.make = [why](const Problem&, Arena&) -> std::unique_ptr<Side> {
            throw Error(ErrorCode::kUnsupported, why);
        };
        return maker;
    }

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

    void row(std::size_t index, const GridCase& c, void* flush_memory) {
        GpuVenue venue = venue_;
        venue.flush_memory = flush_memory;
        venue.flush_bytes = flush_memory == nullptr ? 0 : kFlushBytes;
        const auto api = venue_.api;
        const Algorithm algorithm = flags_.algorithm;
        SideMaker ours;
        ours.name = kOurs;
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
                maker.screened = !(options == pytorch_choice(c));
                maker.make = [api, options](const Problem& p, Arena& a) {
                    return make_cudnn_side(p, a, api, options);
                };
                others.push_back(spared(index, std::move(maker)));
            }
        }
        if (flags_.peer_gemm) {
            SideMaker maker;
            maker.name = "gemm";
            maker.is_peer = maker.checked = false;
            maker.make = [api](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
                return std::make_unique<GemmSide>(p, a, api);
            };
            others.push_back(spared(index, std::move(maker)));
        }
        RowOptions options;
        options.passes = flags_.passes;
        options.min_pairs = flags_.min_pairs;
        options.pass_ms = flags_.pass_ms;
        options.running = [this](const std::string& side) { task_.progress.running(side); };
        options.goes_on = [this] { return in_time(kRowGraceS); };
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
    const Task& task_;
    double begin_s_;
    CardFigures figures_;
    GpuVenue venue_;
    int failures_ = 0;
};

int run(const GpuFlags& flags) {
    const double begin_s = now_s();
    std::vector<GridCase> cases = in_order_of_value(cases_of(flags));
    if (!flags.done.empty()) {
        const DoneRows done(flags.done);
        cases.erase(std::remove_if(cases.begin(), cases.end(),
                                   [&](const GridCase& c) {
                                       return (flags.l2 == "flushed" || done.has(c, false)) &&
                                              (flags.l2 == "warm" || done.has(c, true));
                                   }),
                    cases.end());
    }
    if (flags.list) {
        list_cases(cases);
        return 0;
    }
    const auto work = [&](const Task& task) {
        const std::string reason = cuda_unusable_reason(flags.device);
        if (reason.empty()) return Run(flags, task, begin_s).all(cases);
        const nlohmann::ordered_json j{{"bench", "gpu"}, {"no_device", reason}};
        print(flags.json ? j.dump() : "no device: " + reason);
        return kNoDevice;
    };
    if (flags.one_process) {
        Progress progress;
        return work({0, {}, progress});
    }
    SupervisorOptions options;
    options.most_silent_s = flags.hang_s;
    options.ours = kOurs;
    return supervise(work, options, [&](const Mishap& mishap) {
        const GridCase& c = cases.at(mishap.row);
        const std::string side = mishap.side.empty() ? "between the sides" : mishap.side;
        if (gives_up_row(mishap, options)) {
            print_line(json_of_missing(c, side + ": " + mishap.how, "gpu"), flags.json);
        } else {
            std::fprintf(stderr, "%s: %s: %s; the row begins anew without it\n", c.name().c_str(),
                         side.c_str(), mishap.how.c_str());
        }
    });
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
