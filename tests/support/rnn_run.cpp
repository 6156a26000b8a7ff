#include "tests/support/rnn_run.hpp"

#include <limits>

namespace carousel::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

HostTensor filled(DType dtype, std::vector<std::int64_t> shape, const std::vector<double>& values,
                  bool swap01 = false) {
    if (values.empty()) return HostTensor();
    HostTensor tensor(dtype, std::move(shape), swap01);
    tensor.set(values);
    return tensor;
}

HostTensor output(DType dtype, std::vector<std::int64_t> shape, bool swap01 = false) {
    HostTensor tensor(dtype, std::move(shape), swap01);
    tensor.fill(kNan);
    return tensor;
}

/// Values [S,T,N,F] with those of steps beyond the sequences' ends set to 0.
std::vector<double> without_padding(const HostTensor& tensor,
                                    const std::vector<std::int64_t>& lengths) {
    std::vector<double> values = tensor.get();
    if (lengths.empty() || values.empty()) return values;
    const std::int64_t S = tensor.shape()[0], T = tensor.shape()[1];
    const std::int64_t N = tensor.shape()[2], F = tensor.shape()[3];
    for (std::int64_t row = 0; row < S * T * N; ++row) {
        const std::int64_t n = row % N, t = row / N % T;
        if (t < lengths[static_cast<std::size_t>(n)]) continue;
        for (std::int64_t k = 0; k < F; ++k) values[static_cast<std::size_t>(row * F + k)] = 0.0;
    }
    return values;
}

void put(NamedTensors& results, const std::string& name, std::vector<double> values) {
    if (!values.empty()) results[name] = std::move(values);
}

}  // namespace

std::string param_name(const char* kind, std::int64_t state, std::int64_t num_directions) {
    std::string name = std::string(kind) + "_l" + std::to_string(state / num_directions);
    if (state % num_directions == 1) name += "_reverse";
    return name;
}

RnnRun::RnnRun(const ShapeLine& line_, const RnnData& data) : line(line_) {
    options.seq_len = line.planned_seq_len;
    options.batch_size = line.planned_batch_size;
    options.num_threads = line.threads;
    make_tensors(data);
    make_weights(data);
    make_args(data);
    replan(options);
    if (line.packed) {
        packed = std::make_unique<PackedWeights>(PackedWeights::make(line.spec, params));
        forward_args.params = nullptr;
        forward_args.packed = packed.get();
        backward_args.params = nullptr;
        backward_args.packed = packed.get();
    }
}

void RnnRun::make_tensors(const RnnData& data) {
    const RnnSpec& spec = line.spec;
    const DType dt = spec.dtype;
    const std::int64_t T = line.seq_len, N = line.batch_size, S = spec.num_states();
    const std::int64_t O = spec.output_size(), H = spec.hidden_size;
    const std::int64_t width = spec.num_directions() * O;
    const bool bf = line.batch_first;
    const bool has_c = cell_has_c(spec.cell);
    x = filled(dt, {T, N, spec.input_size}, data.problem.x, bf);
    hx = filled(dt, {S, N, O}, data.problem.hx);
    cx = filled(dt, {S, N, H}, data.problem.cx);
    dy = filled(dt, {T, N, width}, data.dy, bf);
    dhy = filled(dt, {S, N, O}, data.dhy);
    dcy = filled(dt, {S, N, H}, data.dcy);
    y = output(dt, {T, N, width}, bf);
    hy = output(dt, {S, N, O});
    layer_outputs = output(dt, {spec.num_layers, T, N, width});
    gates = output(dt, {S, T, N, spec.num_gates() * H});
    dx = output(dt, {T, N, spec.input_size}, bf);
    dhx = output(dt, {S, N, O});
    dh_norms = output(dt, {S, T});
    if (has_c) {
        cy = output(dt, {S, N, H});
        dcx = output(dt, {S, N, H});
        cell_states = output(dt, {S, T, N, H});
    }
    lengths = data.problem.lengths;
    reset = data.problem.reset;
}

void RnnRun::make_weights(const RnnData& data) {
    const RnnSpec& spec = line.spec;
    const DType dt = spec.dtype;
    const std::int64_t rows = spec.num_gates() * spec.hidden_size;
    const std::int64_t O = spec.output_size();
    for (std::int64_t s = 0; s < spec.num_states(); ++s) {
        const std::int64_t in = spec.layer_input_size(s / spec.num_directions());
        const reference::Weights& w = data.problem.weights[static_cast<std::size_t>(s)];
        LayerTensors t;
        t.w_ih = filled(dt, {rows, in}, w.w_ih);
        t.w_hh = filled(dt, {rows, O}, w.w_hh);
        t.b_ih = filled(dt, {rows}, w.b_ih);
        t.b_hh = filled(dt, {rows}, w.b_hh);
        t.w_hr = filled(dt, {spec.proj_size, spec.hidden_size}, w.w_hr);
        LayerTensors d = t;  // the shapes; then NaN, or 0 where a run adds to them
        for (HostTensor* g : {&d.w_ih, &d.w_hh, &d.b_ih, &d.b_hh, &d.w_hr}) {
            g->fill(line.accumulate ? 0.0 : kNan);
        }
        weights.push_back(std::move(t));
        dweights.push_back(std::move(d));
    }
    for (std::size_t s = 0; s < weights.size(); ++s) {
        LayerTensors& w = weights[s];
        LayerTensors& d = dweights[s];
        params.layers.push_back(
            {w.w_ih.view(), w.w_hh.view(), w.b_ih.view(), w.b_hh.view(), w.w_hr.view()});
        grads.layers.push_back(
            {d.w_ih.view(), d.w_hh.view(), d.b_ih.view(), d.b_hh.view(), d.w_hr.view()});
    }
}

void RnnRun::make_args(const RnnData& data) {
    RnnForwardArgs& f = forward_args;
    f.seq_len = line.seq_len;
    f.batch_size = line.batch_size;
    f.x = x.view();
    f.hx = hx.view();
    f.cx = cx.view();
    f.y = y.view();
    f.hy = hy.view();
    f.cy = cy.view();
    f.mask.lengths = lengths.empty() ? nullptr : lengths.data();
    f.mask.reset = reset.empty() ? nullptr : reset.data();
    f.params = &params;
    f.layer_outputs = layer_outputs.view();
    f.cell_states = cell_states.view();
    f.gates = gates.view();
    f.dropout_seed = data.dropout_seed;
    f.dropout_step = data.dropout_step;

    RnnBackwardArgs& b = backward_args;
    b.seq_len = f.seq_len;
    b.batch_size = f.batch_size;
    b.x = f.x;
    b.hx = f.hx;
    b.cx = f.cx;
    b.y = f.y;
    b.mask = f.mask;
    b.params = &params;
    b.dy = dy.view();
    b.dhy = dhy.view();
    b.dcy = dcy.view();
    b.dx = dx.view();
    b.dhx = dhx.view();
    b.dcx = dcx.view();
    b.grads = &grads;
    b.accumulate = line.accumulate;
    b.dh_norms = dh_norms.view();
}

void RnnRun::replan(const RnnPlanOptions& new_options) {
    options = new_options;
    plan = RnnPlan::create(line.spec, options);
    workspace = AlignedBytes(plan.workspace_bytes());
    reserve = AlignedBytes(plan.reserve_bytes());
    forward_args.workspace = backward_args.workspace = workspace.data();
    forward_args.workspace_bytes = backward_args.workspace_bytes = workspace.size();
    forward_args.reserve = reserve.data();
    backward_args.reserve = reserve.data();
    forward_args.reserve_bytes = backward_args.reserve_bytes = reserve.size();
}

void RnnRun::inference() {
    workspace.poison();
    forward_inference(plan, forward_args);
}

void RnnRun::training() {
    workspace.poison();
    reserve.poison();
    forward_training(plan, forward_args);
}

void RnnRun::backward() {
    workspace.poison();
    carousel::backward(plan, backward_args);
}

NamedTensors RnnRun::training_and_backward() {
    training();
    NamedTensors results = forward_results();
    backward();
    results.merge(backward_results());
    return results;
}

NamedTensors RnnRun::forward_results() const {
    NamedTensors r;
    put(r, "y", y.get());
    put(r, "hy", hy.get());
    put(r, "cy", cy.get());
    put(r, "layer_outputs", layer_outputs.get());
    put(r, "cell_states", without_padding(cell_states, lengths));
    put(r, "gates", without_padding(gates, lengths));
    return r;
}

NamedTensors RnnRun::backward_results() const {
    NamedTensors r;
    put(r, "dx", dx.get());
    put(r, "dhx", dhx.get());
    put(r, "dcx", dcx.get());
    put(r, "dh_norms", dh_norms.get());
    const std::int64_t D = line.spec.num_directions();
    for (std::size_t s = 0; s < dweights.size(); ++s) {
        const LayerTensors& d = dweights[s];
        const std::int64_t state = static_cast<std::int64_t>(s);
        put(r, "d_" + param_name("weight_ih", state, D), d.w_ih.get());
        put(r, "d_" + param_name("weight_hh", state, D), d.w_hh.get());
        put(r, "d_" + param_name("bias_ih", state, D), d.b_ih.get());
        put(r, "d_" + param_name("bias_hh", state, D), d.b_hh.get());
        put(r, "d_" + param_name("weight_hr", state, D), d.w_hr.get());
    }
    return r;
}

namespace {

NamedTensors named_forward(const reference::Forward& fwd) {
    NamedTensors r;
    put(r, "y", fwd.y());
    put(r, "hy", fwd.hy);
    put(r, "cy", fwd.cy);
    std::vector<double> outputs;
    for (const std::vector<double>& layer : fwd.layer_outputs) {
        outputs.insert(outputs.end(), layer.begin(), layer.end());
    }
    put(r, "layer_outputs", std::move(outputs));
    put(r, "cell_states", fwd.cell_states);
    put(r, "gates", fwd.gates);
    return r;
}

}  // namespace

RnnData make_rnn_data_with_dropout(const ShapeLine& line) {
    RnnData data = make_rnn_data(line);
    if (line.spec.dropout > 0.0) {
        data.problem.dropout = observe_dropout(line.spec, line.seq_len, line.batch_size,
                                               data.dropout_seed, data.dropout_step);
    }
    return data;
}

NamedTensors reference_forward(const RnnData& data, bool training) {
    reference::Problem problem = data.problem;
    if (!training) problem.dropout.clear();
    return named_forward(reference::forward(problem));
}

NamedTensors reference_all(const RnnData& data) {
    const reference::Forward fwd = reference::forward(data.problem);
    const reference::Backward bwd =
        reference::backward(data.problem, fwd, data.dy, data.dhy, data.dcy);
    NamedTensors r = named_forward(fwd);
    put(r, "dx", bwd.dx);
    put(r, "dhx", bwd.dhx);
    put(r, "dcx", bwd.dcx);
    put(r, "dh_norms", bwd.dh_norms);
    for (std::size_t s = 0; s < bwd.dweights.size(); ++s) {
        const reference::Weights& d = bwd.dweights[s];
        const std::int64_t state = static_cast<std::int64_t>(s);
        put(r, "d_" + param_name("weight_ih", state, data.problem.D), d.w_ih);
        put(r, "d_" + param_name("weight_hh", state, data.problem.D), d.w_hh);
        put(r, "d_" + param_name("bias_ih", state, data.problem.D), d.b_ih);
        put(r, "d_" + param_name("bias_hh", state, data.problem.D), d.b_hh);
        put(r, "d_" + param_name("weight_hr", state, data.problem.D), d.w_hr);
    }
    return r;
}

}  // namespace carousel::test
