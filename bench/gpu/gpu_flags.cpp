#include "bench/gpu/gpu_flags.hpp"

#include "bench/gpu/cudnn_options.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

Algorithm parse_algorithm(const std::string& text) {
    for (const Algorithm a : {Algorithm::kAuto, Algorithm::kCluster, Algorithm::kGrid,
                              Algorithm::kWavefront, Algorithm::kStepwise}) {
        if (text == algorithm_name(a)) return a;
    }
    throw Error(
        ErrorCode::kInvalidArgument,
        "--algorithm is '" + text + "'; expected auto, cluster, grid, wavefront or stepwise.");
}

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
           "  --grid NAME        rows of bench/shapes/grid.txt [default: headline]\n" +
           grid_flags_help() +
           "  --peer LIST        of cudnn,gemm, or none [default: cudnn,gemm]\n"
           "  --cudnn-algo LIST  of "
           "STANDARD,PERSIST_STATIC,PERSIST_STATIC_SMALL_H,PERSIST_DYNAMIC\n"
           "                     [default: all; the last is compiled at run time, for seconds]\n"
           "  --compile-s S      of a process for that; then it is left out [default: 90]\n"
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
           "  --done FILE        leave out the rows that this file of JSON lines has already; may "
           "be\n"
           "                     given several times\n"
           "  --hang-s S         without a sign of life for so long a row is given up [default: "
           "90]\n"
           "  --one-process      as a debugger wants it; a fault then ends all rows\n";
}

GpuFlags parse_gpu_flags(const std::vector<std::string>& arguments) {
    GpuFlags f;
    f.grid = "headline";
    f.shapes = CAROUSEL_SHAPES_DIR "/grid.txt";
    ProgramFlags own;
    own.switches = {{"--all-math", [&f] { f.all_math = true; }},
                    {"--one-process", [&f] { f.one_process = true; }}};
    own.values = {
        {"--grid",
         [&f](auto& flag, auto& v) {
             f.grid = flag_one_of(flag, v, {"headline", "deepbench", "flashrnn", "all"});
         }},
        {"--probes", [&f](auto&, auto& v) { f.probes = v; }},
        {"--done", [&f](auto&, auto& v) { f.done.push_back(v); }},
        {"--compile-s", [&f](auto& flag, auto& v) { f.compile_s = flag_number(flag, v, 0.0); }},
        {"--hang-s", [&f](auto& flag, auto& v) { f.hang_s = flag_number(flag, v, 1.0); }},
        {"--peer",
         [&f](auto& flag, auto& v) {
             f.peer_cudnn = f.peer_gemm = false;
             for (const std::string& name : flag_list(v)) {
                 flag_one_of(flag, name, {"cudnn", "gemm", "none"});
                 f.peer_cudnn = f.peer_cudnn || name == "cudnn";
                 f.peer_gemm = f.peer_gemm || name == "gemm";
             }
         }},
        {"--cudnn-algo",
         [&f](auto&, auto& v) {
             f.cudnn_algos = flag_list(v);
             for (const std::string& name : f.cudnn_algos) cudnn_algo_parse(name);
         }},
        {"--algorithm", [&f](auto&, auto& v) { f.algorithm = parse_algorithm(v); }},
        {"--l2",
         [&f](auto& flag, auto& v) {
             f.l2 = flag_one_of(flag, v, {"warm", "flushed", "both"});
         }},
        {"--device",
         [&f](auto& flag, auto& v) { f.device = static_cast<int>(flag_number(flag, v, 0.0)); }},
    };
    parse_flags(arguments, own, f);
    return f;
}

}  // namespace carousel::bench
