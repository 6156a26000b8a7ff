// Which candidate wins, and the text that choices are stored as.

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "src/backend/cuda/gemm_choice.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

using cuda::GemmArgs;
using cuda::GemmChoice;
using cuda::GemmChoices;
using cuda::GemmPlace;
using cuda::kNeverNs;
using cuda::parse_gemm_choices;
using cuda::print_gemm_choices;

const GemmPlace kHere{"NVIDIA H100 80GB HBM3", 130100};

// Three products that differ in every part of a key.
GemmChoices some_choices() {
    GemmChoices choices;
    GemmArgs g;
    g.m = 1024;
    g.n = 64;
    g.k = 512;
    g.lda = 1024;
    g.ldb = 512;
    g.ldc = 1030;
    g.a = reinterpret_cast<void*>(0x10000);
    g.b = reinterpret_cast<void*>(0x20010);
    g.c = reinterpret_cast<void*>(0x30004);
    choices[gemm_key(g)] = {{1, 2, 3, 4, 5, 6, 7, 8}, 1234, 2345};
    g.trans_a = true;
    g.dtype = DType::kBf16;
    g.beta = 1.0;
    g.batch = 2;
    g.stride_a = 70'000'000'000;
    g.stride_b = 0;
    g.stride_c = 1024;
    choices[gemm_key(g)] = {{~std::uint64_t{0}, 0, 0, 0, 0, 0, 0, 0x8000000000000000}, 0, 0};
    g.trans_b = true;
    g.dtype = g.out_dtype = DType::kF64;
    g.workspace = reinterpret_cast<void*>(0x100000);
    g.workspace_bytes = 32 << 20;
    choices[gemm_key(g)] = {{}, std::numeric_limits<std::int64_t>::max(), 1};
    return choices;
}

TEST(GemmChoice, FastestWinsWhereItIsWorthIt) {
    EXPECT_EQ(cuda::fastest_gemm({5.0}), 0U);
    EXPECT_EQ(cuda::fastest_gemm({100.0, 90.0, 80.0, 80.0, 85.0}), 2U);
    EXPECT_EQ(cuda::fastest_gemm({100.0, 97.5}), 0U);
    EXPECT_EQ(cuda::fastest_gemm({100.0, 96.5}), 1U);
    EXPECT_EQ(cuda::fastest_gemm({100.0, 200.0}), 0U);
    EXPECT_EQ(cuda::fastest_gemm({kNeverNs, 200.0, 300.0}), 1U);
    EXPECT_EQ(cuda::fastest_gemm({kNeverNs, kNeverNs}), 0U);
    EXPECT_EQ(cuda::fastest_gemm({0.0}), 0U);
}

TEST(GemmChoice, TextGoesThereAndBack) {
    const GemmChoices choices = some_choices();
    ASSERT_EQ(choices.size(), 3U);
    const std::string text = print_gemm_choices(kHere, choices);
    EXPECT_EQ(parse_gemm_choices(text, kHere, "text"), choices);
    EXPECT_EQ(text.substr(0, 70),
              "carousel gemm choices 1\ndevice NVIDIA H100 80GB HBM3\ncublaslt 130100\nc");
    EXPECT_NE(text.find("types=f32,f32 ops=NN beta=0 size=1024,64,512 ld=1024,512,1030 batch=1 "
                        "strides=0,0,0 align=256,16,4,0 workspace=0 ns=1234,2345 "
                        "algo=00000000000000010000000000000002"),
              std::string::npos)
        << text;
    EXPECT_TRUE(parse_gemm_choices(print_gemm_choices(kHere, {}), kHere, "text").empty());
}

TEST(GemmChoice, AnotherPlaceIsNamed) {
    const std::string text = print_gemm_choices(kHere, some_choices());
    const auto expect_line = [&](const std::string& read, const GemmPlace& here, const char* line,
                                 const char* part) {
        const std::string sentence = expect_error(ErrorCode::kInvalidArgument, line, [&] {
            parse_gemm_choices(read, here, "choices.txt");
        });
        EXPECT_NE(sentence.find("choices.txt"), std::string::npos) << sentence;
        EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
    };
    expect_line(text, {"NVIDIA A100", 130100}, "line 2", "NVIDIA A100");
    expect_line(text, {"NVIDIA H100", 130100}, "line 2", "80GB HBM3");
    expect_line(text, {kHere.device, 130101}, "line 3", "130101");
    expect_line("{}\n", kHere, "line 1", "carousel gemm choices 1");
    expect_line("", kHere, "line 1", "missing");
}

// Wherever a byte is another one, or the text ends early, it is refused by the line it is in.
TEST(GemmChoice, EveryDamagedByteIsFound) {
    const std::string text = print_gemm_choices(kHere, some_choices());
    int line = 1;
    for (std::size_t i = 0; i < text.size(); ++i) {
        // Another digit where there is one: still a number.
        std::string damaged = text;
        damaged[i] = damaged[i] == '1' ? '2' : '1';
        EXPECT_THROW(parse_gemm_choices(damaged, kHere, "text"), Error) << "byte " << i;
        const std::string cut = text.substr(0, i);
        EXPECT_THROW(parse_gemm_choices(cut, kHere, "text"), Error) << "cut at " << i;
        if (line > 4 && text[i] != '\n') {
            expect_error(ErrorCode::kInvalidArgument, "line " + std::to_string(line),
                         [&] { parse_gemm_choices(damaged, kHere, "text"); });
        }
        line += text[i] == '\n' ? 1 : 0;
    }
    expect_error(ErrorCode::kInvalidArgument, "line 7",
                 [&] { parse_gemm_choices(text + "\n", kHere, "text"); });
    const std::string last = text.substr(text.rfind("types="));
    std::string repeated = text + last;
    repeated.replace(repeated.find("choices 3"), 9, "choices 4");
    expect_error(ErrorCode::kInvalidArgument, "line 8",
                 [&] { parse_gemm_choices(repeated, kHere, "text"); });
}

TEST(GemmChoice, ExtentOfAResult) {
    GemmArgs g;
    g.m = 24;
    g.n = 16;
    g.ldc = 28;
    EXPECT_EQ(cuda::gemm_result_bytes(g), (15U * 28 + 24) * 4);
    g.batch = 3;
    g.stride_c = 1000;
    EXPECT_EQ(cuda::gemm_result_bytes(g), (2000U + 15 * 28 + 24) * 4);
    g.dtype = g.out_dtype = DType::kBf16;
    EXPECT_EQ(cuda::gemm_result_bytes(g), (2000U + 15 * 28 + 24) * 2);
}

}  // namespace
}  // namespace carousel::test
