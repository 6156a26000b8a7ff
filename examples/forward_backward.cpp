// A bidirectional two-layer LSTM over a batch of sequences of different lengths: plan once, run
// forward and backward, and check one gradient by a difference quotient.

#include <carousel/carousel.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

using namespace carousel;

namespace {

constexpr std::int64_t kSteps = 12;  // T
constexpr std::int64_t kBatch = 3;   // N

/// All memory of the example, in the layouts that rnn.hpp states.
struct Layer {
    RnnSpec spec;
    RnnPlan plan;
    Buffer workspace, reserve;
    std::vector<double> weights, x, y, dy, dweights, dx;
    std::vector<std::int64_t> lengths{12, 0, 7};  // unsorted, zero allowed

    Layer() {
        spec.cell = Cell::kLstm;
        spec.dtype = DType::kF64;
        spec.input_size = 5;
        spec.hidden_size = 8;
        spec.num_layers = 2;
        spec.bidirectional = true;

        RnnPlanOptions options;
        options.seq_len = kSteps;
        options.batch_size = kBatch;
        plan = RnnPlan::create(spec, options);
        workspace = Buffer(plan.workspace_bytes());
        reserve = Buffer(plan.reserve_bytes());

        const auto numbers = [](std::int64_t n, double scale) {
            std::vector<double> v(static_cast<std::size_t>(n));
            for (std::size_t i = 0; i < v.size(); ++i) {
                v[i] = scale * std::sin(0.7 * static_cast<double>(i + 1));
            }
            return v;
        };
        weights = numbers(param_count(spec), 0.3);
        dweights.resize(weights.size());
        x = numbers(kSteps * kBatch * spec.input_size, 1.0);
        dx.resize(x.size());
        y.resize(static_cast<std::size_t>(kSteps * kBatch * 2 * spec.output_size()));
        dy.assign(y.size(), 1.0);  // the loss is the sum of y
    }

    double forward() {
        const RnnParams params = params_from_flat(spec, weights.data());
        RnnForwardArgs args;
        args.seq_len = kSteps;
        args.batch_size = kBatch;
        args.x = {x.data(), spec.dtype, {kSteps, kBatch, spec.input_size}};
        args.y = {y.data(), spec.dtype, {kSteps, kBatch, 2 * spec.output_size()}};
        args.mask.lengths = lengths.data();
        args.params = &params;
        args.workspace = workspace.data();
        args.workspace_bytes = workspace.bytes();
        args.reserve = reserve.data();
        args.reserve_bytes = reserve.bytes();
        forward_training(plan, args);
        double loss = 0.0;
        for (const double value : y) loss += value;
        return loss;
    }

    void backward() {
        const RnnParams params = params_from_flat(spec, weights.data());
        RnnGrads grads = grads_from_flat(spec, dweights.data());
        RnnBackwardArgs args;
        args.seq_len = kSteps;
        args.batch_size = kBatch;
        args.x = {x.data(), spec.dtype, {kSteps, kBatch, spec.input_size}};
        args.y = {y.data(), spec.dtype, {kSteps, kBatch, 2 * spec.output_size()}};
        args.dy = {dy.data(), spec.dtype, {kSteps, kBatch, 2 * spec.output_size()}};
        args.dx = {dx.data(), spec.dtype, {kSteps, kBatch, spec.input_size}};
        args.mask.lengths = lengths.data();
        args.params = &params;
        args.grads = &grads;
        args.workspace = workspace.data();
        args.workspace_bytes = workspace.bytes();
        args.reserve = reserve.data();
        args.reserve_bytes = reserve.bytes();
        carousel::backward(plan, args);
    }
};

}  // namespace

int main() {
    try {
        Layer layer;
        std::printf("%s\n", layer.plan.describe().c_str());
        const double loss = layer.forward();
        layer.backward();

        const std::size_t index = 17;  // some weight of layer 0
        const double step = 1e-5;
        const double analytic = layer.dweights[index];
        layer.weights[index] += step;
        const double above = layer.forward();
        layer.weights[index] -= 2 * step;
        const double below = layer.forward();
        const double numeric = (above - below) / (2 * step);
        std::printf("loss %.6f, dloss/dw[%zu] %.9f, by differences %.9f\n", loss, index, analytic,
                    numeric);
        return std::fabs(analytic - numeric) <= 1e-7 * (1.0 + std::fabs(numeric)) ? 0 : 1;
    } catch (const Error& error) {
        std::fprintf(stderr, "%s: %s\n", error_code_name(error.code()), error.what());
        return 1;
    }
}
