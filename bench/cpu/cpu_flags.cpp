#include "bench/cpu/cpu_flags.hpp"

namespace carousel::bench {

namespace {

// Turns are short here and a pass of a large row takes a second: fewer rounds a visit than on a card.
constexpr int kMinPairs = 3;
constexpr double kTurnMs = 12.0;

}  // namespace

std::string cpu_help() {
    return "usage: carousel_bench_cpu [--row REGEX] [flags]\n"
           "       carousel_bench_cpu --cell lstm --hidden 512 --batch 64 --seq-len 64 [flags]\n"
           "\n"
           "Times Carousel's CPU backend beside oneDNN and PyTorch, in turn, after holding every\n"
           "result against a double-precision reference. Other tenants of the machine move its "
           "clock\n"
           "and caches within minutes, so every row is visited several times, and all turns "
           "count.\n"
           "  --grid NAME        cpu: rows of bench/shapes/cpu.txt; headline, deepbench, "
           "flashrnn,\n"
           "                     all: of bench/shapes/grid.txt, in f32 [default: cpu]\n" +
           grid_flags_help() +
           "  --peer LIST        of onednn,torch, or none [default: onednn]\n"
           "  --python FILE      a python that has torch [default: that of bench/setup_torch.sh]\n"
           "  --threads N        threads of each side [default: 2]\n"
           "  --visits N         rounds through all rows [default: 3]\n"
           "  --pairs N          at least so many turns of each side in a visit [default: 3]\n"
           "  --turn-ms MS       length of a turn [default: 12]\n"
           "  --pass-ms MS       length of a pass of a row in a visit, at least [default: 300]\n"
           "  --budget-s S       begin no visit of a row after this [default: none]\n";
}

CpuFlags parse_cpu_flags(const std::vector<std::string>& arguments) {
    CpuFlags f;
    f.grid = "cpu";
    f.min_pairs = kMinPairs;
    f.turn_ms = kTurnMs;
    f.python = CAROUSEL_SOURCE_DIR "/bench/.venv/bin/python";
    ProgramFlags own;
    own.values = {
        {"--grid",
         [&f](auto& flag, auto& v) {
             f.grid = flag_one_of(flag, v, {"cpu", "headline", "deepbench", "flashrnn", "all"});
         }},
        {"--peer",
         [&f](auto& flag, auto& v) {
             f.peer_onednn = f.peer_torch = false;
             for (const std::string& name : flag_list(v)) {
                 flag_one_of(flag, name, {"onednn", "torch", "none"});
                 f.peer_onednn = f.peer_onednn || name == "onednn";
                 f.peer_torch = f.peer_torch || name == "torch";
             }
         }},
        {"--python", [&f](auto&, auto& v) { f.python = v; }},
        {"--threads",
         [&f](auto& flag, auto& v) { f.threads = static_cast<int>(flag_number(flag, v, 1.0)); }},
        {"--visits",
         [&f](auto& flag, auto& v) { f.visits = static_cast<int>(flag_number(flag, v, 1.0)); }},
    };
    parse_flags(arguments, own, f);
    if (f.shapes.empty()) {
        f.shapes = std::string(CAROUSEL_SHAPES_DIR) + (f.grid == "cpu" ? "/cpu.txt" : "/grid.txt");
    }
    // Of a grid made for cards, the CPU runs what it has: f32.
    if (f.grid != "cpu" && f.dtypes.empty() && !f.every_dtype) f.dtypes = {"f32"};
    return f;
}

}  // namespace carousel::bench
