#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/gemm_key.hpp"
#include "src/util/dtypes.hpp"
#include "tests/gpu/card.hpp"
#include "tests/support/host_tensor.hpp"

// Products on a card, apart from the passes that ask for them: a form, a type or an alignment that
// cuBLASLt has no algorithm for, or a wrong one, is named here. Operands are small whole numbers, so
// that no order of a sum rounds.

namespace carousel::test {
namespace {

using cuda::GemmArgs;

/// [-5, 5], another sequence for every `seed`.
double whole(std::int64_t index, std::int64_t seed) {
    return static_cast<double>((index * 7 + index / 11 + seed) % 11 - 5);
}

std::vector<double> wholes(std::int64_t count, std::int64_t seed) {
    std::vector<double> values(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = whole(i, seed);
    return values;
}

/// Numbers on the card, `shift` elements behind an aligned address.
class Numbers {
public:
    Numbers(DType dtype, std::vector<double> numbers, std::int64_t shift)
        : values(std::move(numbers)),
          host_(dtype, {static_cast<std::int64_t>(values.size())}),
          shift_(static_cast<std::size_t>(shift) * dtype_bytes(dtype)),
          memory_(host_.bytes().size() + shift_, kCard, "operand") {
        host_.set(this->values);
        copy_to_device(data(), host_.bytes().data(), host_.bytes().size(), kCard);
    }
    void* data() const { return memory_.as<std::byte>() + shift_; }
    std::vector<double> get() {
        copy_to_host(host_.bytes().data(), data(), host_.bytes().size(), kCard);
        return host_.get();
    }

    std::vector<double> values;

private:
    HostTensor host_;
    std::size_t shift_;
    Buffer memory_;
};

/// Relative to each expected number, or to 1.
double largest_error(const std::vector<double>& found, const std::vector<double>& expected) {
    double largest = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double error =
            std::abs(found[i] - expected[i]) / std::max(1.0, std::abs(expected[i]));
        if (!(error <= largest)) largest = error;
    }
    return largest;
}

/// Sums are exact; a bias may be added before a sum is rounded to 16 bits, or after it.
double rounding(DType dtype) {
    if (dtype == DType::kBf16) return 1.0 / 128;
    return dtype == DType::kF16 ? 1.0 / 1024 : 0.0;
}

class GpuProducts : public OnCard {
protected:
    void SetUp() override {
        OnCard::SetUp();
        if (IsSkipped()) return;
        api_ = cuda::device_api(0);
        workspace_ = Buffer(api_->gemm_workspace_bytes(), kCard, "workspace");
    }

    /// Runs a product whose sizes, types and strides are set, and compares all of C.
    void check(GemmArgs g, bool bias, std::int64_t shift) {
        const std::int64_t last = g.batch - 1;
        const std::int64_t columns_a = g.trans_a ? g.m : g.k, columns_b = g.trans_b ? g.k : g.n;
        Numbers a(storage_dtype(g.dtype), wholes(last * g.stride_a + columns_a * g.lda, 1), shift);
        Numbers b(storage_dtype(g.dtype), wholes(last * g.stride_b + columns_b * g.ldb, 2), shift);
        Numbers c(g.out_dtype, wholes(last * g.stride_c + (g.n - 1) * g.ldc + g.m, 3), shift);
        Numbers add(storage_dtype(g.dtype), wholes(g.m, 4), shift);
        g.a = a.data();
        g.b = b.data();
        g.c = c.data();
        g.bias = bias ? add.data() : nullptr;
        g.workspace = workspace_.data();
        g.workspace_bytes = workspace_.bytes();
        if (!cuda::gemm_problem(g).empty()) return;
        const std::string name = gemm_text(g) + (bias ? ", bias" : "") +
                                 (g.beta != 0 ? ", added" : "") + ", lda " + std::to_string(g.lda) +
                                 ", ldb " + std::to_string(g.ldb) + ", ldc " +
                                 std::to_string(g.ldc) + ", shift " + std::to_string(shift);
        ++checked_;
        try {
            api_->gemm(api_->default_queue(), g);
            const std::vector<double> found = c.get();
            add_product(g, a.values, b.values, bias ? add.values : std::vector<double>(), c.values);
            const double off = largest_error(found, c.values);
            if (off > rounding(g.out_dtype)) ADD_FAILURE() << name << ": off by " << off;
        } catch (const Error& error) {
            ADD_FAILURE() << name << ": " << error.what();
            if (error.code() == ErrorCode::kDeviceLost) throw;
        }
    }

    static void add_product(const GemmArgs& g, const std::vector<double>& a,
                            const std::vector<double>& b, const std::vector<double>& bias,
                            std::vector<double>& c) {
        const auto at = [](std::int64_t index) { return static_cast<std::size_t>(index); };
        for (std::int64_t batch = 0; batch < g.batch; ++batch) {
            for (std::int64_t j = 0; j < g.n; ++j) {
                for (std::int64_t i = 0; i < g.m; ++i) {
                    double sum = bias.empty() ? 0.0 : bias[at(i)];
                    for (std::int64_t l = 0; l < g.k; ++l) {
                        const std::int64_t in_a = g.trans_a ? i * g.lda + l : l * g.lda + i;
                        const std::int64_t in_b = g.trans_b ? l * g.ldb + j : j * g.ldb + l;
                        sum += a[at(batch * g.stride_a + in_a)] * b[at(batch * g.stride_b + in_b)];
                    }
                    double& to = c[at(batch * g.stride_c + j * g.ldc + i)];
                    to = round_to(g.out_dtype, sum + g.beta * to);
                }
            }
        }
    }

    std::shared_ptr<cuda::DeviceApi> api_;
    Buffer workspace_;
    int checked_ = 0;
};

constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kTf32, DType::kBf16, DType::kF16};

TEST_F(GpuProducts, EveryFormOfEveryType) {
    struct Form {
        bool trans_a, trans_b;
    };
    struct Sizes {
        std::int64_t m, n, k, gap;  ///< gap: elements between columns
    };
    for (const DType dtype : kTypes) {
        for (const Form form : {Form{true, false}, Form{false, false}, Form{false, true}}) {
            for (const Sizes s :
                 {Sizes{1, 1, 1, 0}, Sizes{1, 70, 33, 3}, Sizes{7, 5, 3, 0}, Sizes{12, 300, 1, 0},
                  Sizes{24, 16, 32, 8}, Sizes{96, 1, 40, 0}, Sizes{128, 64, 96, 0},
                  Sizes{129, 65, 97, 1}, Sizes{32, 16, 1000, 0}}) {
                GemmArgs g;
                g.dtype = dtype;
                g.trans_a = form.trans_a;
                g.trans_b = form.trans_b;
                g.m = s.m;
                g.n = s.n;
                g.k = s.k;
                g.lda = (form.trans_a ? s.k : s.m) + s.gap;
                g.ldb = (form.trans_b ? s.n : s.k) + s.gap;
                g.ldc = s.m + s.gap;
                for (const std::int64_t shift : {0, 1}) {
                    for (const double beta : {0.0, 1.0}) {
                        g.beta = beta;
                        g.out_dtype = storage_dtype(dtype);
                        check(g, false, shift);
                        check(g, true, shift);
                        if (dtype_bytes(dtype) > 2) continue;
                        g.out_dtype = DType::kF32;
                        check(g, false, shift);
                    }
                }
            }
        }
    }
    EXPECT_GT(checked_, 1000);
}

// The rows of a batch-first tensor: a product per sequence, with results side by side or one after the
// other, and more of them than a grid has places along z.
TEST_F(GpuProducts, Batches) {
    for (const DType dtype : kTypes) {
        for (const std::int64_t batch : {2, 5, 65'535, 70'000}) {
            if (batch > 5 && dtype != DType::kF32 && dtype != DType::kBf16) continue;
            for (const bool beside : {false, true}) {
                GemmArgs g;
                g.dtype = dtype;
                g.out_dtype = storage_dtype(dtype);
                g.trans_a = true;
                g.m = 4;
                g.n = 2;
                g.k = g.lda = g.ldb = 3;
                g.stride_b = g.n * g.ldb;
                g.batch = batch;
                g.stride_c = beside ? g.m : g.m * g.n;
                g.ldc = beside ? g.m * batch : g.m;
                check(g, false, 0);
                check(g, true, 0);
            }
        }
    }
}

// Matrices of 2^31 elements and more: the first and last column, and those about the boundary.
TEST_F(GpuProducts, MatricesBeyond31Bits) {
    constexpr std::int64_t kInner = 512, kColumns = (std::int64_t{1} << 31) / kInner + 5000;
    constexpr std::size_t kBytes = 2 * kInner * kColumns;
    if (api_->free_bytes() < kBytes + (std::size_t{1} << 30)) GTEST_SKIP() << "too little memory";
    const auto at = [](const Buffer& memory, std::int64_t element, DType dtype) {
        return memory.as<std::byte>() + static_cast<std::size_t>(element) * dtype_bytes(dtype);
    };
    const cuda::Queue queue = api_->default_queue();
    Numbers a(DType::kBf16, wholes(8 * kInner, 1), 0);
    Buffer b(kBytes, kCard, "a large operand"), c(8 * kColumns * sizeof(float), kCard, "a result");
    b.zero();
    HostTensor column(DType::kBf16, {kInner});
    column.set(wholes(kInner, 2));
    const std::int64_t boundary = (std::int64_t{1} << 31) / kInner;
    const std::int64_t marked[] = {0, boundary - 257, boundary - 1, boundary, kColumns - 1};
    for (const std::int64_t j : marked) {
        copy_to_device(at(b, j * kInner, DType::kBf16), column.bytes().data(), 2 * kInner, kCard);
    }
    GemmArgs g;
    g.trans_a = true;
    g.dtype = DType::kBf16;
    g.m = 8;
    g.n = kColumns;
    g.k = g.lda = g.ldb = kInner;
    g.ldc = 8;
    g.a = a.data();
    g.b = b.data();
    g.c = c.data();
    g.workspace = workspace_.data();
    g.workspace_bytes = workspace_.bytes();
    api_->gemm(queue, g);
    // The same numbers as the terms of a sum: a gradient of weights.
    GemmArgs sum;
    sum.trans_b = true;
    sum.dtype = DType::kBf16;
    sum.m = sum.lda = sum.ldb = sum.ldc = kInner;
    sum.n = 4;
    sum.k = kColumns;
    sum.a = sum.b = b.data();
    Buffer squares(kInner * 4 * sizeof(float), kCard, "a result");
    sum.c = squares.data();
    sum.workspace = g.workspace;
    sum.workspace_bytes = g.workspace_bytes;
    api_->gemm(queue, sum);

    std::vector<float> expected(8, 0.0F), found(8), of_sum(kInner * 4);
    for (std::int64_t i = 0; i < 8; ++i) {
        for (std::int64_t l = 0; l < kInner; ++l) {
            expected[static_cast<std::size_t>(i)] +=
                static_cast<float>(whole(i * kInner + l, 1) * whole(l, 2));
        }
    }
    for (const std::int64_t j : marked) {
        copy_to_host(found.data(), at(c, j * 8, DType::kF32), 8 * sizeof(float), kCard);
        EXPECT_EQ(found, expected) << "column " << j;
    }
    copy_to_host(found.data(), at(c, (boundary - 2) * 8, DType::kF32), 8 * sizeof(float), kCard);
    EXPECT_EQ(found, std::vector<float>(8, 0.0F));
    copy_to_host(of_sum.data(), squares.data(), squares.bytes(), kCard);
    for (std::int64_t j = 0; j < 4; ++j) {
        for (std::int64_t i = 0; i < kInner; ++i) {
            ASSERT_EQ(of_sum[static_cast<std::size_t>(j * kInner + i)],
                      static_cast<float>(5 * whole(i, 2) * whole(j, 2)))
                << "element " << i << ", " << j;
        }
    }
}

}  // namespace
}  // namespace carousel::test
