#include "carousel/module.hpp"

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "carousel/loss.hpp"
#include "carousel/optimizer.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/rnn_data.hpp"

namespace carousel::test {
namespace {

template <class T>
ModuleContext context_of(int threads = 2) {
    return ModuleContext(sizeof(T) == 4 ? DType::kF32 : DType::kF64, {},
                         std::make_shared<ThreadPool>(threads));
}

template <class T>
std::vector<T> random_of(std::uint64_t seed, std::int64_t count) {
    const auto values = random_values(seed, count, 1.0);
    return std::vector<T>(values.begin(), values.end());
}

template <class T>
void fill(const TensorView& view, const std::vector<T>& values) {
    std::memcpy(view.data, values.data(), values.size() * sizeof(T));
}

template <class T>
std::vector<T> read(const TensorView& view) {
    const T* data = static_cast<const T*>(view.data);
    return std::vector<T>(data, data + view.numel());
}

template <class T>
void expect_near(const std::vector<T>& actual, const std::vector<double>& expected, double limit) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(actual[i]), expected[i], limit) << "element " << i;
    }
}

TEST(Modules, WithoutMemoryEveryUseIsRefusedAndCanBeMadeUpFor) {
    ParameterSet params(context_of<float>());
    RnnSpec spec;
    spec.cell = Cell::kGru;
    spec.input_size = spec.hidden_size = 4;
    Rnn rnn(params, "rnn", spec, 3, 2);
    Embedding embedding(params, "embedding", 5, 4);
    Linear linear(params, "output", 4, 5);
    std::vector<float> x(24, 0.5f), y(24), logits(30);
    const std::vector<std::int32_t> ids{0, 4, 2};
    RnnForwardArgs args;
    args.seq_len = 3;
    args.batch_size = 2;
    args.x = {x.data(), DType::kF32, {3, 2, 4}};
    args.y = {y.data(), DType::kF32, {3, 2, 4}};
    const std::function<void()> uses[] = {
        [&] { rnn.forward_training(args); },
        [&] { linear.forward(x.data(), 6, logits.data()); },
        [&] { linear.backward(x.data(), 6, logits.data(), y.data()); },
        [&] { embedding.forward(ids.data(), 3, y.data()); },
        [&] { embedding.backward(ids.data(), 3, y.data()); },
        [&] { params.value(0); },
        [&] { params.grad(0); },
    };
    for (const auto& use : uses) expect_error(ErrorCode::kInvalidArgument, "allocate", use);
    // Their sizes follow from all tensors.
    expect_error(ErrorCode::kInvalidArgument, "allocate", [&] { GradClip(params, 1.0); });
    params.allocate();
    for (const auto& use : uses) EXPECT_NO_THROW(use());
    expect_error(ErrorCode::kInvalidArgument, "allocate", [&] { params.allocate(); });
    GradClip clip(params, 1.0);
    Optimizer optimizer(params, clip, {});
    for (const double lr : {std::nan(""), -0.1, HUGE_VAL}) {
        expect_error(ErrorCode::kInvalidArgument, "rate", [&] { optimizer.step(lr); });
        expect_error(ErrorCode::kInvalidArgument, "rate", [&] { optimizer.set_lr(lr); });
    }
}

TEST(Modules, CountsAndTensorsOfACallAreChecked) {
    const ModuleContext context = context_of<float>();
    ParameterSet params(context);
    Embedding embedding(params, "embedding", 5, 4);
    Linear linear(params, "output", 4, 5);
    const Dropout dropout(context, 0.5, 0), none(context, 0.0, 0);
    SoftmaxCrossEntropy loss(context, 5, 8);
    expect_error(ErrorCode::kInvalidArgument, "two parameters are named 'output.weight'",
                 [&] { Linear again(params, "output", 4, 5); });
    params.allocate();
    std::vector<float> x(24, 0.5f), y(30);
    const std::vector<std::int32_t> ids{0, 4, 2};
    IdBuffer buffer(context, 3);
    buffer.upload(ids.data(), 3);
    const auto refused = [](const char* part, const std::function<void()>& call) {
        expect_error(ErrorCode::kInvalidArgument, part, call);
    };
    refused("n is -1", [&] { buffer.upload(ids.data(), -1); });
    refused("n is -1", [&] { embedding.forward(ids.data(), -1, y.data()); });
    refused("ids is null", [&] { embedding.forward(nullptr, 3, y.data()); });
    refused("y is null", [&] { embedding.forward(buffer, 3, nullptr); });
    refused("room for 3", [&] { embedding.forward(buffer, 4, y.data()); });
    refused("dy is null", [&] { embedding.backward(ids.data(), 3, nullptr); });
    refused("room for 3", [&] { embedding.backward(buffer, 4, y.data()); });
    refused("x is null, and n is 2", [&] { linear.forward(nullptr, 2, y.data()); });
    refused("n is -2", [&] { linear.forward(x.data(), -2, y.data()); });
    refused("dy is null", [&] { linear.backward(x.data(), 2, nullptr, nullptr); });
    refused("numel is -4", [&] { dropout.apply(x.data(), -4, 1, 1, y.data()); });
    refused("y is null", [&] { none.apply(x.data(), 4, 1, 1, nullptr); });
    refused("logits is null", [&] { loss.run(nullptr, nullptr, ids.data(), 3, 1.0, nullptr); });
    refused("n is -1", [&] { loss.run(y.data(), nullptr, ids.data(), -1, 1.0, nullptr); });
    refused("from is null, and 8 bytes", [&] { copy_to_host(y.data(), nullptr, 8, {}); });
    refused("to is null", [&] { copy_to_device(nullptr, y.data(), 8, {}); });
    EXPECT_NO_THROW(linear.forward(nullptr, 0, nullptr));
    EXPECT_NO_THROW(copy_to_host(nullptr, nullptr, 0, {}));
}

template <class T>
void check_linear(std::int64_t n, std::int64_t in, std::int64_t out, double limit) {
    ParameterSet params(context_of<T>());
    Linear linear(params, "layer", in, out);
    params.allocate();
    const auto w = random_of<T>(1, out * in), b = random_of<T>(2, out);
    const auto x = random_of<T>(3, n * in), dy = random_of<T>(4, n * out);
    fill(params.value(0), w);
    fill(params.value(1), b);
    std::vector<double> y(static_cast<std::size_t>(n * out)), dx(x.size()), dw(w.size()),
        db(b.size());
    for (std::int64_t r = 0; r < n; ++r) {
        for (std::int64_t o = 0; o < out; ++o) {
            const auto ro = static_cast<std::size_t>(r * out + o);
            y[ro] = static_cast<double>(b[static_cast<std::size_t>(o)]);
            db[static_cast<std::size_t>(o)] += static_cast<double>(dy[ro]);
            for (std::int64_t i = 0; i < in; ++i) {
                const auto ri = static_cast<std::size_t>(r * in + i);
                const auto oi = static_cast<std::size_t>(o * in + i);
                y[ro] += static_cast<double>(w[oi]) * static_cast<double>(x[ri]);
                dx[ri] += static_cast<double>(w[oi]) * static_cast<double>(dy[ro]);
                dw[oi] += static_cast<double>(dy[ro]) * static_cast<double>(x[ri]);
            }
        }
    }
    std::vector<T> y_out(y.size()), dx_out(dx.size());
    linear.forward(x.data(), n, y_out.data());
    linear.backward(x.data(), n, dy.data(), dx_out.data());
    expect_near(y_out, y, limit);
    expect_near(dx_out, dx, limit);
    expect_near(read<T>(params.grad(0)), dw, limit);
    expect_near(read<T>(params.grad(1)), db, limit);
    linear.backward(x.data(), n, dy.data(), nullptr, true);
    for (double& v : dw) v *= 2.0;
    for (double& v : db) v *= 2.0;
    expect_near(read<T>(params.grad(0)), dw, 2.0 * limit);
    expect_near(read<T>(params.grad(1)), db, 2.0 * limit);
}

TEST(Linear, ForwardAndBackwardMatchTheDefinition) {
    for (const std::int64_t n : {1, 3, 130}) {
        check_linear<double>(n, 17, 33, 1e-12);
        check_linear<float>(n, 64, 65, 2e-4);
        check_linear<float>(n, 5, 1100, 2e-4);
    }
}

template <class T>
void check_embedding(int threads) {
    const std::int64_t rows = 50, size = 70, n = 400;
    ParameterSet params(context_of<T>(threads));
    Embedding embedding(params, "embedding", rows, size);
    params.allocate();
    const auto table = random_of<T>(1, rows * size);
    fill(params.value(0), table);
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < n; ++i) ids.push_back(static_cast<std::int32_t>(i * i % 37));
    std::vector<T> y(static_cast<std::size_t>(n * size));
    embedding.forward(ids.data(), n, y.data());
    const auto dy = random_of<T>(2, n * size);
    // Sums in the order of positions, in T: what the module promises, bit for bit.
    std::vector<T> dweight(table.size(), T(0));
    std::vector<bool> used(static_cast<std::size_t>(rows));
    for (std::int64_t i = 0; i < n; ++i) {
        used[static_cast<std::size_t>(ids[static_cast<std::size_t>(i)])] = true;
        for (std::int64_t j = 0; j < size; ++j) {
            const auto to = static_cast<std::size_t>(ids[static_cast<std::size_t>(i)] * size + j);
            const auto from = static_cast<std::size_t>(i * size + j);
            ASSERT_EQ(y[from], table[to]);
            dweight[to] += dy[from];
        }
    }
    // A call before, on other rows, must leave no trace.
    std::vector<std::int32_t> other(ids);
    for (std::int32_t& id : other) id = 49 - id;
    embedding.backward(other.data(), n, dy.data());
    embedding.backward(ids.data(), n, dy.data());
    EXPECT_EQ(read<T>(params.grad(0)), dweight);
    const auto& touched = params.touched_rows().front().rows;
    EXPECT_EQ(static_cast<std::ptrdiff_t>(touched.size()),
              std::count(used.begin(), used.end(), true));
    for (const std::int64_t row : touched) EXPECT_TRUE(used[static_cast<std::size_t>(row)]);
}

TEST(Embedding, LooksUpAndAddsInOrderAtAnyThreadCount) {
    for (const int threads : {1, 2, 3}) {
        check_embedding<float>(threads);
        check_embedding<double>(threads);
    }
}

TEST(Embedding, AccumulatesOverChunks) {
    ParameterSet params(context_of<double>());
    Embedding embedding(params, "e", 4, 2);
    params.allocate();
    const std::vector<double> dy = {1, 2, 3, 4};
    const std::vector<std::int32_t> a = {3, 1}, b = {1, 0};
    embedding.backward(a.data(), 2, dy.data());
    embedding.backward(b.data(), 2, dy.data(), true);
    EXPECT_EQ(read<double>(params.grad(0)), (std::vector<double>{3, 4, 4, 6, 0, 0, 1, 2}));
    EXPECT_EQ(params.touched_rows().front().rows, (std::vector<std::int64_t>{3, 1, 0}));
}

TEST(Embedding, NamesTheFirstBadId) {
    ParameterSet params(context_of<float>());
    Embedding embedding(params, "e", 4, 2);
    params.allocate();
    std::vector<float> y(6);
    for (const std::int32_t bad : {4, -1}) {
        const std::vector<std::int32_t> ids = {0, bad, 9};
        const std::string sentence = expect_error(ErrorCode::kInvalidArgument, "ids", [&] {
            embedding.forward(ids.data(), 3, y.data());
        });
        EXPECT_NE(sentence.find("ids[1] is " + std::to_string(bad)), std::string::npos) << sentence;
    }
}

TEST(Dropout, ScalesWhatItKeepsAndRepeatsItsMask) {
    const std::int64_t n = 200000;
    const double p = 0.3;
    const std::vector<float> x(static_cast<std::size_t>(n), 2.0f);
    std::vector<float> first(x.size());
    for (const int threads : {1, 2, 3}) {
        const Dropout dropout(context_of<float>(threads), p, 1);
        std::vector<float> y(x.size());
        dropout.apply(x.data(), n, 11, 5, y.data());
        if (threads == 1) first = y;
        ASSERT_EQ(y, first);
    }
    std::int64_t kept = 0;
    for (const float v : first) {
        ASSERT_TRUE(v == 0.0f || std::abs(v - 2.0f / 0.7f) < 1e-6f);
        kept += v != 0.0f ? 1 : 0;
    }
    // 4.5 standard deviations.
    EXPECT_NEAR(static_cast<double>(kept) / static_cast<double>(n), 1.0 - p,
                4.5 * std::sqrt(p * (1.0 - p) / static_cast<double>(n)));
    std::vector<float> other(x.size());
    Dropout(context_of<float>(), p, 1).apply(x.data(), n, 11, 6, other.data());
    EXPECT_NE(other, first);
    Dropout(context_of<float>(), p, 2).apply(x.data(), n, 11, 5, other.data());
    EXPECT_NE(other, first);
}

TEST(ParameterSet, AlignsTensorsAndRefusesDuplicates) {
    ParameterSet params(context_of<float>());
    Linear a(params, "a", 3, 5);
    Linear b(params, "b", 2, 2);
    params.allocate();
    EXPECT_EQ(params.infos().size(), 4u);
    for (const ParameterInfo& info : params.infos()) {
        EXPECT_EQ(info.offset % 16, 0) << info.name;
        EXPECT_EQ(params.find(info.name), static_cast<std::size_t>(&info - params.infos().data()));
    }
    expect_error(ErrorCode::kInvalidArgument, "allocate", [&] { Linear(params, "c", 1, 1); });
    ParameterSet twice(context_of<float>());
    Linear c(twice, "a", 3, 5);
    expect_error(ErrorCode::kInvalidArgument, "named", [&] { Linear(twice, "a", 3, 5); });
}

TEST(ModuleContext, SaysWhatItCannotDo) {
    expect_error(ErrorCode::kUnsupported, "bf16", [] { ModuleContext{DType::kBf16}; });
}

}  // namespace
}  // namespace carousel::test
