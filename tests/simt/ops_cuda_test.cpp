#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "carousel/error.hpp"
#include "simt/nn_data.hpp"
#include "simt/simt_device.hpp"
#include "src/backend/ops.hpp"
#include "tests/support/expect_error.hpp"

// The training layer's operations on a CUDA device against those on the CPU, on the same inputs,
// through the host code that drives a card.

namespace carousel::test {
namespace {

constexpr int kDevice = 62;

double element(const void* data, DType dtype, std::size_t i) {
    return dtype == DType::kF64 ? static_cast<const double*>(data)[i]
                                : static_cast<double>(static_cast<const float*>(data)[i]);
}

class SimtOps : public testing::TestWithParam<DType> {
protected:
    /// The same numbers on both devices.
    struct Both {
        Buffer host, device;
        std::size_t numel;
    };

    SimtOps()
        : installed_(kDevice, {nn_schedules().back(), simt::QueueOrder::kRandom}),
          cpu_(Ops::make(GetParam(), Device::cpu(), std::make_shared<ThreadPool>(1))),
          cuda_(Ops::make(GetParam(), Device::cuda(kDevice), nullptr)) {}

    ~SimtOps() override { EXPECT_EQ(installed_->counts().races, 0U); }

    template <class T>
    Both upload(const std::vector<T>& values) {
        const std::size_t bytes = values.size() * sizeof(T);
        Both both{Buffer(bytes), Buffer(bytes, Device::cuda(kDevice)), values.size()};
        cpu_->upload(both.host.data(), values.data(), bytes);
        cuda_->upload(both.device.data(), values.data(), bytes);
        return both;
    }
    Both tensor(std::size_t numel, std::uint64_t seed, double scale = 1.0) {
        const std::vector<double> values = numbers(numel, seed, scale);
        if (GetParam() == DType::kF64) return upload(values);
        return upload(std::vector<float>(values.begin(), values.end()));
    }
    Both zeros(std::size_t numel) { return tensor(numel, 1, 0.0); }

    std::vector<double> on_device(const Both& both) {
        Buffer copy(both.device.bytes());
        cuda_->download(copy.data(), both.device.data(), copy.bytes());
        std::vector<double> values(both.numel);
        for (std::size_t i = 0; i < both.numel; ++i) {
            values[i] = element(copy.data(), GetParam(), i);
        }
        return values;
    }
    std::vector<double> on_host(const Both& both) const {
        std::vector<double> values(both.numel);
        for (std::size_t i = 0; i < both.numel; ++i) {
            values[i] = element(both.host.data(), GetParam(), i);
        }
        return values;
    }
    void expect_same(const Both& both, double units, const char* what) {
        expect_near(on_device(both), on_host(both), units * unit_roundoff(GetParam()), what);
    }

    simt::InstalledDevice installed_;
    std::shared_ptr<Ops> cpu_, cuda_;
};

TEST_P(SimtOps, ElementwiseOperations) {
    Both x = tensor(101, 1), y = tensor(101, 2);
    cpu_->axpy(0.3, x.host.data(), y.host.data(), 101);
    cuda_->axpy(0.3, x.device.data(), y.device.data(), 101);
    expect_same(y, 2, "axpy");
    cpu_->scale(1.7, y.host.data(), 101);
    cuda_->scale(1.7, y.device.data(), 101);
    expect_same(y, 6, "scale");
    cpu_->clamp(0.4, y.host.data(), 101);
    cuda_->clamp(0.4, y.device.data(), 101);
    expect_same(y, 6, "clamp");
    cpu_->dropout(x.host.data(), y.host.data(), 101, 0.4, 11, 12, 13);
    cuda_->dropout(x.device.data(), y.device.data(), 101, 0.4, 11, 12, 13);
    expect_same(y, 0, "dropout");
    Both key = upload(std::vector<std::uint64_t>{21, 22});
    cpu_->dropout_keyed(x.host.data(), y.host.data(), 101, 0.4, key.host.as<std::uint64_t>(), 3);
    cuda_->dropout_keyed(x.device.data(), y.device.data(), 101, 0.4, key.device.as<std::uint64_t>(),
                         3);
    expect_same(y, 0, "dropout with a key");
    cuda_->copy(x.device.data(), y.device.data(), x.device.bytes());
    EXPECT_EQ(on_device(y), on_device(x));
    cuda_->zero(y.device.data(), y.device.bytes());
    EXPECT_EQ(on_device(y), std::vector<double>(101, 0.0));
}

TEST_P(SimtOps, ProductsOfEveryOrientation) {
    constexpr std::int64_t kM = 7, kN = 5, kK = 11, kPad = 3;
    for (const bool trans_a : {false, true}) {
        for (const bool trans_b : {false, true}) {
            Both a = tensor(200, 3), b = tensor(200, 4), c = tensor(kM * (kN + kPad), 5);
            MatMulArgs args;
            args.trans_a = trans_a;
            args.trans_b = trans_b;
            args.m = kM;
            args.n = kN;
            args.k = kK;
            args.alpha = 0.7;
            args.beta = 0.5;
            args.lda = (trans_a ? kM : kK) + kPad;
            args.ldb = (trans_b ? kK : kN) + kPad;
            args.ldc = kN + kPad;
            const auto run_on = [&](Ops& ops, Buffer Both::*side) {
                args.a = (a.*side).data();
                args.b = (b.*side).data();
                args.c = (c.*side).data();
                ops.matmul(args);
            };
            run_on(*cpu_, &Both::host);
            run_on(*cuda_, &Both::device);
            expect_same(c, 32, "c");
        }
    }
}

TEST_P(SimtOps, MatrixTimesVectorWithAndWithoutFoldedBias) {
    for (const bool folds : {false, true}) {
        installed_->options().folds_bias = folds;
        for (const bool has_bias : {false, true}) {
            Both weight = tensor(13 * 9, 6), x = tensor(9, 7), bias = tensor(13, 8), y = zeros(13);
            MatVecArgs args;
            args.rows = 13;
            args.cols = 9;
            const auto run_on = [&](Ops& ops, Buffer Both::*side) {
                args.weight = (weight.*side).data();
                args.x = (x.*side).data();
                args.bias = has_bias ? (bias.*side).data() : nullptr;
                args.y = (y.*side).data();
                ops.matvec(args);
            };
            run_on(*cpu_, &Both::host);
            run_on(*cuda_, &Both::device);
            expect_same(y, 32, "y");
        }
    }
}

TEST_P(SimtOps, RowsAndColumns) {
    Both table = tensor(20 * 6, 9), rows = upload(ids(31, 20, 10)), y = zeros(31 * 6);
    Both bias = tensor(6, 11), sum = tensor(6, 12), one_hot = zeros(31 * 20);
    const auto run_on = [&](Ops& ops, Buffer Both::*side) {
        const auto* id = (rows.*side).as<std::int32_t>();
        ops.gather_rows({(table.*side).data(), 6, id, 31, (y.*side).data(), 20});
        ops.add_bias({(y.*side).data(), 31, 6, 6, (bias.*side).data()});
        ops.scatter_add_rows({(table.*side).data(), 6, id, 31, (y.*side).data(), 20});
        ops.column_sum({(y.*side).data(), 31, 6, 6, (sum.*side).data(), true});
        ops.set_one_hot((one_hot.*side).data(), 20, id, 31, 1.0);
    };
    run_on(*cpu_, &Both::host);
    run_on(*cuda_, &Both::device);
    expect_same(y, 0, "gathered rows");
    expect_same(table, 0, "scattered rows");  // the same additions in the same order
    expect_same(sum, 32, "column sum");
    expect_same(one_hot, 0, "one-hot rows");
}

TEST_P(SimtOps, LossesAreReadBackByTicket) {
    constexpr std::int64_t kRows = 9, kClasses = 14;
    Both logits = tensor(kRows * kClasses, 13, 3.0), bias = tensor(kClasses, 14);
    std::vector<std::int32_t> wanted = ids(kRows, kClasses, 15);
    wanted[4] = -1;
    Both targets = upload(wanted), losses = upload(std::vector<double>(kRows, 0.0));
    Both record = upload(std::vector<LossRecord>(1));
    const auto run_on = [&](Ops& ops, Buffer Both::*side) {
        SoftmaxXentArgs args;
        args.logits = (logits.*side).data();
        args.dlogits = (logits.*side).data();
        args.bias = (bias.*side).data();
        args.targets = (targets.*side).as<std::int32_t>();
        args.rows = kRows;
        args.classes = kClasses;
        args.scale = 0.5;
        args.row_losses = (losses.*side).as<double>();
        ops.softmax_xent(args);
        ops.sum_losses({args.row_losses, args.targets, kRows, kClasses,
                        (record.*side).as<LossRecord>(), false});
        const Ops::Ticket first = ops.read_back((record.*side).data(), sizeof(LossRecord));
        ops.sum_losses({args.row_losses, args.targets, kRows, kClasses,
                        (record.*side).as<LossRecord>(), true});
        const Ops::Ticket second = ops.read_back((record.*side).data(), sizeof(LossRecord));
        LossRecord once, twice;
        ops.collect(second, &twice);
        ops.collect(first, &once);
        EXPECT_EQ(once.count, kRows - 1);
        EXPECT_EQ(twice.count, 2 * (kRows - 1));
        EXPECT_DOUBLE_EQ(twice.loss_sum, 2.0 * once.loss_sum);
        return once.loss_sum;
    };
    const double expected = run_on(*cpu_, &Both::host);
    EXPECT_NEAR(run_on(*cuda_, &Both::device), expected, 64 * unit_roundoff(GetParam()) * expected);
    expect_same(logits, 64, "dlogits");
}

TEST_P(SimtOps, TooManyUncollectedResultsAreRefused) {
    for (Ops* ops : {cpu_.get(), cuda_.get()}) {
        Both x = zeros(1);
        const void* data = ops == cpu_.get() ? x.host.data() : x.device.data();
        std::vector<Ops::Ticket> tickets;
        for (int i = 0; i < Ops::kReadBacks; ++i) tickets.push_back(ops->read_back(data, 4));
        expect_error(ErrorCode::kInvalidArgument, "collect", [&] { ops->read_back(data, 4); });
        ops->drop(tickets.front());
        ops->drop(ops->read_back(data, 4));
    }
}

TEST_P(SimtOps, NormAndUpdates) {
    constexpr std::int64_t kCount = 5003;
    for (const UpdateRule rule : {UpdateRule::kSgdMomentum, UpdateRule::kAdamW}) {
        Both value = tensor(kCount, 16), grad = tensor(kCount, 17), slot0 = zeros(kCount),
             slot1 = zeros(kCount);
        Both control = upload(std::vector<StepControl>(1));
        Both partials = upload(std::vector<double>(4, 0.0)), lr = upload(std::vector<double>{0.05});
        const auto run_on = [&](Ops& ops, Buffer Both::*side) {
            const NormSpan spans[2] = {
                {(grad.*side).data(), 100},
                {(grad.*side).as<std::byte>() + 100 * dtype_bytes(GetParam()), kCount - 100}};
            GradNormArgs norm;
            norm.spans = spans;
            norm.num_spans = 2;
            norm.max_norm = 3.0;
            norm.partials = (partials.*side).as<double>();
            norm.control = (control.*side).as<StepControl>();
            OptimizerStepArgs step;
            step.update.rule = rule;
            step.update.value = (value.*side).data();
            step.update.grad = (grad.*side).data();
            step.update.slot0 = (slot0.*side).data();
            step.update.slot1 = (slot1.*side).data();
            step.update.momentum = 0.9;
            step.update.beta1 = 0.9;
            step.update.beta2 = 0.99;
            step.update.eps = 1e-4;
            step.update.weight_decay = 0.01;
            step.numel = kCount;
            step.control = norm.control;
            step.lr = (lr.*side).as<double>();
            for (int t = 0; t < 2; ++t) {
                ops.grad_norm(norm);
                ops.optimizer_step(step);
            }
            StepControl result;
            ops.download(&result, norm.control, sizeof result);
            EXPECT_EQ(result.applied_steps, 2);
            return result.grad_norm;
        };
        const double norm = run_on(*cpu_, &Both::host);
        EXPECT_NEAR(run_on(*cuda_, &Both::device), norm, 64 * unit_roundoff(GetParam()) * norm);
        expect_same(value, 64, "value");
        expect_same(slot0, 64, "slot0");
        if (rule == UpdateRule::kAdamW) expect_same(slot1, 64, "slot1");
    }
}

TEST_P(SimtOps, SamplesTokens) {
    Both logits = tensor(2 * 30, 18, 2.0), tokens = upload(std::vector<std::int32_t>(2, -1));
    SampleTokensArgs args;
    args.logits = logits.device.data();
    args.rows = 2;
    args.vocab_size = 30;
    args.top_k = 1;
    args.tokens = tokens.device.as<std::int32_t>();
    cuda_->sample_tokens(args);
    std::int32_t drawn[2];
    cuda_->download(drawn, args.tokens, sizeof drawn);
    const std::vector<double> z = on_host(logits);
    for (int r = 0; r < 2; ++r) {
        const auto row = z.begin() + 30 * r;
        EXPECT_EQ(drawn[r], std::max_element(row, row + 30) - row);
    }
}

TEST_P(SimtOps, RowSetsBelongToTheCpu) {
    EXPECT_FALSE(cuda_->visits_rows());
    std::int64_t row = 0;
    expect_error(ErrorCode::kUnsupported, "as a whole", [&] {
        cuda_->zero_rows(nullptr, {1, &row, 1});
    });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, SimtOps, testing::Values(DType::kF64, DType::kF32),
                         [](const auto& tested) { return std::string(dtype_name(tested.param)); });

}  // namespace
}  // namespace carousel::test
