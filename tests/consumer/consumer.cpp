// A C++17 program that uses Carousel as installed: one recurrent unit against the formula, and an
// error caught across the library's border.

#include <carousel/carousel.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

constexpr int kSteps = 5;
constexpr double kWeightIh = 0.7, kWeightHh = -1.3, kBias = 0.25;

double largest_error() {
    carousel::RnnSpec spec;
    spec.cell = carousel::Cell::kRnnTanh;
    spec.dtype = carousel::DType::kF64;
    spec.input_size = 1;
    spec.hidden_size = 1;
    spec.bias = carousel::BiasMode::kSingle;

    carousel::RnnPlanOptions options;
    options.seq_len = kSteps;
    options.batch_size = 1;
    options.training = false;
    options.num_threads = 1;
    const carousel::RnnPlan plan = carousel::RnnPlan::create(spec, options);

    const std::vector<double> weights = {kWeightIh, kWeightHh, kBias};
    const std::vector<double> x = {1.0, -0.5, 0.25, 2.0, -3.0};
    std::vector<double> y(kSteps, 0.0);
    const carousel::RnnParams params = carousel::params_from_flat(spec, weights.data());
    const carousel::Buffer workspace(plan.workspace_bytes());

    carousel::RnnForwardArgs args;
    args.seq_len = kSteps;
    args.batch_size = 1;
    args.x = carousel::ConstTensorView(x.data(), spec.dtype, {kSteps, 1, 1});
    args.y = carousel::TensorView(y.data(), spec.dtype, {kSteps, 1, 1});
    args.params = &params;
    args.workspace = workspace.data();
    args.workspace_bytes = workspace.bytes();
    carousel::forward_inference(plan, args);

    double h = 0.0;
    double error = 0.0;
    for (int t = 0; t < kSteps; ++t) {
        h = std::tanh(kWeightIh * x[t] + kWeightHh * h + kBias);
        error = std::fmax(error, std::fabs(y[t] - h));
    }
    return error;
}

bool error_is_caught() {
    try {
        carousel::Device::parse("toaster");
    } catch (const carousel::Error& error) {
        return error.code() == carousel::ErrorCode::kInvalidArgument;
    }
    return false;
}

}  // namespace

int main() {
    const double error = largest_error();
    if (!(error < 1e-12)) {
        std::fprintf(stderr, "outputs differ from the formula by %g\n", error);
        return 1;
    }
    if (!error_is_caught()) {
        std::fprintf(stderr, "a wrong device name was not an InvalidArgument error\n");
        return 1;
    }
    return 0;
}
