#include "bench/core/carousel_side.hpp"

#include <algorithm>

namespace carousel::bench {

namespace {

RnnPlan make_plan(const Problem& p, Algorithm algorithm, int num_threads, bool training) {
    RnnPlanOptions options;
    options.seq_len = p.grid_case.seq_len;
    options.batch_size = p.grid_case.batch_size;
    options.device = p.device;
    options.algorithm = algorithm;
    options.num_threads = num_threads;
    options.training = training;
    return RnnPlan::create(p.grid_case.spec, options);
}

}  // namespace

CarouselSide::CarouselSide(const Problem& problem, Arena& arena, Algorithm algorithm,
                           int num_threads)
    : problem_(problem),
      arena_(arena),
      inference_(make_plan(problem, algorithm, num_threads, false)) {
    const RnnSpec& s = problem.grid_case.spec;
    params_ = params_from_flat(s, problem.weights.data(), problem.device);
    packed_ = std::make_unique<PackedWeights>(
        PackedWeights::make(s, params_, problem.device, nullptr, false));
    if (!problem.grid_case.inference_only)
        training_ = make_plan(problem, algorithm, num_threads, true);
    arena.need(workspace_bytes(), reserve_bytes());
}

std::string CarouselSide::name() const {
    return std::string("carousel ") + algorithm_name(inference_.options().algorithm);
}

std::size_t CarouselSide::workspace_bytes() const {
    return std::max(inference_.workspace_bytes(),
                    training_.valid() ? training_.workspace_bytes() : 0);
}

std::size_t CarouselSide::reserve_bytes() const {
    return training_.valid() ? training_.reserve_bytes() : 0;
}

/// At the first call, when the arena has its memory.
void CarouselSide::bind() {
    if (bound_) return;
    bound_ = true;
    const GridCase& c = problem_.grid_case;
    const RnnSpec& s = c.spec;
    const Device device = problem_.device;
    const auto sequence = [&](void* data, std::int64_t width) {
        return TensorView(data, problem_.value, {c.seq_len, c.batch_size, width}, device);
    };
    const auto h_state = [&](const Buffer& buffer) {
        return TensorView(buffer.data(), problem_.value,
                          {s.num_states(), c.batch_size, s.output_size()}, device);
    };
    const auto c_state = [&](const Buffer& buffer) {
        return TensorView(buffer.data(), problem_.state,
                          {s.num_states(), c.batch_size, s.hidden_size}, device);
    };
    RnnForwardArgs& f = forward_;
    RnnBackwardArgs& b = backward_;
    f.seq_len = b.seq_len = c.seq_len;
    f.batch_size = b.batch_size = c.batch_size;
    f.x = b.x = sequence(problem_.x.data(), s.input_size);
    f.hx = b.hx = h_state(problem_.hx);
    f.y = sequence(arena_.y.data(), problem_.output_width());
    b.y = f.y;
    f.hy = h_state(arena_.hy);
    b.dy = sequence(problem_.dy.data(), problem_.output_width());
    b.dhy = h_state(problem_.dhy);
    b.dx = sequence(arena_.dx.data(), s.input_size);
    b.dhx = h_state(arena_.dhx);
    if (cell_has_c(s.cell)) {
        f.cx = b.cx = c_state(problem_.cx);
        f.cy = c_state(arena_.cy);
        b.dcy = c_state(problem_.dcy);
        b.dcx = c_state(arena_.dcx);
    }
    f.mask.lengths = problem_.lengths.as<std::int64_t>();
    f.mask.reset = problem_.resets.as<std::uint8_t>();
    b.mask = f.mask;
    f.workspace = b.workspace = arena_.workspace.data();
    f.workspace_bytes = b.workspace_bytes = arena_.workspace.bytes();
    f.reserve = arena_.reserve.data();
    b.reserve = arena_.reserve.data();
    f.reserve_bytes = b.reserve_bytes = arena_.reserve.bytes();
    b.params = &params_;
    grads_ = grads_from_flat(s, arena_.dweights.data(), device);
}

void CarouselSide::forward(StreamRef stream, bool training) {
    bind();
    forward_.stream = stream;
    forward_.params = training ? &params_ : nullptr;
    forward_.packed = training ? nullptr : packed_.get();
    if (training) {
        forward_training(training_, forward_);
    } else {
        forward_inference(inference_, forward_);
    }
}

void CarouselSide::backward(StreamRef stream, bool weights) {
    bind();
    backward_.stream = stream;
    backward_.grads = weights ? &grads_ : nullptr;
    carousel::backward(training_, backward_);
}

Outcome CarouselSide::outcome(bool states_and_weights) {
    const RnnSpec& s = problem_.grid_case.spec;
    const auto read = [&](const Buffer& buffer, DType dtype, std::int64_t count) {
        return values_of(buffer.data(), dtype, count, problem_.device);
    };
    const bool training = !problem_.grid_case.inference_only;
    Outcome out;
    out.hy = read(arena_.hy, problem_.value, problem_.h_count());
    if (training) {
        out.dhx = read(arena_.dhx, problem_.value, problem_.h_count());
        out.dweights = read(arena_.dweights, problem_.state, param_count(s));
    }
    if (states_and_weights) return out;
    out.y = read(arena_.y, problem_.value, problem_.tokens() * problem_.output_width());
    if (training) out.dx = read(arena_.dx, problem_.value, problem_.tokens() * s.input_size);
    if (cell_has_c(s.cell)) {
        out.cy = read(arena_.cy, problem_.state, problem_.c_count());
        if (training) out.dcx = read(arena_.dcx, problem_.state, problem_.c_count());
    }
    return out;
}

}  // namespace carousel::bench
