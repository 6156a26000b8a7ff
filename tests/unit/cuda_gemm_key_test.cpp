// What decides a product's algorithm, apart from the library that has it.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "src/backend/cuda/gemm_key.hpp"

namespace carousel::test {
namespace {

using cuda::alignment_of;
using cuda::gemm_alignments;
using cuda::gemm_key;
using cuda::gemm_problem;
using cuda::gemm_workspace;
using cuda::GemmArgs;

void* at(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

// C [24,16] = A^T [24,32] x B [32,16], 3 of them, with everything that a key can see.
GemmArgs legal_args() {
    GemmArgs g;
    g.trans_a = true;
    g.m = 24;
    g.n = 16;
    g.k = 32;
    g.a = at(0x10000);
    g.lda = 32;
    g.stride_a = 32 * 24;
    g.b = at(0x20000);
    g.ldb = 32;
    g.stride_b = 32 * 16;
    g.c = at(0x30000);
    g.ldc = 24;
    g.stride_c = 24 * 16;
    g.batch = 3;
    g.workspace = at(0x100000);
    g.workspace_bytes = 0x10000;
    return g;
}

TEST(GemmKey, AlignmentIsThePowerOfTwoThatDividesAddressAndStride) {
    EXPECT_EQ(alignment_of(at(0x10000)), 256U);
    EXPECT_EQ(alignment_of(at(0x10080)), 128U);
    EXPECT_EQ(alignment_of(at(0x10002)), 2U);
    EXPECT_EQ(alignment_of(at(0x10001)), 1U);
    EXPECT_EQ(alignment_of(at(0x10000), 4096), 256U);
    EXPECT_EQ(alignment_of(at(0x10000), 48), 16U);
    EXPECT_EQ(alignment_of(at(0x10000), -48), 16U);
    EXPECT_EQ(alignment_of(at(0x10004), 48), 4U);
}

TEST(GemmKey, EqualProductsShareAKeyWhereverTheyAre) {
    const GemmArgs g = legal_args();
    GemmArgs moved = g;
    moved.a = at(0x50100);
    moved.b = at(0x60200);
    moved.c = at(0x70300);
    moved.workspace = at(0x200000);
    moved.alpha = 0.5;  // scales the result, chooses nothing
    EXPECT_EQ(gemm_key(g), gemm_key(moved));
    EXPECT_EQ(cuda::GemmKeyHash()(gemm_key(g)), cuda::GemmKeyHash()(gemm_key(moved)));
    // One product has no strides.
    GemmArgs single = g, strided = g;
    single.batch = strided.batch = 1;
    strided.stride_a = strided.stride_b = strided.stride_c = 1;
    EXPECT_EQ(gemm_key(single), gemm_key(strided));
}

TEST(GemmKey, WhateverMayChangeTheAlgorithmChangesTheKey) {
    const GemmArgs g = legal_args();
    using Change = std::function<void(GemmArgs&)>;
    const std::vector<Change> changes = {
        [](GemmArgs& x) { x.trans_a = false; },
        [](GemmArgs& x) { x.trans_b = true; },
        [](GemmArgs& x) { x.m = 23; },
        [](GemmArgs& x) { x.n = 15; },
        [](GemmArgs& x) { x.k = 31; },
        [](GemmArgs& x) { x.lda = 40; },
        [](GemmArgs& x) { x.ldb = 40; },
        [](GemmArgs& x) { x.ldc = 40; },
        [](GemmArgs& x) { x.stride_a += 64; },
        [](GemmArgs& x) { x.stride_b += 64; },
        [](GemmArgs& x) { x.stride_c += 64; },
        [](GemmArgs& x) { x.batch = 2; },
        [](GemmArgs& x) { x.beta = 1.0; },
        [](GemmArgs& x) { x.dtype = DType::kTf32; },
        [](GemmArgs& x) { x.dtype = DType::kBf16; },
        [](GemmArgs& x) { x.dtype = x.out_dtype = DType::kF16; },
        [](GemmArgs& x) { x.bias = at(0x40000); },
        [](GemmArgs& x) { x.bias = at(0x40010); },
        [](GemmArgs& x) { x.a = at(0x10004); },
        [](GemmArgs& x) { x.b = at(0x20008); },
        [](GemmArgs& x) { x.c = at(0x30010); },
        [](GemmArgs& x) { x.workspace_bytes = 0x8000; },
        [](GemmArgs& x) { x.workspace = nullptr; },
    };
    std::vector<cuda::GemmKey> keys = {gemm_key(g)};
    for (std::size_t i = 0; i < changes.size(); ++i) {
        GemmArgs changed = g;
        changes[i](changed);
        const cuda::GemmKey key = gemm_key(changed);
        for (std::size_t j = 0; j < keys.size(); ++j) {
            EXPECT_FALSE(key == keys[j]) << "changes " << i << " and " << j;
        }
        keys.push_back(key);
    }
}

TEST(GemmKey, BatchStridesLimitAlignment) {
    GemmArgs g = legal_args();
    g.stride_a = 33 * 24;  // f32: 3168 bytes, 32-byte steps
    g.stride_b += 1;       // 4-byte steps
    EXPECT_EQ(gemm_alignments(g).a, 32U);
    EXPECT_EQ(gemm_alignments(g).b, 4U);
    EXPECT_EQ(gemm_alignments(g).c, 256U);
    g.batch = 1;
    EXPECT_EQ(gemm_alignments(g).b, 256U);
    // The result's stride counts in its own type.
    g = legal_args();
    g.dtype = DType::kBf16;
    g.stride_c = g.stride_a = g.stride_b = 1032;
    EXPECT_EQ(gemm_alignments(g).c, 32U);
    EXPECT_EQ(gemm_alignments(g).a, 16U);
}

TEST(GemmKey, MisalignedBiasIsCopiedWhereThereIsRoom) {
    GemmArgs g = legal_args();
    g.bias = at(0x40004);
    g.workspace = at(0x100010);
    g.workspace_bytes = 0x1000;
    auto parts = gemm_workspace(g);
    EXPECT_EQ(parts.bias_copy, at(0x100100));
    EXPECT_EQ(parts.memory, at(0x100200));
    EXPECT_EQ(parts.bytes, 0x101010U - 0x100200U);
    EXPECT_EQ(gemm_alignments(g).bias, 256U);
    // Aligned, it stays where it is.
    g.bias = at(0x40010);
    parts = gemm_workspace(g);
    EXPECT_EQ(parts.bias_copy, nullptr);
    EXPECT_EQ(parts.memory, at(0x100100));
    EXPECT_EQ(gemm_alignments(g).bias, 16U);
    // No room: used as it is, and the heuristic is told.
    g.bias = at(0x40004);
    g.workspace_bytes = 0x100;
    parts = gemm_workspace(g);
    EXPECT_EQ(parts.bias_copy, nullptr);
    EXPECT_EQ(parts.bytes, 0x10U);
    EXPECT_EQ(gemm_alignments(g).bias, 4U);
    g.workspace = nullptr;
    EXPECT_EQ(gemm_workspace(g).bytes, 0U);
    g.workspace = at(0x100010);
    g.workspace_bytes = 8;  // ends before its first boundary
    EXPECT_EQ(gemm_workspace(g).memory, nullptr);
    EXPECT_EQ(gemm_workspace(g).bytes, 0U);
}

// The product, term after term, in f32; small whole numbers, so that no order of a sum rounds.
void multiply(const GemmArgs& g) {
    const auto* a = static_cast<const float*>(g.a);
    const auto* b = static_cast<const float*>(g.b);
    auto* c = static_cast<float*>(g.c);
    const auto* bias = static_cast<const float*>(g.bias);
    for (std::int64_t batch = 0; batch < g.batch; ++batch) {
        for (std::int64_t j = 0; j < g.n; ++j) {
            for (std::int64_t i = 0; i < g.m; ++i) {
                float sum = 0.0F;
                for (std::int64_t l = 0; l < g.k; ++l) {
                    sum += a[batch * g.stride_a + (g.trans_a ? i * g.lda + l : l * g.lda + i)] *
                           b[batch * g.stride_b + (g.trans_b ? l * g.ldb + j : j * g.ldb + l)];
                }
                float& to = c[batch * g.stride_c + j * g.ldc + i];
                to = sum + static_cast<float>(g.beta) * to + (bias != nullptr ? bias[i] : 0.0F);
            }
        }
    }
}

TEST(GemmKey, PartsTogetherAreTheProduct) {
    std::vector<float> a(1000), b(1000), start(1000), bias(8);
    for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = static_cast<float>(i * 7 % 11) - 5.0F;
        b[i] = static_cast<float>(i * 5 % 13) - 6.0F;
        start[i] = static_cast<float>(i % 17);
    }
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i + 1);
    for (const bool trans_a : {false, true}) {
        for (const bool trans_b : {false, true}) {
            GemmArgs g;
            g.trans_a = trans_a;
            g.trans_b = trans_b;
            g.m = 6;
            g.n = 7;
            g.k = 9;
            g.batch = 5;
            g.lda = trans_a ? 10 : 8;
            g.ldb = trans_b ? 9 : 11;
            g.ldc = 7;
            g.stride_a = 110;
            g.stride_b = 100;
            g.stride_c = 50;
            g.beta = 2.0;
            g.a = a.data();
            g.b = b.data();
            g.bias = bias.data();
            std::vector<float> whole = start, parts = start;
            g.c = whole.data();
            multiply(g);
            g.c = parts.data();
            int count = 0;
            const cuda::GemmPartSizes sizes{2, 3, 4};
            cuda::for_gemm_parts(g, sizes, [&](const GemmArgs& part) {
                EXPECT_LE(part.batch, sizes.batch);
                EXPECT_LE(part.n, sizes.n);
                EXPECT_LE(part.k, sizes.k);
                multiply(part);
                ++count;
            });
            EXPECT_EQ(count, 3 * 3 * 3);
            EXPECT_EQ(parts, whole) << "transposed: " << trans_a << ", " << trans_b;
        }
    }
}

TEST(GemmKey, OnlyTheLargestProductsHaveParts) {
    const auto sizes_of = [](const GemmArgs& g) {
        const cuda::GemmPartSizes sizes = cuda::gemm_part_sizes(g);
        return std::vector<std::int64_t>{sizes.batch, sizes.n, sizes.k};
    };
    using Sizes = std::vector<std::int64_t>;
    GemmArgs g = legal_args();
    EXPECT_EQ(sizes_of(g), (Sizes{3, 16, 32}));
    g.batch = 65535;
    EXPECT_EQ(sizes_of(g), (Sizes{65535, 16, 32}));
    g.batch = 70'000;
    EXPECT_EQ(sizes_of(g), (Sizes{65535, 16, 32}));
    g = legal_args();
    g.n = 7'000'000;  // columns of B [k,n] and C
    g.ldb = 300;      // 2.1e9 elements; 2^31 are 2.147e9
    EXPECT_EQ(sizes_of(g)[1], 7'000'000);
    g.ldb = 512;
    const std::int64_t columns = sizes_of(g)[1];
    EXPECT_LT(columns * 512, std::int64_t{1} << 31);
    EXPECT_GE((columns + 256) * 512, std::int64_t{1} << 31);
    EXPECT_EQ(columns % 256, 0) << "parts are aligned as the whole is";
    g.ldb = 32;
    g.ldc = 512;
    EXPECT_EQ(sizes_of(g)[1], columns);
    // A gradient of weights sums over all steps: A [m,k] and B^T [n,k].
    g = legal_args();
    g.trans_a = false;
    g.trans_b = true;
    g.k = 7'000'000;
    g.lda = 100;
    g.ldb = 512;
    EXPECT_EQ(sizes_of(g), (Sizes{3, 16, columns}));
    g.lda = 512;
    g.ldb = 100;
    EXPECT_EQ(sizes_of(g), (Sizes{3, 16, columns}));
    g.lda = std::int64_t{1} << 40;  // one column at a time is the least
    EXPECT_EQ(sizes_of(g), (Sizes{3, 16, 1}));
}

TEST(GemmKey, ProductsThatCannotBeAreNamed) {
    const GemmArgs g = legal_args();
    EXPECT_EQ(gemm_problem(g), "");
    const auto expect_problem = [&](const char* part, const std::function<void(GemmArgs&)>& f) {
        GemmArgs broken = g;
        f(broken);
        const std::string problem = gemm_problem(broken);
        EXPECT_NE(problem.find(part), std::string::npos) << "\"" << problem << "\" lacks " << part;
    };
    expect_problem("m is 0", [](GemmArgs& x) { x.m = 0; });
    expect_problem("n is 0", [](GemmArgs& x) { x.n = 0; });
    expect_problem("k is 0", [](GemmArgs& x) { x.k = 0; });
    expect_problem("batch is 0", [](GemmArgs& x) { x.batch = 0; });
    expect_problem("lda is 31", [](GemmArgs& x) { x.lda = 31; });
    expect_problem("ldb is 31", [](GemmArgs& x) { x.ldb = 31; });
    expect_problem("ldc is 23", [](GemmArgs& x) { x.ldc = 23; });
    expect_problem("overlap", [](GemmArgs& x) { x.stride_c = 0; });
    expect_problem("overlap", [](GemmArgs& x) { x.stride_c = 23; });
    // A batch goes up through memory, whichever operand is meant.
    expect_problem("stride_a is -1", [](GemmArgs& x) { x.stride_a = -1; });
    expect_problem("stride_b is -70000000000", [](GemmArgs& x) { x.stride_b = -70'000'000'000; });
    expect_problem("one by one", [](GemmArgs& x) {
        x.ldc = 72;
        x.stride_c = -24;
    });
    expect_problem("null", [](GemmArgs& x) { x.c = nullptr; });
    expect_problem("i32", [](GemmArgs& x) { x.dtype = DType::kI32; });
    expect_problem("f16", [](GemmArgs& x) {
        x.dtype = DType::kBf16;
        x.out_dtype = DType::kF16;
    });
    expect_problem("bias", [](GemmArgs& x) {
        x.dtype = DType::kBf16;
        x.bias = at(0x40000);
    });
    expect_problem("bias", [](GemmArgs& x) {
        x.dtype = x.out_dtype = DType::kF64;
        x.bias = at(0x40000);
    });
    // Operands of a batch may be shared.
    GemmArgs shared = g;
    shared.stride_a = 0;
    EXPECT_EQ(gemm_problem(shared), "");
    // Results side by side: both directions in the rows of one tensor.
    GemmArgs beside = g;
    beside.ldc = 72;
    beside.stride_c = 24;
    EXPECT_EQ(gemm_problem(beside), "");
    // Strides of a batch of one are not looked at.
    GemmArgs single = g;
    single.batch = 1;
    single.stride_a = single.stride_b = single.stride_c = -1;
    EXPECT_EQ(gemm_problem(single), "");
    for (const DType dtype : {DType::kF32, DType::kTf32, DType::kBf16, DType::kF16}) {
        GemmArgs legal = g;
        legal.dtype = dtype;
        EXPECT_EQ(gemm_problem(legal), "") << dtype_name(dtype);
        legal.out_dtype = dtype;
        legal.bias = at(0x40000);
        EXPECT_EQ(gemm_problem(legal), "") << dtype_name(dtype);
    }
    EXPECT_EQ(cuda::gemm_text(g), "f32 gemm of T[24,32] x [32,16], batch 3");
}

}  // namespace
}  // namespace carousel::test
