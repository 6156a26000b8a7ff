#include <cmath>
#include <limits>

#include "simt/nn_data.hpp"
#include "src/train/lm_sampler.hpp"
#include "src/train/random.hpp"

namespace carousel::test {
namespace {

using train::SampleOptions;
using train::TokenDraw;

std::vector<std::int32_t> draw(DType dtype, const std::vector<double>& logits, std::size_t vocab,
                               const SampleOptions& how, const std::vector<double>& uniforms,
                               std::size_t offset, const simt::Options& options) {
    const std::size_t rows = logits.size() / vocab;
    const NnTensor dlogits(dtype, logits, "logits", offset);
    const simt::DeviceBuffer<double> numbers_drawn(uniforms, "uniforms");
    const simt::DeviceBuffer<std::int32_t> tokens(rows, "tokens");
    cuda::SampleArgs args;
    args.dtype = dtype;
    args.logits = dlogits.data();
    args.rows = static_cast<std::int64_t>(rows);
    args.vocab_size = args.ld = static_cast<std::int64_t>(vocab);
    args.temperature = how.temperature;
    args.top_k = how.top_k;
    args.top_p = how.top_p;
    args.uniforms = numbers_drawn.data();
    args.tokens = tokens.data();
    run(nn().sample(args), options);
    return tokens.read();
}

/// Every row of `logits` with `uniforms` of its own gives the token that the host draws.
void check(DType dtype, std::size_t vocab, std::size_t rows, const SampleOptions& how,
           double spread, std::size_t offset, const simt::Options& options) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocab) + ", temperature " +
                 std::to_string(how.temperature) + ", top-k " + std::to_string(how.top_k) +
                 ", top-p " + std::to_string(how.top_p));
    const auto logits = rounded(numbers(rows * vocab, vocab, spread), dtype);
    std::vector<double> uniforms = numbers(rows, 7, 0.5);
    for (double& u : uniforms) u += 0.5;
    uniforms[0] = 0.0;
    if (rows > 1) uniforms[1] = 1.0 - 0x1.0p-53;
    const auto tokens = draw(dtype, logits, vocab, how, uniforms, offset, options);
    TokenDraw host(how);
    for (std::size_t r = 0; r < rows; ++r) {
        const std::int32_t expected =
            host(logits.data() + r * vocab, static_cast<std::int64_t>(vocab), uniforms[r]);
        // At the very end of the mass the host's f64 sums may round either way.
        if (uniforms[r] == 1.0 - 0x1.0p-53) {
            ASSERT_GE(tokens[r], 0);
            ASSERT_LT(tokens[r], static_cast<std::int32_t>(vocab));
            continue;
        }
        ASSERT_EQ(tokens[r], expected) << "row " << r << ", number " << uniforms[r];
    }
}

const std::vector<SampleOptions> kHows = {
    {1.0, 0, 1.0},   {0.0, 0, 1.0},   {0.7, 5, 1.0}, {1.3, 0, 0.6},  {1.0, 7, 0.8},
    {0.01, 40, 0.9}, {50.0, 3, 0.34}, {1.0, 1, 0.5}, {1.0, 0, 1e-9}, {1.0, 100000, 0.999}};

TEST(SimtNnSample, DrawsTheTokensOfTheHost) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const SampleOptions& how : kHows) {
            check(dtype, 33, 2, how, 3.0, offset, options);
            check(dtype, 1, 1, how, 3.0, offset, options);
        }
    });
}

TEST(SimtNnSample, ManyNumbersAndLargerVocabularies) {
    for (const SampleOptions& how : kHows) {
        check(DType::kF32, 50, 60, how, 4.0, 0, simt::Options());
        check(DType::kF64, 600, 8, how, 8.0, 0, simt::Options());
        check(DType::kBf16, 1500, 8, how, 2.0, 0, simt::Options());  // many equal logits
        check(DType::kF16, 5000, 3, how, 1.0, 1, simt::Options());
    }
}

TEST(SimtNnSample, EqualLogitsGoByIndex) {
    for (const SampleOptions& how :
         {SampleOptions{1.0, 3, 1.0}, SampleOptions{1.0, 5, 0.7}, SampleOptions{0.0, 0, 1.0}}) {
        std::vector<double> logits(40, 0.0);
        for (std::size_t j = 0; j < 40; j += 2) logits[j] = -0.0;
        for (const double u : {0.0, 0.1, 0.4, 0.55, 0.9}) {
            TokenDraw host(how);
            EXPECT_EQ(draw(DType::kF32, logits, 40, how, {u}, 0, simt::Options())[0],
                      host(logits.data(), 40, u))
                << u;
        }
    }
}

TEST(SimtNnSample, TheKeyGivesTheNumbersOfTheHost) {
    constexpr std::size_t kVocab = 20, kRows = 3;
    const std::uint64_t seed = 0x123456789ULL, number = 0x1000000005ULL;
    const auto logits = rounded(numbers(kRows * kVocab, 9, 2.0), DType::kF32);
    const NnTensor dlogits(DType::kF32, logits, "logits");
    const simt::DeviceBuffer<std::uint64_t> key(std::vector<std::uint64_t>{seed, number}, "key");
    const simt::DeviceBuffer<std::int32_t> tokens(kRows, "tokens");
    cuda::SampleArgs args;
    args.logits = dlogits.data();
    args.rows = kRows;
    args.vocab_size = args.ld = kVocab;
    args.top_p = 0.9;
    args.tokens = tokens.data();
    TokenDraw host({1.0, 0, 0.9});
    const auto expect_tokens = [&](std::uint64_t draw_number) {
        for (std::size_t r = 0; r < kRows; ++r) {
            const double u = train::random_uniform(seed, train::RandomStream::kSample, draw_number,
                                                   static_cast<std::uint32_t>(r));
            EXPECT_EQ(tokens[r], host(logits.data() + r * kVocab, kVocab, u));
        }
    };
    args.seed = seed;
    args.draw = number;
    run(nn().sample(args), simt::Options());
    expect_tokens(number);
    args.key = key.data();
    for (std::uint64_t next = number; next < number + 4; ++next) {
        key[1] = next;
        run(nn().sample(args), simt::Options());
        expect_tokens(next);
    }
}

TEST(SimtNnSample, AnyLogitsGiveATokenOfTheVocabulary) {
    const double inf = std::numeric_limits<double>::infinity();
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const auto token = [&](const std::vector<double>& logits, const SampleOptions& how) {
        return draw(DType::kF32, logits, logits.size(), how, {0.6}, 0, simt::Options())[0];
    };
    for (const SampleOptions& how : kHows) {
        EXPECT_EQ(token({nan, nan, nan}, how), 0);
        EXPECT_EQ(token({1.0, inf, 2.0}, how), 1);
        EXPECT_EQ(token({-inf, -inf, -inf}, how), 0);
        EXPECT_EQ(token({-inf, nan, 2.0}, how), 2);
    }
}

}  // namespace
}  // namespace carousel::test
