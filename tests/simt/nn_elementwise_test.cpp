#include <cmath>
#include <limits>

#include "simt/nn_data.hpp"
#include "src/backend/dropout_mask.hpp"

namespace carousel::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// One element, less than a pack, whole packs and a rest, several blocks.
const std::vector<std::size_t> kSizes = {1, 5, 33, 1029};

std::int64_t count(std::size_t n) { return static_cast<std::int64_t>(n); }

TEST(SimtNnElementwise, AxpyAddsInTheArithmeticOfTheDtype) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t n : kSizes) {
            const auto x = rounded(numbers(n, 1), dtype), y = rounded(numbers(n, 2), dtype);
            const NnTensor dx(dtype, x, "x", offset), dy(dtype, y, "y", offset);
            run(nn().axpy({dtype, 0.75, dx.data(), dy.data(), count(n)}), options);
            std::vector<double> expected(n);
            for (std::size_t i = 0; i < n; ++i) expected[i] = y[i] + 0.75 * x[i];
            expect_near(dy.read(), expected, 2 * unit_roundoff(dtype), "y");
            expect_equal(dx.read(), x, "x");
        }
    });
}

TEST(SimtNnElementwise, MixedAlignmentFallsBackToSingleElements) {
    const auto x = numbers(37, 1), y = numbers(37, 2);
    const NnTensor dx(DType::kF64, x, "x", 1), dy(DType::kF64, y, "y");
    run(nn().axpy({DType::kF64, 2.0, dx.data(), dy.data(), 37}), simt::Options());
    std::vector<double> expected(37);
    for (std::size_t i = 0; i < 37; ++i) expected[i] = std::fma(2.0, x[i], y[i]);
    expect_equal(dy.read(), expected, "y");
}

TEST(SimtNnElementwise, MoreElementsThanThreadsOfTheLargestGrid) {
    constexpr std::size_t kCount = 132 * 16 * 256 + 1001;
    const NnTensor x(DType::kBf16, std::vector<double>(kCount, 3.0), "x", 1);
    run(nn().scale({DType::kBf16, 2.0, nullptr, x.data(), count(kCount)}), simt::Options());
    expect_equal(x.read(), std::vector<double>(kCount, 6.0), "x");
}

TEST(SimtNnElementwise, ScaleByValueAndByANumberOnTheDevice) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t n : kSizes) {
            const auto x = rounded(numbers(n, 3), dtype);
            const NnTensor dx(dtype, x, "x", offset);
            const simt::DeviceBuffer<double> factor(std::vector<double>{0.3}, "factor");
            run(nn().scale({dtype, 1.7, nullptr, dx.data(), count(n)}), options);
            run(nn().scale({dtype, 99.0, factor.data(), dx.data(), count(n)}), options);
            std::vector<double> expected(n);
            for (std::size_t i = 0; i < n; ++i) expected[i] = 1.7 * 0.3 * x[i];
            expect_near(dx.read(), expected, 6 * unit_roundoff(dtype), "x");
        }
    });
}

TEST(SimtNnElementwise, ResetScaleLeavesTheRest) {
    StepControl before;
    before.scale = 0.25;
    before.grad_norm = 4.0;
    before.applied_steps = 7;
    LossScale scale;
    scale.unscale = 0.125;
    const simt::DeviceBuffer<StepControl> control(std::vector<StepControl>{before}, "control");
    const simt::DeviceBuffer<LossScale> loss(std::vector<LossScale>{scale}, "loss scale");
    run(nn().reset_scale({control.data(), loss.data()}), simt::Options());
    EXPECT_EQ(control[0].scale, 1.0);
    EXPECT_EQ(control[0].grad_norm, 4.0);
    EXPECT_EQ(control[0].applied_steps, 7);
    EXPECT_EQ(loss[0].unscale, 1.0);
    EXPECT_EQ(loss[0].scale, 65536.0);
}

TEST(SimtNnElementwise, ClampKeepsNan) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t n : kSizes) {
            auto x = rounded(numbers(n, 4, 2.0), dtype);
            x[n / 2] = kNan;
            const NnTensor dx(dtype, x, "x", offset);
            run(nn().clamp({dtype, 0.5, dx.data(), count(n)}), options);
            for (double& value : x) {
                if (!std::isnan(value)) value = std::min(0.5, std::max(-0.5, value));
            }
            expect_equal(dx.read(), x, "x");
            EXPECT_TRUE(std::isnan(dx.read()[n / 2]));
        }
    });
}

TEST(SimtNnElementwise, CastsRoundToNearestEven) {
    for (const DType to : kNnDtypes) {
        for_every_case([&](DType from, std::size_t offset, const simt::Options& options) {
            for (const std::size_t n : kSizes) {
                const auto x = rounded(numbers(n, 5, 100.0), from);
                const NnTensor dx(from, x, "from", offset), dy(to, n, "to", offset);
                run(nn().cast({from, to, dx.data(), dy.data(), count(n)}), options);
                expect_equal(dy.read(), rounded(x, to), std::string("as ") + dtype_name(to));
            }
        });
    }
}

TEST(SimtNnElementwise, DropoutDrawsTheMasksOfTheHost) {
    const DropoutKey key{0x123456789ABCDEFULL, 0xFEDCBA987654321ULL, 3};
    for_every_case([&](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t n : kSizes) {
            const double p = 0.35;
            const auto x = rounded(numbers(n, 6), dtype);
            std::vector<double> mask(n);
            if (dtype == DType::kF64) {
                fill_dropout_mask(key, p, 0, count(n), mask.data());
            } else {
                std::vector<float> narrow(n);
                fill_dropout_mask(key, p, 0, count(n), narrow.data());
                mask.assign(narrow.begin(), narrow.end());
            }
            std::vector<double> expected(n);
            for (std::size_t i = 0; i < n; ++i) {
                const double product = x[i] * mask[i];
                expected[i] =
                    rounded(dtype == DType::kF64 ? product
                                                 : static_cast<double>(static_cast<float>(product)),
                            dtype);
            }
            const NnTensor dx(dtype, x, "x", offset), dy(dtype, n, "y", offset);
            run(nn().dropout({dtype, dx.data(), dy.data(), count(n), p, nullptr, key.seed, key.step,
                              key.layer}),
                options);
            expect_equal(dy.read(), expected, "y");
            // The key from device memory, in place.
            const simt::DeviceBuffer<std::uint64_t> device_key(
                std::vector<std::uint64_t>{key.seed, key.step}, "key");
            run(nn().dropout(
                    {dtype, dx.data(), dx.data(), count(n), p, device_key.data(), 1, 2, key.layer}),
                options);
            expect_equal(dx.read(), expected, "x in place");
        }
    });
}

}  // namespace
}  // namespace carousel::test
