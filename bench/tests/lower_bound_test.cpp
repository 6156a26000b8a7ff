#include "bench/core/lower_bound.hpp"

#include <gtest/gtest.h>

#include <string>

#include "carousel/error.hpp"

namespace carousel::bench {
namespace {

GridCase bf16(const std::string& line) {
    return make_case(parse_grid_row("x", line + " dtypes=bf16"));
}

CardFigures round_figures() {
    CardFigures f = estimated_figures();
    f.peak_tflops["bf16"] = 1000.0;
    f.memory_tb_s = 4.0;
    f.l2_tb_s = 10.0;
    f.cluster_hop_us = 0.2;
    f.l2_hop_us = 0.6;
    f.pointwise_us = 0.1;
    return f;
}

TEST(BenchLowerBound, SmallStatesAreBoundByTheChain) {
    const GridCase c = bf16("lstm H64 N1 T1000");
    const LowerBound bound = lower_bound(c, Pass::kInfer, round_figures());
    EXPECT_NEAR(bound.chain_us, 1000 * 0.1, 1e-9);  // 32 KiB of weights: one SM, no hop
    EXPECT_LT(bound.throughput_us, 0.2 * bound.chain_us);
}

TEST(BenchLowerBound, HopsFollowWhereTheWeightsFit) {
    const CardFigures f = round_figures();
    EXPECT_NEAR(lower_bound(bf16("lstm H512 N1 T100"), Pass::kInfer, f).chain_us, 30.0, 1e-9);
    EXPECT_NEAR(lower_bound(bf16("lstm H1024 N1 T100"), Pass::kInfer, f).chain_us, 70.0, 1e-9);
    // Layers run a step behind each other; backward is a second sweep.
    EXPECT_NEAR(lower_bound(bf16("lstm H512 N1 T100 L4"), Pass::kInfer, f).chain_us, 30.9, 1e-9);
    EXPECT_NEAR(lower_bound(bf16("lstm H512 N1 T100"), Pass::kTrain, f).chain_us, 60.0, 1e-9);
}

TEST(BenchLowerBound, WeightsBeyondTheChipAreReadInEveryStep) {
    const CardFigures f = round_figures();
    const GridCase c = bf16("lstm H4096 N1 T100");
    const double bytes = 4.0 * 4096 * 4096 * 2;  // 134 MB, beyond L2: from memory
    const LowerBound bound = lower_bound(c, Pass::kInfer, f);
    EXPECT_GT(bound.throughput_us, 100 * bytes / 4e6);
    EXPECT_LT(bound.throughput_us, 1.02 * 100 * bytes / 4e6);
}

TEST(BenchLowerBound, LargeBatchesAreBoundByArithmetic) {
    const CardFigures f = round_figures();
    const GridCase c = bf16("lstm H1024 N512 T100 L2");
    EXPECT_DOUBLE_EQ(lower_bound(c, Pass::kForward, f).throughput_us, forward_flops(c) / 1e9);
    EXPECT_DOUBLE_EQ(pass_flops(c, Pass::kTrain), 3.0 * forward_flops(c));
    EXPECT_DOUBLE_EQ(pass_flops(c, Pass::kBackward), 2.0 * forward_flops(c));
}

TEST(BenchLowerBound, MoreWorkNeverLowersIt) {
    const CardFigures f = round_figures();
    const std::string base = "lstm H256 N16 T64 L1";
    for (const char* more :
         {"lstm H512 N16 T64 L1", "lstm H256 N64 T64 L1", "lstm H256 N16 T128 L1",
          "lstm H256 N16 T64 L2", "lstm H256 N16 T64 L1 D2", "lstm H256 N16 T64 L1 I512"}) {
        for (const Pass pass : kPasses) {
            EXPECT_GE(lower_bound(bf16(more), pass, f).us(), lower_bound(bf16(base), pass, f).us())
                << more << " " << pass_name(pass);
        }
    }
}

TEST(BenchLowerBound, ProbesReplaceEstimates) {
    const std::string text =
        R"({"probe":"machine","gpu":"x"})"
        "\n"
        R"({"probe":"cluster","kind":"all_to_all","cluster":4,"bytes":1024,"us":0.31})"
        "\n"
        R"({"probe":"cluster","kind":"all_to_all","cluster":16,"bytes":16384,"us":1.9})"
        "\n"
        R"({"probe":"cluster","kind":"ring","cluster":2,"bytes":512,"us":0.11})"
        "\n"
        R"({"probe":"l2_hop","kind":"release_flag","us":0.7})"
        "\n"
        R"({"probe":"l2_hop","kind":"counter","error":"timed out","us":0.01})"
        "\n"
        R"({"probe":"peak","dtype":"bf16","tflops":700})"
        "\n"
        R"({"probe":"peak","dtype":"bf16","tflops":650})"
        "\n"
        R"({"probe":"bandwidth","level":"memory","tb_per_s":4.1})"
        "\n";
    const CardFigures f = figures_from_probe_text(text, "probes.jsonl");
    EXPECT_DOUBLE_EQ(f.cluster_hop_us, 0.31);
    EXPECT_DOUBLE_EQ(f.l2_hop_us, 0.7);
    EXPECT_DOUBLE_EQ(f.peak_tflops.at("bf16"), 700.0);
    EXPECT_DOUBLE_EQ(f.memory_tb_s, 4.1);
    EXPECT_DOUBLE_EQ(f.l2_tb_s, estimated_figures().l2_tb_s);
    EXPECT_NE(f.source.find("probes.jsonl"), std::string::npos);
    EXPECT_THROW(figures_from_probe_text("not json\n", "f"), Error);
    EXPECT_THROW(figures_from_probe_text("\n", "f"), Error);
}

}  // namespace
}  // namespace carousel::bench
