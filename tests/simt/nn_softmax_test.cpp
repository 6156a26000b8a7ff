#include <cmath>
#include <limits>

#include "simt/nn_data.hpp"

namespace carousel::test {
namespace {

struct Problem {
    std::size_t rows, classes;
    std::vector<double> logits, bias;  // bias may be empty
    std::vector<std::int32_t> targets;
    double scale = 0.25;
};

struct Expected {
    std::vector<double> losses, dlogits;
    double loss_sum = 0.0;
    std::int64_t count = 0;
};

bool counts(const Problem& p, std::size_t r) {
    return p.targets[r] >= 0 && static_cast<std::size_t>(p.targets[r]) < p.classes;
}

Expected reference(const Problem& p) {
    Expected e;
    for (std::size_t r = 0; r < p.rows; ++r) {
        std::vector<double> z(p.logits.begin() + static_cast<std::ptrdiff_t>(r * p.classes),
                              p.logits.begin() + static_cast<std::ptrdiff_t>((r + 1) * p.classes));
        for (std::size_t j = 0; j < p.classes && !p.bias.empty(); ++j) z[j] += p.bias[j];
        double m = z[0], sum = 0.0;
        for (const double value : z) m = std::max(m, value);
        for (const double value : z) sum += std::exp(value - m);
        const bool counted = counts(p, r);
        const auto target = counted ? static_cast<std::size_t>(p.targets[r]) : 0;
        e.losses.push_back(counted ? m + std::log(sum) - z[target] : 0.0);
        for (std::size_t j = 0; j < p.classes; ++j) {
            const double gradient = std::exp(z[j] - m) / sum - (j == target ? 1.0 : 0.0);
            e.dlogits.push_back(counted ? p.scale * gradient : 0.0);
        }
        e.loss_sum += e.losses.back();
        e.count += counted ? 1 : 0;
    }
    return e;
}

Problem make_problem(DType dtype, std::size_t rows, std::size_t classes, bool bias) {
    Problem p{rows, classes, rounded(numbers(rows * classes, 1, 4.0), dtype), {}, {}};
    if (bias) p.bias = rounded(numbers(classes, 2), dtype);
    p.targets = ids(rows, static_cast<std::int64_t>(classes), 3);
    if (rows > 2) p.targets[2] = -1;
    return p;
}

/// Runs the kernels on a problem and compares; the gradient overwrites the logits if `in_place`.
void check(const Problem& p, DType dtype, std::size_t offset, bool in_place,
           std::uint32_t expected_status, const simt::Options& options) {
    SCOPED_TRACE("rows " + std::to_string(p.rows) + ", classes " + std::to_string(p.classes) +
                 (p.bias.empty() ? "" : ", bias") + (in_place ? ", in place" : ""));
    const Expected expected = reference(p);
    const NnTensor logits(dtype, p.logits, "logits", offset);
    const NnTensor bias(dtype, p.bias, "bias", offset);
    const NnTensor dlogits(dtype, p.logits.size(), "dlogits", offset);
    const simt::DeviceBuffer<std::int32_t> targets(p.targets, "targets");
    const simt::DeviceBuffer<double> losses(p.rows, "row losses");
    const simt::DeviceBuffer<std::uint32_t> status(std::vector<std::uint32_t>{0}, "status");
    LossScale scale;
    scale.scale = 1024.0;
    const simt::DeviceBuffer<LossScale> loss_scale(std::vector<LossScale>{scale}, "loss scale");
    cuda::CrossEntropyArgs args;
    args.dtype = dtype;
    args.logits = logits.data();
    args.bias = p.bias.empty() ? nullptr : bias.data();
    args.targets = targets.data();
    args.rows = static_cast<std::int64_t>(p.rows);
    args.classes = static_cast<std::int64_t>(p.classes);
    args.scale = p.scale / 1024.0;
    args.loss_scale = loss_scale.data();
    args.dlogits = in_place ? logits.data() : dlogits.data();
    args.row_losses = losses.data();
    args.status = status.data();
    run(nn().softmax_xent(args), options);
    const double wide = unit_roundoff(wide_dtype(dtype));
    const double spread = std::sqrt(static_cast<double>(p.classes)) + 8.0;
    expect_near(losses.read(), expected.losses, 4.0 * wide * spread, "losses");
    expect_near(in_place ? logits.read() : dlogits.read(), expected.dlogits,
                2.0 * (unit_roundoff(dtype) + wide * spread), "dlogits");
    if (!in_place) expect_equal(logits.read(), p.logits, "logits");
    EXPECT_EQ(status[0], expected_status);

    // Without a gradient the losses have the same bits.
    const std::vector<double> first = losses.read();
    if (!in_place) {
        args.dlogits = nullptr;
        run(nn().softmax_xent(args), options);
        expect_equal(losses.read(), first, "losses alone");
    }
    const simt::DeviceBuffer<LossRecord> record(1, "record");
    cuda::SumLossesArgs sum = {
        losses.data(), targets.data(), args.rows, args.classes, record.data(), 0, status.data()};
    run(nn().sum_losses(sum), options);
    expect_near({record[0].loss_sum}, {expected.loss_sum}, 4.0 * wide * spread, "sum of losses");
    EXPECT_EQ(record[0].count, expected.count);
    EXPECT_EQ(record[0].status, expected_status);
    const double once = record[0].loss_sum;
    sum.accumulate = 1;
    run(nn().sum_losses(sum), options);
    expect_equal({record[0].loss_sum}, {2.0 * once}, "accumulated");
    EXPECT_EQ(record[0].count, 2 * expected.count);
}

TEST(SimtNnSoftmax, LossAndGradientMatchTheFormula) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        for (const std::size_t classes : {1, 2, 33, 64, 200}) {
            check(make_problem(dtype, 11, classes, classes % 2 == 0), dtype, offset, false, 0,
                  options);
            check(make_problem(dtype, 3, classes, true), dtype, offset, true, 0, options);
        }
    });
}

TEST(SimtNnSoftmax, ABlockPerRowForManyClasses) {
    for_every_case([](DType dtype, std::size_t offset, const simt::Options& options) {
        check(make_problem(dtype, 3, 1024, true), dtype, offset, true, 0, options);
        check(make_problem(dtype, 3, 1025, false), dtype, offset, false, 0, options);
        check(make_problem(dtype, 4, 5000, true), dtype, offset, true, 0, options);
    });
}

TEST(SimtNnSoftmax, MoreRowsThanBlocks) {
    check(make_problem(DType::kF32, 132 * 16 * 8 + 9, 3, true), DType::kF32, 0, true, 0,
          simt::Options());
    check(make_problem(DType::kF32, 132 * 16 + 3, 1026, false), DType::kF32, 0, true, 0,
          simt::Options());
}

TEST(SimtNnSoftmax, BadTargetsAreLeftOutAndReported) {
    for (const std::size_t classes : {7, 1100}) {
        for (const std::int32_t bad :
             {static_cast<std::int32_t>(classes), -2, 2147483647, -2147483647}) {
            Problem p = make_problem(DType::kF32, 5, classes, true);
            p.targets[1] = bad;
            check(p, DType::kF32, 0, true, cuda::kStatusTarget, simt::Options());
        }
    }
}

TEST(SimtNnSoftmax, LargeLogitsDoNotOverflow) {
    for (const std::size_t classes : {12, 1200}) {
        Problem p = make_problem(DType::kF32, 4, classes, false);
        for (double& z : p.logits) z = rounded(z * 1000.0, DType::kF32);
        p.logits[1] = -std::numeric_limits<double>::infinity();
        p.targets[0] = 0;
        check(p, DType::kF32, 0, true, 0, simt::Options());
    }
}

TEST(SimtNnSoftmax, NanReachesTheLossAndTheGradient) {
    for (const std::size_t classes : {12, 1200}) {
        Problem p = make_problem(DType::kF32, 2, classes, true);
        p.logits[classes - 1] = std::numeric_limits<double>::quiet_NaN();
        check(p, DType::kF32, 0, false, 0, simt::Options());
    }
}

}  // namespace
}  // namespace carousel::test
