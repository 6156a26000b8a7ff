#include "src/cli/doctor_selftest.hpp"

#include <algorithm>
#include <cmath>

#include "carousel/rnn.hpp"

namespace carousel::cli {

namespace {

constexpr std::int64_t kSteps = 20;
constexpr std::int64_t kBatch = 5;

/// Results of one run, widened to f64.
struct Results {
    std::vector<double> y, dx, dw;
};

/// Memory of n elements of T, filled with the same numbers whatever T is.
template <class T>
std::vector<T> numbers(std::int64_t n, double scale, std::uint64_t seed) {
    std::vector<T> values(static_cast<std::size_t>(n));
    std::uint64_t state = seed;
    for (T& value : values) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        // Rounded to f32 first: both runs must start from the same numbers.
        value = static_cast<T>(
            static_cast<float>(scale * (static_cast<double>(state >> 11) * 0x1.0p-52 - 1.0)));
    }
    return values;
}

template <class T>
Results run_in(RnnSpec spec, Device device) {
    spec.dtype = sizeof(T) == 4 ? DType::kF32 : DType::kF64;
    RnnPlanOptions options;
    options.seq_len = kSteps;
    options.batch_size = kBatch;
    options.device = device;
    const RnnPlan plan = RnnPlan::create(spec, options);
    const std::int64_t out = spec.num_directions() * spec.output_size();
    auto x = numbers<T>(kSteps * kBatch * spec.input_size, 1.0, 1);
    auto dy = numbers<T>(kSteps * kBatch * out, 1.0, 2);
    auto weights = numbers<T>(param_count(spec), 0.3, 3);
    std::vector<T> y(dy.size());
    std::vector<T> dx(x.size());
    std::vector<T> dw(weights.size());
    const Buffer workspace(plan.workspace_bytes(), device, "the workspace");
    const Buffer reserve(plan.reserve_bytes(), device, "the reserve");
    const RnnParams params = params_from_flat(spec, weights.data());
    RnnGrads grads = grads_from_flat(spec, dw.data());

    RnnForwardArgs forward;
    forward.seq_len = kSteps;
    forward.batch_size = kBatch;
    forward.x = {x.data(), spec.dtype, {kSteps, kBatch, spec.input_size}};
    forward.y = {y.data(), spec.dtype, {kSteps, kBatch, out}};
    forward.params = &params;
    forward.workspace = workspace.data();
    forward.workspace_bytes = workspace.bytes();
    forward.reserve = reserve.data();
    forward.reserve_bytes = reserve.bytes();
    forward_training(plan, forward);

    RnnBackwardArgs back;
    back.seq_len = kSteps;
    back.batch_size = kBatch;
    back.x = forward.x;
    back.y = forward.y;
    back.params = &params;
    back.dy = {dy.data(), spec.dtype, {kSteps, kBatch, out}};
    back.dx = {dx.data(), spec.dtype, {kSteps, kBatch, spec.input_size}};
    back.grads = &grads;
    back.workspace = workspace.data();
    back.workspace_bytes = workspace.bytes();
    back.reserve = reserve.data();
    back.reserve_bytes = reserve.bytes();
    backward(plan, back);
    return {{y.begin(), y.end()}, {dx.begin(), dx.end()}, {dw.begin(), dw.end()}};
}

double relative_error(const std::vector<double>& got, const std::vector<double>& expected) {
    double difference = 0.0;
    double largest = 0.0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double d = std::fabs(got[i] - expected[i]);
        if (!std::isfinite(d)) return INFINITY;
        difference = std::max(difference, d);
        largest = std::max(largest, std::fabs(expected[i]));
    }
    return difference / largest;
}

}  // namespace

std::vector<SelfTest> run_self_tests(Device device) {
    std::vector<SelfTest> tests;
    for (const Cell cell :
         {Cell::kLstm, Cell::kGru, Cell::kGruResetBefore, Cell::kRnnTanh, Cell::kRnnRelu}) {
        RnnSpec spec;
        spec.cell = cell;
        spec.input_size = 19;  // odd sizes reach the tails of the vector loops
        spec.hidden_size = 33;
        spec.num_layers = 2;
        spec.bidirectional = true;
        const Results f32 = run_in<float>(spec, device);
        const Results f64 = run_in<double>(spec, device);
        SelfTest test;
        test.cell = cell;
        test.y_error = relative_error(f32.y, f64.y);
        test.dx_error = relative_error(f32.dx, f64.dx);
        test.dw_error = relative_error(f32.dw, f64.dw);
        const double worst = std::max({test.y_error, test.dx_error, test.dw_error});
        test.ok = worst <= kSelfTestTolerance;
        tests.push_back(test);
    }
    return tests;
}

}  // namespace carousel::cli
