#include "bench/carousel_side.hpp"

namespace carousel::bench {

namespace {

RnnPlan make_plan(const Problem& problem, int num_threads) {
    RnnPlanOptions options;
    options.seq_len = problem.row.seq_len;
    options.batch_size = problem.row.batch_size;
    options.num_threads = num_threads;
    return RnnPlan::create(problem.row.spec, options);
}

Buffer like(const Buffer& other, const char* what) {
    return other.bytes() == 0 ? Buffer() : Buffer(other.bytes(), {}, what);
}

std::vector<float> copy_of(const Buffer& buffer) {
    return {buffer.as<float>(), buffer.as<float>() + buffer.bytes() / sizeof(float)};
}

}  // namespace

CarouselSide::CarouselSide(const Problem& problem, int num_threads)
    : plan_(make_plan(problem, num_threads)),
      workspace_(plan_.workspace_bytes(), {}, "workspace"),
      reserve_(plan_.reserve_bytes(), {}, "reserve"),
      y_(like(problem.dy, "y")),
      hy_(like(problem.hx, "hy")),
      cy_(like(problem.cx, "cy")),
      dx_(like(problem.x, "dx")),
      dhx_(like(problem.hx, "dhx")),
      dcx_(like(problem.cx, "dcx")),
      dweights_(like(problem.weights, "dweights")) {
    const RnnSpec& s = problem.row.spec;
    const std::int64_t steps = problem.row.seq_len, batch = problem.row.batch_size;
    const auto state = [&](const Buffer& buffer) {
        return TensorView(buffer.data(), DType::kF32, {s.num_states(), batch, s.hidden_size});
    };
    const auto sequence = [&](const Buffer& buffer, std::int64_t width) {
        return TensorView(buffer.data(), DType::kF32, {steps, batch, width});
    };
    params_ = params_from_flat(s, problem.weights.data());
    grads_ = grads_from_flat(s, dweights_.data());
    forward_.seq_len = backward_.seq_len = steps;
    forward_.batch_size = backward_.batch_size = batch;
    forward_.x = sequence(problem.x, s.input_size);
    forward_.hx = state(problem.hx);
    forward_.y = sequence(y_, s.hidden_size);
    forward_.hy = state(hy_);
    backward_.dy = sequence(problem.dy, s.hidden_size);
    backward_.dhy = state(problem.dhy);
    backward_.dx = sequence(dx_, s.input_size);
    backward_.dhx = state(dhx_);
    if (cell_has_c(s.cell)) {
        forward_.cx = state(problem.cx);
        forward_.cy = state(cy_);
        backward_.dcy = state(problem.dcy);
        backward_.dcx = state(dcx_);
    }
    forward_.params = backward_.params = &params_;
    forward_.workspace = backward_.workspace = workspace_.data();
    forward_.workspace_bytes = backward_.workspace_bytes = workspace_.bytes();
    forward_.reserve = reserve_.data();
    forward_.reserve_bytes = backward_.reserve_bytes = reserve_.bytes();
    backward_.reserve = reserve_.data();
    backward_.x = forward_.x;
    backward_.hx = forward_.hx;
    backward_.cx = forward_.cx;
    backward_.y = forward_.y;
    backward_.grads = &grads_;
}

void CarouselSide::forward() { forward_training(plan_, forward_); }

void CarouselSide::train() {
    forward_training(plan_, forward_);
    backward(plan_, backward_);
}

Outcome CarouselSide::outcome() const {
    return {copy_of(y_),   copy_of(hy_),  copy_of(cy_),      copy_of(dx_),
            copy_of(dhx_), copy_of(dcx_), copy_of(dweights_)};
}

}  // namespace carousel::bench
