#include "bench/gpu/gpu_flags.hpp"

#include <functional>
#include <map>
#include <sstream>

#include "bench/core/grid.hpp"
#include "bench/gpu/cudnn_options.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

[[noreturn]] void reject(const std::string& why) { throw Error(ErrorCode::kInvalidArgument, why); }

double number(const std::string& flag, const std::string& text, double least) {
    std::istringstream in(text);
    double value = 0.0;
    if (!(in >> value) || !in.eof() || !(value >= least && value <= 1e9)) {
        reject(flag + " is '" + text + "', which is no sensible number.");
    }
    return value;
}

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
    return parts;
}

std::string one_of(const std::string& flag, const std::string& text,
                   const std::vector<std::string>& allowed) {
    std::string names;
    for (const std::string& name : allowed) {
        if (name == text) return text;
        names += (names.empty() ? "" : ", ") + name;
    }
    reject(flag + " is '" + text + "'; expected one of " + names + ".");
}

std::vector<Pass> parse_passes(const std::string& text) {
    std::vector<Pass> passes;
    for (const std::string& name : split(text)) {
        one_of("--pass", name, {"infer", "forward", "backward_data", "backward", "train"});
        for (const Pass pass : kPasses) {
            if (name == pass_name(pass)) passes.push_back(pass);
        }
    }
    return passes;
}

Algorithm parse_algorithm(const std::string& text) {
    for (const Algorithm a : {Algorithm::kAuto, Algorithm::kCluster, Algorithm::kGrid,
                              Algorithm::kWavefront, Algorithm::kStepwise}) {
        if (text == algorithm_name(a)) return a;
    }
    reject("--algorithm is '" + text + "'; expected auto, cluster, grid, wavefront or stepwise.");
}

/// The words of one row that was given by flags.
struct OneRow {
    std::string cell = "lstm", words;
    bool given = false;
    std::map<char, std::string> sizes{{'N', "64"}, {'T', "64"}, {'H', "512"}};

    std::string line() const {
        std::string text = cell;
        for (const auto& [letter, value] : sizes) text += std::string(" ") + letter + value;
        return text + words;
    }
};

}  // namespace

std::string gpu_help() {
    return "usage: carousel_bench_gpu [--grid headline|deepbench|flashrnn|all] [--row REGEX] "
           "[flags]\n"
           "       carousel_bench_gpu --cell lstm --hidden 512 --batch 64 --seq-len 64 [flags]\n"
           "       (--grid cpu is carousel_bench_cpu's)\n"
           "\n"
           "Times Carousel on a CUDA device beside cuDNN and the bare products, in turn, after "
           "holding\n"
           "every result against a double-precision reference. Without a device it says so and "
           "ends\n"
           "with status 77.\n"
           "  --grid NAME        rows of bench/shapes/grid.txt [default: headline]\n"
           "  --row REGEX        only rows whose line the expression finds, e.g. 'id=FRH6 '\n"
           "  --shapes FILE      another file of rows\n"
           "  --cell, --hidden, --input, --batch, --seq-len, --layers, --directions, --dtype,\n"
           "  --reset P, --lengths P\n"
           "                     one row instead; --dtype f32,tf32,bf16,f16 also for rows of a "
           "grid\n"
           "  --every-dtype, --every-cell\n"
           "                     all that the rows list [default: the first of each]\n"
           "  --pass LIST        of infer,forward,backward_data,backward,train [default: all]\n"
           "  --peer LIST        of cudnn,gemm, or none [default: cudnn,gemm]\n"
           "  --cudnn-algo LIST  of "
           "STANDARD,PERSIST_STATIC,PERSIST_STATIC_SMALL_H,PERSIST_DYNAMIC\n"
           "                     [default: all; the last is compiled at run time, for seconds]\n"
           "  --all-math         cuDNN's FMA units for 16-bit and tf32, too\n"
           "  --algorithm NAME   of Carousel [default: auto]\n"
           "  --l2 WHICH         warm, flushed or both [default: warm]\n"
           "  --probes FILE      output of carousel_probes, for the lower bound\n"
           "  --device INDEX     [default: 0]\n"
           "  --pairs N          at least so many turns of each side [default: 5]\n"
           "  --turn-ms MS       length of a turn [default: 20]\n"
           "  --pass-ms MS       length of a pass of a row, at least [default: 300]\n"
           "  --budget-s S       begin no row after this; rows run in order of value [default: "
           "none]\n"
           "  --list             print the rows that would run, and why others would not\n"
           "  --json             JSON lines instead of a table\n";
}

GpuFlags parse_gpu_flags(const std::vector<std::string>& arguments) {
    GpuFlags f;
    OneRow one;
    using Take = std::function<void(const std::string& flag, const std::string& value)>;
    const auto size = [&one](char letter) -> Take {
        return [&one, letter](const std::string&, const std::string& value) {
            one.sizes[letter] = value;
            one.given = true;
        };
    };
    const auto word = [&one](const char* name) -> Take {
        return [&one, name](const std::string&, const std::string& value) {
            one.words += std::string(" ") + name + "=" + value;
        };
    };
    const std::map<std::string, std::function<void()>> switches{
        {"--json", [&] { f.json = true; }},
        {"--list", [&] { f.list = true; }},
        {"--help", [&] { f.help = true; }},
        {"-h", [&] { f.help = true; }},
        {"--all-math", [&] { f.all_math = true; }},
        {"--every-dtype", [&] { f.every_dtype = true; }},
        {"--every-cell", [&] { f.every_cell = true; }},
    };
    const std::map<std::string, Take> values{
        {"--grid",
         [&](auto& flag, auto& v) {
             f.grid = one_of(flag, v, {"headline", "deepbench", "flashrnn", "all"});
         }},
        {"--row", [&](auto&, auto& v) { f.row = v; }},
        {"--shapes", [&](auto&, auto& v) { f.shapes = v; }},
        {"--probes", [&](auto&, auto& v) { f.probes = v; }},
        {"--cell",
         [&](auto&, auto& v) {
             one.cell = v;
             one.given = true;
         }},
        {"--hidden", size('H')},
        {"--input", size('I')},
        {"--batch", size('N')},
        {"--seq-len", size('T')},
        {"--layers", size('L')},
        {"--directions", size('D')},
        {"--reset", word("reset")},
        {"--lengths", word("lengths")},
        {"--dtype", [&](auto&, auto& v) { f.dtypes = split(v); }},
        {"--pass", [&](auto&, auto& v) { f.passes = parse_passes(v); }},
        {"--peer",
         [&](auto& flag, auto& v) {
             f.peer_cudnn = f.peer_gemm = false;
             for (const std::string& name : split(v)) {
                 one_of(flag, name, {"cudnn", "gemm", "none"});
                 f.peer_cudnn = f.peer_cudnn || name == "cudnn";
                 f.peer_gemm = f.peer_gemm || name == "gemm";
             }
         }},
        {"--cudnn-algo",
         [&](auto&, auto& v) {
             f.cudnn_algos = split(v);
             for (const std::string& name : f.cudnn_algos) cudnn_algo_parse(name);
         }},
        {"--algorithm", [&](auto&, auto& v) { f.algorithm = parse_algorithm(v); }},
        {"--l2",
         [&](auto& flag, auto& v) {
             f.l2 = one_of(flag, v, {"warm", "flushed", "both"});
         }},
        {"--device",
         [&](auto& flag, auto& v) { f.device = static_cast<int>(number(flag, v, 0.0)); }},
        {"--pairs",
         [&](auto& flag, auto& v) { f.min_pairs = static_cast<int>(number(flag, v, 1.0)); }},
        {"--turn-ms", [&](auto& flag, auto& v) { f.turn_ms = number(flag, v, 0.0); }},
        {"--pass-ms", [&](auto& flag, auto& v) { f.pass_ms = number(flag, v, 0.0); }},
        {"--budget-s", [&](auto& flag, auto& v) { f.budget_s = number(flag, v, 0.0); }},
    };
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& flag = arguments[i];
        f.command_line += (i == 0 ? "" : " ") + flag;
        if (const auto found = switches.find(flag); found != switches.end()) {
            found->second();
        } else if (const auto take = values.find(flag); take != values.end()) {
            if (i + 1 >= arguments.size()) reject(flag + " needs a value; see --help.");
            f.command_line += " " + arguments[i + 1];
            take->second(flag, arguments[++i]);
        } else {
            reject("unknown flag " + flag + "; see --help.");
        }
    }
    if (one.given) {
        f.line = one.line();
        if (!f.dtypes.empty()) {
            f.line += " dtypes=";
            for (std::size_t i = 0; i < f.dtypes.size(); ++i) {
                f.line += (i == 0 ? "" : ",") + f.dtypes[i];
            }
        }
        parse_grid_row("flags", f.line);  // bad values are named here
    } else if (!one.words.empty()) {
        reject("--reset and --lengths belong to a row given by --cell or --hidden.");
    }
    return f;
}

}  // namespace carousel::bench
