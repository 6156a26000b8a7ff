// The program of the README: a two-layer LSTM, forward and backward. What stands between the marks
// is in README.md word for word; a test compares the two.

// example-begin
#include <carousel/carousel.hpp>

#include <cstdio>
#include <vector>

int main() {
    using namespace carousel;
    constexpr std::int64_t T = 20, N = 4, I = 8, H = 16;

    RnnSpec spec;  // what is computed; cell, biases, projection, directions, dropout ... are here
    spec.cell = Cell::kLstm;
    spec.input_size = I;
    spec.hidden_size = H;
    spec.num_layers = 2;

    RnnPlanOptions options;  // how: the largest T and N, threads, device
    options.seq_len = T;
    options.batch_size = N;
    const RnnPlan plan = RnnPlan::create(spec, options);
    Buffer workspace(plan.workspace_bytes()), reserve(plan.reserve_bytes());

    std::vector<float> weights(static_cast<std::size_t>(param_count(spec)), 0.05f);
    std::vector<float> dweights(weights.size());
    std::vector<float> x(T * N * I, 1.0f), dx(x.size()), y(T * N * H), dy(y.size(), 1.0f);
    const RnnParams params = params_from_flat(spec, weights.data());
    RnnGrads grads = grads_from_flat(spec, dweights.data());

    RnnForwardArgs forward;  // tensors that are not named are zero, or not wanted
    forward.seq_len = T;
    forward.batch_size = N;
    forward.x = {x.data(), DType::kF32, {T, N, I}};
    forward.y = {y.data(), DType::kF32, {T, N, H}};
    forward.params = &params;
    forward.workspace = workspace.data();
    forward.workspace_bytes = workspace.bytes();
    forward.reserve = reserve.data();
    forward.reserve_bytes = reserve.bytes();
    forward_training(plan, forward);

    RnnBackwardArgs back;  // gradients of the sum of y
    back.seq_len = T;
    back.batch_size = N;
    back.x = forward.x;
    back.y = forward.y;
    back.params = &params;
    back.dy = {dy.data(), DType::kF32, {T, N, H}};
    back.dx = {dx.data(), DType::kF32, {T, N, I}};
    back.grads = &grads;
    back.workspace = workspace.data();
    back.workspace_bytes = workspace.bytes();
    back.reserve = reserve.data();
    back.reserve_bytes = reserve.bytes();
    backward(plan, back);

    std::printf("y %.4f, dx %.4f, dw %.4f\n", y.back(), dx.front(), dweights.front());
}
// example-end
