#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/carousel_side.hpp"
#include "bench/fma_peak.hpp"
#include "bench/gpu/environment.hpp"
#include "bench/handoff.hpp"
#include "bench/onednn_side.hpp"
#include "bench/problem.hpp"
#include "bench/side_by_side.hpp"
#include "carousel/error.hpp"

// Carousel beside oneDNN's RNN primitives, in one process and in turn: checked against each other
// first, then timed. README.md says what is counted.

namespace carousel::bench {
namespace {

// f32 against f32, sums of up to 4,000 products over up to 100 steps; a wrong gate or bias is
// thousands of times further off.
constexpr double kLargestDifference = 1e-4;
constexpr int kMinRounds = 5;

struct Options {
    std::string shapes = CAROUSEL_SHAPES_DIR "/cpu.txt";
    std::string row = ".*";
    std::string pass = "both";
    double time_ms = 2000.0;
    int threads = 2;
    bool json = false;
};

constexpr const char* kHelp =
    "usage: carousel_bench_cpu [--shapes FILE] [--row REGEX] [--pass forward|train|both]\n"
    "                          [--time-ms MS] [--threads N] [--json]\n"
    "\n"
    "Times Carousel's recurrent layers beside oneDNN's, in turn, after comparing their results.\n"
    "  --grid cpu, --peer onednn\n"
    "                  what it runs anyway; other grids and peers are bench.py's\n"
    "  --shapes FILE   rows to run [default: bench/shapes/cpu.txt]\n"
    "  --row REGEX     only rows whose line the expression finds, e.g. '^lstm H512 N1 '\n"
    "  --pass PASS     forward, train (forward + backward) or both [default: both]\n"
    "  --time-ms MS    time for each row and pass, at least 5 rounds [default: 2000]\n"
    "  --threads N     threads of each side [default: 2]\n"
    "  --json          JSON lines instead of a table\n";

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (flag == "--help" || flag == "-h") {
            std::fputs(kHelp, stdout);
            std::exit(0);
        }
        if (flag == "--json") {
            options.json = true;
            continue;
        }
        const auto value = [&]() -> std::string {
            if (i + 1 < argc) return argv[++i];
            throw Error(ErrorCode::kInvalidArgument, flag + " needs a value; see --help.");
        };
        const auto number = [&](double least) {
            const std::string text = value();
            char* end = nullptr;
            const double result = std::strtod(text.c_str(), &end);
            if (end == text.c_str() || *end != '\0' || !(result >= least && result <= 1e9)) {
                throw Error(ErrorCode::kInvalidArgument,
                            flag + " is '" + text + "', which is no sensible number.");
            }
            return result;
        };
        const auto only = [&](const std::string& one) {
            const std::string text = value();
            if (text == one) return;
            throw Error(ErrorCode::kInvalidArgument, flag + " is '" + text +
                                                         "'; this program has " + one +
                                                         " alone; bench.py starts the rest.");
        };
        if (flag == "--grid") {
            only("cpu");
        } else if (flag == "--peer") {
            only("onednn");
        } else if (flag == "--shapes") {
            options.shapes = value();
        } else if (flag == "--row") {
            options.row = value();
        } else if (flag == "--pass") {
            options.pass = value();
        } else if (flag == "--time-ms") {
            options.time_ms = number(0.0);
        } else if (flag == "--threads") {
            options.threads = static_cast<int>(number(1.0));
        } else {
            throw Error(ErrorCode::kInvalidArgument, "unknown flag " + flag + "; see --help.");
        }
    }
    if (options.pass != "forward" && options.pass != "train" && options.pass != "both") {
        throw Error(ErrorCode::kInvalidArgument,
                    "--pass is '" + options.pass + "'; expected forward, train or both.");
    }
    return options;
}

std::string processor_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

double rounded(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value);
    return std::strtod(text.data(), nullptr);
}

nlohmann::ordered_json to_json(const Quantiles& q) {
    return {{"median", rounded(q.median)}, {"p10", rounded(q.p10)}, {"p90", rounded(q.p90)}};
}

struct Side {
    std::string name;
    std::unique_ptr<OnednnSide> side;
};

/// Result of one row and pass.
struct Comparison {
    Row row;
    std::string pass, peer;
    Quantiles ours_ms, peer_ms;
    Quantiles ratio;  ///< peer's time / ours, pair by pair: above 1, Carousel is faster
    std::size_t pairs = 0;
    double difference = 0.0;
    double gflop = 0.0, peak_gflops = 0.0;
    double handoff_before_ns = 0.0, handoff_after_ns = 0.0;
    double floor_ms() const { return gflop / peak_gflops * 1e3; }
    double floor_factor() const { return ours_ms.median / floor_ms(); }
};

class Report {
public:
    explicit Report(const Options& options) : options_(options) {
        if (options.json) {
            const nlohmann::ordered_json about{
                {"bench", "onednn"},          {"about", "machine"},
                {"cpu", processor_name()},    {"fma_vectors", fma_peak_vectors()},
                {"threads", options.threads}, {"onednn_version", OnednnSide::version()},
                {"commit", source_commit()}};
            std::printf("%s\n", about.dump().c_str());
        } else {
            std::printf("%s, %d threads, oneDNN %s, %s; times in ms, median (p10 to p90)\n",
                        processor_name().c_str(), options.threads, OnednnSide::version(),
                        fma_peak_vectors());
            std::printf("%-26s %-8s %28s %36s %22s %8s %8s %7s %9s\n", "row", "pass", "carousel",
                        "onednn", "ratio", "floor", "x floor", "differ", "handoff");
        }
        std::fflush(stdout);
    }
    void add(const Comparison& c) const {
        if (options_.json) {
            print_json(c);
        } else {
            const auto times = [](const Quantiles& q) {
                std::array<char, 64> text{};
                std::snprintf(text.data(), text.size(), "%.4g (%.4g to %.4g)", q.median, q.p10,
                              q.p90);
                return std::string(text.data());
            };
            std::printf(
                "%-26s %-8s %28s %36s %22s %8.3g %8.3g %7.1e %4.0f %4.0f\n", c.row.text.c_str(),
                c.pass.c_str(), times(c.ours_ms).c_str(), (times(c.peer_ms) + " " + c.peer).c_str(),
                times({rounded(c.ratio.median), c.ratio.p10, c.ratio.p90}).c_str(), c.floor_ms(),
                c.floor_factor(), c.difference, c.handoff_before_ns, c.handoff_after_ns);
        }
        std::fflush(stdout);
    }
    void skipped(const Row& row, const std::string& why) const {
        if (options_.json) {
            const nlohmann::ordered_json line{
                {"bench", "onednn"}, {"row", row.text}, {"skipped", why}};
            std::printf("%s\n", line.dump().c_str());
        } else {
            std::printf("%-26s not timed: %s\n", row.text.c_str(), why.c_str());
        }
        std::fflush(stdout);
    }

private:
    void print_json(const Comparison& c) const {
        const nlohmann::ordered_json line{
            {"bench", "onednn"},
            {"row", c.row.text},
            {"cell", cell_name(c.row.spec.cell)},
            {"hidden", c.row.spec.hidden_size},
            {"input", c.row.spec.input_size},
            {"batch", c.row.batch_size},
            {"seq_len", c.row.seq_len},
            {"layers", c.row.spec.num_layers},
            {"pass", c.pass},
            {"threads", options_.threads},
            {"carousel_ms", to_json(c.ours_ms)},
            {"peer_ms", to_json(c.peer_ms)},
            {"peer_format", c.peer},
            {"ratio", to_json(c.ratio)},
            {"pairs", c.pairs},
            {"difference", rounded(c.difference)},
            {"gflop", rounded(c.gflop)},
            {"peak_gflops", rounded(c.peak_gflops)},
            {"floor_ms", rounded(c.floor_ms())},
            {"floor_factor", rounded(c.floor_factor())},
            {"handoff_ns", {rounded(c.handoff_before_ns), rounded(c.handoff_after_ns)}}};
        std::printf("%s\n", line.dump().c_str());
    }
    Options options_;
};

/// One row: makes both sides, compares their results, times them.
class RowBench {
public:
    RowBench(const Row& row, const Options& options)
        : options_(options), problem_(row), ours_(problem_, options.threads) {
        for (const auto& [name, format] :
             {std::pair{"any", WeightFormat::kAny}, std::pair{"plain", WeightFormat::kPlain}}) {
            try {
                peers_.push_back(
                    {name, std::make_unique<OnednnSide>(problem_, format, options.threads)});
            } catch (const Error& error) {
                refusal_ = error.what();
            }
        }
        if (peers_.empty()) throw Error(ErrorCode::kUnsupported, refusal_);
    }

    /// The worst relative difference of any result. Errors: Internal if it is beyond rounding.
    Difference check() {
        ours_.train();
        const Outcome ours = ours_.outcome();
        Difference worst;
        for (Side& peer : peers_) {
            peer.side->train();
            const Difference d = difference(problem_.row.spec, ours, peer.side->outcome());
            if (!(d.outputs <= kLargestDifference && d.gradients <= kLargestDifference)) {
                std::array<char, 160> text{};
                std::snprintf(text.data(), text.size(),
                              "results differ from oneDNN's (%s): outputs by %.1e, gradients by "
                              "%.1e, relative; allowed is %.0e.",
                              peer.name.c_str(), d.outputs, d.gradients, kLargestDifference);
                throw Error(ErrorCode::kInternal, text.data());
            }
            worst.outputs = std::max(worst.outputs, d.outputs);
            worst.gradients = std::max(worst.gradients, d.gradients);
        }
        return worst;
    }

    Comparison compare(bool train, const Difference& checked) {
        std::vector<Contestant> contestants;
        contestants.push_back(
            {"carousel", [this, train] { train ? ours_.train() : ours_.forward(); }, {}, {}});
        for (Side& peer : peers_) {
            OnednnSide* side = peer.side.get();
            contestants.push_back(
                {peer.name, [side, train] { train ? side->train() : side->forward(); }, {}, {}});
        }
        Comparison c;
        // Neighbours on the machine move the clock: the floor is what it allowed at its best.
        c.peak_gflops = measure_fma_peak_gflops(options_.threads);
        c.handoff_before_ns = measure_handoff_ns();
        time_side_by_side(contestants, options_.time_ms, kMinRounds);
        c.handoff_after_ns = measure_handoff_ns();
        c.peak_gflops = std::max(c.peak_gflops, measure_fma_peak_gflops(options_.threads));

        const auto best = std::min_element(
            contestants.begin() + 1, contestants.end(), [](const auto& a, const auto& b) {
                return quantiles_of(a.turns_ms).median < quantiles_of(b.turns_ms).median;
            });
        const Contestant& ours = contestants.front();
        std::vector<double> ratios;
        for (std::size_t i = 0; i < ours.turns_ms.size(); ++i) {
            ratios.push_back(best->turns_ms[i] / ours.turns_ms[i]);
        }
        c.row = problem_.row;
        c.pass = train ? "train" : "forward";
        c.peer = best->name;
        c.ours_ms = quantiles_of(ours.times_ms);
        c.peer_ms = quantiles_of(best->times_ms);
        c.ratio = quantiles_of(ratios);
        c.pairs = ratios.size();
        c.difference = train ? checked.gradients : checked.outputs;
        c.gflop = 1e-9 * (train ? training_flops(problem_.row) : forward_flops(problem_.row));
        return c;
    }

private:
    Options options_;
    Problem problem_;
    CarouselSide ours_;
    std::vector<Side> peers_;
    std::string refusal_;
};

/// Returns whether every row was timed.
bool run(const Options& options) {
    std::regex wanted;
    try {
        wanted = std::regex(options.row);
    } catch (const std::regex_error&) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--row is '" + options.row + "', which is no regular expression.");
    }
    std::vector<Row> rows = read_rows(options.shapes);
    rows.erase(std::remove_if(rows.begin(), rows.end(),
                              [&](const Row& r) { return !std::regex_search(r.text, wanted); }),
               rows.end());
    if (rows.empty()) {
        throw Error(ErrorCode::kInvalidArgument,
                    "no row of " + options.shapes + " matches '" + options.row + "'.");
    }
    const Report report(options);
    bool all = true;
    for (const Row& row : rows) {
        try {
            RowBench bench(row, options);
            const Difference checked = bench.check();
            if (options.pass != "train") report.add(bench.compare(false, checked));
            if (options.pass != "forward") report.add(bench.compare(true, checked));
        } catch (const Error& error) {
            report.skipped(row, error.what());
            all = false;
        }
    }
    return all;
}

}  // namespace
}  // namespace carousel::bench

int main(int argc, char** argv) {
    try {
        return carousel::bench::run(carousel::bench::parse(argc, argv)) ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "carousel_bench_cpu: %s\n", error.what());
        return 2;
    }
}
