#include "bench/gpu/gpu_flags.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "bench/core/environment.hpp"
#include "bench/gpu/cudnn_options.hpp"
#include "bench/gpu/environment.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {
namespace {

GridCase grid_case(const std::string& line) { return make_case(parse_grid_row("x", line)); }

TEST(BenchFlags, OneRowIsMadeOfItsParts) {
    const GpuFlags f = parse_gpu_flags({"--cell", "gru", "--hidden", "256", "--batch", "8",
                                        "--seq-len", "100", "--layers", "2", "--reset", "0.03",
                                        "--dtype", "bf16,f32", "--json", "--budget-s", "60"});
    const GridRow row = parse_grid_row("x", f.line);
    EXPECT_EQ(row.cells[0], "gru");
    EXPECT_EQ(row.hidden_size, 256);
    EXPECT_EQ(row.batch_size, 8);
    EXPECT_EQ(row.seq_len, 100);
    EXPECT_EQ(row.num_layers, 2);
    EXPECT_DOUBLE_EQ(row.reset, 0.03);
    EXPECT_EQ(row.dtypes, (std::vector<std::string>{"bf16", "f32"}));
    EXPECT_TRUE(f.json);
    EXPECT_DOUBLE_EQ(f.budget_s, 60.0);
    EXPECT_NE(f.command_line.find("--hidden 256"), std::string::npos);
}

TEST(BenchFlags, DefaultsAreTheHeadline) {
    const GpuFlags f = parse_gpu_flags({});
    EXPECT_EQ(f.grid, "headline");
    EXPECT_TRUE(f.line.empty());
    EXPECT_EQ(f.passes.size(), 5u);
    EXPECT_TRUE(f.peer_cudnn && f.peer_gemm);
    EXPECT_FALSE(f.one_process);
    const GpuFlags again =
        parse_gpu_flags({"--done", "a", "--done", "b", "--hang-s", "30", "--one-process"});
    EXPECT_EQ(again.done, (std::vector<std::string>{"a", "b"}));
    EXPECT_DOUBLE_EQ(again.hang_s, 30.0);
    EXPECT_TRUE(again.one_process);
    EXPECT_DOUBLE_EQ(parse_gpu_flags({"--compile-s", "0"}).compile_s, 0.0);
    const GpuFlags none = parse_gpu_flags({"--peer", "none"});
    EXPECT_FALSE(none.peer_cudnn || none.peer_gemm);
}

TEST(BenchFlags, MistakesAreNamed) {
    const auto message = [](const std::vector<std::string>& arguments) -> std::string {
        try {
            parse_gpu_flags(arguments);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    };
    EXPECT_NE(message({"--grid", "best"}).find("headline"), std::string::npos);
    EXPECT_NE(message({"--hidden", "wide"}).find("Hwide"), std::string::npos);
    EXPECT_NE(message({"--json", "--hidden"}).find("--hidden"), std::string::npos);
    EXPECT_NE(message({"--cudnn-algo", "FASTEST"}).find("PERSIST_STATIC"), std::string::npos);
    EXPECT_NE(message({"--fast"}).find("--fast"), std::string::npos);
    EXPECT_NE(message({"--pairs", "0"}).find("--pairs"), std::string::npos);
    EXPECT_NE(message({"--l2", "cold"}).find("flushed"), std::string::npos);
    EXPECT_NE(message({"--reset", "0.1"}).find("--cell"), std::string::npos);
    EXPECT_NE(message({"--cell", "mamba"}).find("cell mamba"), std::string::npos);
    EXPECT_NE(message({"--hidden", "8", "--dtype", "int8"}).find("int8"), std::string::npos);
}

TEST(BenchCudnnOptions, EveryAlgorithmInTheCasesArithmetic) {
    const auto f32 = cudnn_candidates(grid_case("lstm H64 N8 T4 dtypes=f32"));
    ASSERT_EQ(f32.size(), 5u);  // four algorithms, and PyTorch's padded one
    for (const CudnnOptions& o : f32) EXPECT_EQ(o.math, CudnnMath::kFma);
    const GridCase half = grid_case("lstm H64 N8 T4 dtypes=f16");
    EXPECT_EQ(cudnn_candidates(half).size(), 8u);
    EXPECT_EQ(cudnn_candidates(half, true).size(), 13u);
    // Varied lengths in both layouts, where they may run at all.
    int padded = 0;
    const auto varied = cudnn_candidates(grid_case("lstm H64 N8 T4 dtypes=f16 lengths=0.25"));
    EXPECT_EQ(varied.size(), 9u);
    for (const CudnnOptions& o : varied) {
        if (o.layout != CudnnLayout::kPadded) continue;
        EXPECT_EQ(o.algo, CudnnAlgo::kStandard);
        ++padded;
    }
    EXPECT_EQ(padded, 2);
    EXPECT_FALSE(cudnn_cannot(grid_case("gru_reset_before H8 N1 T1")).empty());
    EXPECT_TRUE(cudnn_cannot(grid_case("gru H8 N1 T1")).empty());
}

TEST(BenchCudnnOptions, NamesTellCandidatesApart) {
    std::vector<std::string> names;
    for (const CudnnOptions& o : cudnn_candidates(grid_case("gru H8 N1 T1 dtypes=bf16"), true)) {
        names.push_back(o.name());
    }
    std::sort(names.begin(), names.end());
    EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(BenchCudnnOptions, PyTorchTakesThePersistentKernelWhereItFits) {
    const auto algo = [](const std::string& line) { return pytorch_choice(grid_case(line)).algo; };
    EXPECT_EQ(algo("lstm H768 N16 T1024 dtypes=f16"), CudnnAlgo::kPersistStatic);
    for (const char* line :
         {"lstm H768 N16 T1024 dtypes=bf16", "gru H768 N16 T1024 dtypes=f16",
          "lstm H1152 N16 T9 dtypes=f16", "lstm H768 N20 T9 dtypes=f16",
          "lstm H700 N16 T9 dtypes=f16", "lstm H768 N16 T9 L2 dtypes=f16",
          "lstm H768 N256 T9 dtypes=f16", "lstm H768 N16 T9 I100 dtypes=f16",
          "lstm H768 N16 T9 lengths=0.5 dtypes=f16", "rnn_tanh H896 N96 T9 dtypes=f16",
          "lstm H128 N16 T9 lengths=0.5", "lstm H193 N16 T9", "rnn_relu H385 N16 T9",
          "lstm H64 N1 T9 dtypes=f64", "gru H193 N1 T9 pass=infer"}) {
        EXPECT_EQ(algo(line), CudnnAlgo::kStandard) << line;
    }
    EXPECT_EQ(algo("rnn_tanh H896 N88 T9 dtypes=f16"), CudnnAlgo::kPersistStatic);
    for (const char* line : {"lstm H128 N16 T9 dtypes=bf16", "gru H64 N3 T9 L2 D2",
                             "rnn_relu H384 N16 T9", "gru H192 N1 T9"}) {
        EXPECT_EQ(algo(line), CudnnAlgo::kSmallH) << line;
    }
    EXPECT_EQ(cudnn_backward_algo(grid_case("gru H128 N1 T9"), CudnnAlgo::kSmallH),
              CudnnAlgo::kSmallH);
    EXPECT_EQ(cudnn_backward_algo(grid_case("gru H129 N1 T9"), CudnnAlgo::kSmallH),
              CudnnAlgo::kStandard);
    EXPECT_EQ(cudnn_backward_algo(grid_case("rnn_tanh H257 N1 T9"), CudnnAlgo::kPersistStatic),
              CudnnAlgo::kPersistStatic);
    const auto layout = [](const std::string& line) {
        return pytorch_choice(grid_case(line)).layout;
    };
    EXPECT_EQ(layout("lstm H768 N16 T9"), CudnnLayout::kPadded);
    EXPECT_EQ(layout("lstm H768 N16 T9 lengths=0.5"), CudnnLayout::kPacked);
    // What PyTorch picks is always among the candidates.
    for (const char* dtype : {"f32", "tf32", "bf16", "f16", "f64"}) {
        const GridCase c = grid_case(std::string("lstm H768 N16 T9 dtypes=") + dtype);
        const auto all = cudnn_candidates(c);
        EXPECT_NE(std::find(all.begin(), all.end(), pytorch_choice(c)), all.end()) << dtype;
    }
}

TEST(BenchEnvironment, ReadsWhatNvidiaSmiSays) {
    const auto j = parse_smi_line("NVIDIA H200, GPU-1, 580.65.06, 1980, 3201, 1980, 118.25, 34\n");
    EXPECT_EQ(j.at("gpu"), "NVIDIA H200");
    EXPECT_EQ(j.at("driver"), "580.65.06");
    EXPECT_DOUBLE_EQ(j.at("sm_mhz"), 1980.0);
    EXPECT_DOUBLE_EQ(j.at("power_w"), 118.25);
    EXPECT_EQ(parse_smi_line("X, u, 1, 2, 3, 4, [N/A], 5").at("power_w"), "[N/A]");
    EXPECT_TRUE(parse_smi_line("No devices were found").contains("error"));
    EXPECT_EQ(cuda_version_text(13010), "13.1");
    EXPECT_EQ(cuda_version_text(0), "none");
    EXPECT_EQ(utc_now().size(), 20u);
}

}  // namespace
}  // namespace carousel::bench
