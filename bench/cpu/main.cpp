#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/core/carousel_side.hpp"
#include "bench/core/environment.hpp"
#include "bench/core/report.hpp"
#include "bench/core/row_bench.hpp"
#include "bench/cpu/cpu_bound.hpp"
#include "bench/cpu/cpu_flags.hpp"
#include "bench/cpu/cpu_venue.hpp"
#include "bench/cpu/fma_peak.hpp"
#include "bench/cpu/onednn_side.hpp"
#include "bench/cpu/torch_side.hpp"
#include "carousel/error.hpp"

// carousel_bench_cpu: Carousel's CPU backend beside oneDNN and PyTorch, in turn. README.md says what is
// counted.

namespace carousel::bench {
namespace {

using Json = nlohmann::ordered_json;

double now_s() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

double best_of(const std::vector<double>& values) {
    return *std::max_element(values.begin(), values.end());
}

/// What the machine allowed at its best: neighbours only ever lower it.
LowerBound bound_of(const PassResult& p) {
    return cpu_lower_bound(p.grid_case, p.pass, best_of(p.looks("peak_gflops")),
                           best_of(p.looks("read_gb_s")));
}

/// Beside the common values: what the machine was like, and the ratio to the best peer visit by visit,
/// since it moves with the distance of the cores.
Json extras_of(const PassResult& p) {
    const std::vector<double> handoff = p.looks("handoff_ns");
    const auto [least, most] = std::minmax_element(handoff.begin(), handoff.end());
    Json by_visit = Json::array();
    const Standing* best = p.verdict.best_peer();
    for (const VisitNote& visit : p.visits) {
        if (best == nullptr || visit.ratios.count(best->name) == 0) continue;
        const std::vector<double>& seen = visit.looks.at("handoff_ns");
        by_visit.push_back({{"handoff_ns", {rounded(seen.front()), rounded(seen.back())}},
                            {"ratio", to_json(visit.ratios.at(best->name))}});
    }
    return {{"peak_gflops", rounded(best_of(p.looks("peak_gflops")))},
            {"read_gb_s", rounded(best_of(p.looks("read_gb_s")))},
            {"handoff_ns", {rounded(*least), rounded(*most)}},
            {"visits", p.visits.size()},
            {"by_visit", by_visit}};
}

class Run {
public:
    explicit Run(const CpuFlags& flags) : flags_(flags), venue_(flags.threads) {
        venue_.turn.timed_ms = flags.turn_ms;
    }

    /// Returns whether every row that can run was timed.
    bool all(const std::vector<GridCase>& cases) {
        const double begin = now_s();
        start_torch();
        header(cases.size());
        std::vector<std::unique_ptr<RowBench>> rows(cases.size());
        for (std::size_t i = 0; i < cases.size(); ++i) {
            if (cases[i].not_yet.empty()) rows[i] = make_row(cases[i]);
        }
        std::vector<int> visits(cases.size());
        for (int visit = 0; visit < flags_.visits; ++visit) {
            const bool last = visit + 1 == flags_.visits;
            for (std::size_t i = 0; i < cases.size(); ++i) {
                const bool in_time = flags_.budget_s <= 0.0 || now_s() - begin <= flags_.budget_s;
                if (rows[i] != nullptr && in_time) {
                    progress(visit, cases[i]);
                    rows[i]->visit();
                    ++visits[i];
                }
                if (last) report(cases[i], rows[i].get(), visits[i]);
            }
        }
        footer(now_s() - begin);
        return complete_;
    }

private:
    void start_torch() {
        if (!flags_.peer_torch) return;
        try {
            torch_ = std::make_shared<TorchProcess>(flags_.python, flags_.threads);
        } catch (const Error& error) {
            torch_absent_ = error.what();
        }
    }

    std::unique_ptr<RowBench> make_row(const GridCase& c) {
        const int threads = flags_.threads;
        SideMaker ours;
        ours.name = "carousel";
        ours.make = [threads](const Problem& p, Arena& a) -> std::unique_ptr<Side> {
            return std::make_unique<CarouselSide>(p, a, Algorithm::kAuto, threads);
        };
        RowOptions options;
        options.passes = flags_.passes;
        options.min_pairs = flags_.min_pairs;
        options.pass_ms = flags_.pass_ms;
        options.reference_threads = threads;
        return std::make_unique<RowBench>(c, venue_, ours, peers_of(c), options);
    }

    std::vector<SideMaker> peers_of(const GridCase& c) const {
        std::vector<SideMaker> peers;
        if (flags_.peer_onednn) {
            for (const WeightFormat format : {WeightFormat::kAny, WeightFormat::kPlain}) {
                SideMaker peer;
                peer.name = std::string("onednn ") + weight_format_name(format);
                peer.group = "onednn";
                peer.resets = false;
                peer.make = [this, format](const Problem& p, Arena&) -> std::unique_ptr<Side> {
                    return std::make_unique<OnednnSide>(p, format, flags_.threads);
                };
                peers.push_back(std::move(peer));
            }
        }
        const auto add_torch = [&](DType dtype) {
            SideMaker peer;
            peer.name = std::string("torch ") + dtype_name(dtype);
            peer.group = peer.name;
            peer.resets = false;
            peer.precision = dtype;
            // Another precision is shown beside, and is no peer of this one.
            peer.is_peer = dtype == c.spec.dtype;
            peer.make = [this, dtype](const Problem& p, Arena&) -> std::unique_ptr<Side> {
                if (torch_ == nullptr) throw Error(ErrorCode::kUnsupported, torch_absent_);
                return std::make_unique<TorchSide>(p, torch_, dtype);
            };
            peers.push_back(std::move(peer));
        };
        if (flags_.peer_torch) {
            add_torch(DType::kF32);
            add_torch(DType::kBf16);
        }
        return peers;
    }

    void header(std::size_t rows) const {
        Json j{{"bench", "cpu"},
               {"about", "machine"},
               {"cpu", processor_name()},
               {"fma_vectors", fma_peak_vectors()},
               {"threads", flags_.threads},
               {"onednn_version", OnednnSide::version()}};
        if (torch_ != nullptr) j["torch_version"] = torch_->version();
        if (!torch_absent_.empty()) j["torch_absent"] = torch_absent_;
        j.update(Json{{"commit", source_commit()},
                      {"date", utc_now()},
                      {"flags", flags_.command_line},
                      {"rows", rows},
                      {"visits", flags_.visits}});
        std::printf("%s\n", j.dump(flags_.json ? -1 : 2).c_str());
        if (!flags_.json) {
            std::printf(
                "us per layer and step, median; ratio: the best peer's time over Carousel's, pair "
                "by pair; reserve and work in MiB\n%s\n",
                table_head().c_str());
        }
        std::fflush(stdout);
    }

    void progress(int visit, const GridCase& c) const {
        std::fprintf(stderr, "visit %d of %d: %s\n", visit + 1, flags_.visits, c.row.text.c_str());
    }

    void report(const GridCase& c, const RowBench* row, int visits) {
        const std::string missing = row == nullptr ? c.not_yet
                                    : visits == 0  ? "not reached within --budget-s"
                                                   : row->result().failed;
        if (!missing.empty()) {
            complete_ = complete_ && row == nullptr;
            print_line(json_of_missing(c, missing, "cpu"), flags_.json);
        }
        if (row == nullptr || row->result().passes.empty()) return;
        ReportOptions options;
        options.bench = "cpu";
        options.pytorch_choice = "torch f32";
        options.bound = bound_of;
        options.extras = extras_of;
        for (const Json& line : json_lines(row->result(), options)) {
            print_line(line, flags_.json);
        }
    }

    void footer(double seconds) const {
        const Json j{{"bench", "cpu"},
                     {"about", "end"},
                     {"date", utc_now()},
                     {"seconds", static_cast<std::int64_t>(seconds)}};
        std::printf("%s\n", j.dump(flags_.json ? -1 : 2).c_str());
    }

    CpuFlags flags_;
    CpuVenue venue_;
    std::shared_ptr<TorchProcess> torch_;
    std::string torch_absent_;
    bool complete_ = true;
};

int run(const CpuFlags& flags) {
    const std::vector<GridCase> cases = cases_of(flags);
    if (flags.list) {
        list_cases(cases);
        return 0;
    }
    return Run(flags).all(cases) ? 0 : 1;
}

}  // namespace
}  // namespace carousel::bench

int main(int argc, char** argv) {
    try {
        const auto flags = carousel::bench::parse_cpu_flags({argv + 1, argv + argc});
        if (flags.help) {
            std::fputs(carousel::bench::cpu_help().c_str(), stdout);
            return 0;
        }
        const int status = carousel::bench::run(flags);
        if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
            throw carousel::Error(carousel::ErrorCode::kIo,
                                  "the results could not all be written to the standard output; is "
                                  "the disk full?");
        }
        return status;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "carousel_bench_cpu: %s\n", error.what());
        return 2;
    }
}
