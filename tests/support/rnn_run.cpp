#include "tests/support/rnn_run.hpp"

#include <algorithm>
#include <limits>

#include "src/backend/cuda/device_api.hpp"

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

RnnRun::RnnRun(const ShapeLine& line_, const RnnData& data, Device device, Algorithm algorithm)
    : line(line_), device_(device) {
    options.device = device;
    options.algorithm = algorithm;
    options.seq_len = line.planned_seq_len;
    options.batch_size = line.planned_batch_size;
    options.num_threads = line.threads;
    make_tensors(data);
    make_weights(data);
    make_args(data);
    replan(options);
    upload();
    if (line.packed) {
        packed = std::make_unique<PackedWeights>(PackedWeights::make(line.spec, params, device));
        forward_args.params = nullptr;
        forward_args.packed = packed.get();
        backward_args.params = nullptr;
        backward_args.packed = packed.get();
    }
}

void RnnRun::make_tensors(const RnnData& data) {
    const RnnSpec& spec = line.spec;
    const DType dt = spec.dtype;
    const DType sum = dt == DType::kF64 ? DType::kF64 : DType::kF32;  // see carousel/rnn.hpp
    const std::int64_t T = line.seq_len, N = line.batch_size, S = spec.num_states();
    const std::int64_t O = spec.output_size(), H = spec.hidden_size;
    const std::int64_t width = spec.num_directions() * O;
    const bool bf = line.batch_first;
    const bool has_c = cell_has_c(spec.cell);
    x = filled(dt, {T, N, spec.input_size}, data.problem.x, bf);
    hx = filled(dt, {S, N, O}, data.problem.hx);
    cx = filled(sum, {S, N, H}, data.problem.cx);
    dy = filled(dt, {T, N, width}, data.dy, bf);
    dhy = filled(dt, {S, N, O}, data.dhy);
    dcy = filled(sum, {S, N, H}, data.dcy);
    y = output(dt, {T, N, width}, bf);
    hy = output(dt, {S, N, O});
    layer_outputs = output(dt, {spec.num_layers, T, N, width});
    gates = output(dt, {S, T, N, spec.num_gates() * H});
    dx = output(dt, {T, N, spec.input_size}, bf);
    dhx = output(dt, {S, N, O});
    dh_norms = output(sum, {S, T});
    if (has_c) {
        cy = output(sum, {S, N, H});
        dcx = output(sum, {S, N, H});
        cell_states = output(sum, {S, T, N, H});
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
        // The shapes of the weights; then NaN, or 0 where a run adds to them.
        const DType sum = dt == DType::kF64 ? DType::kF64 : DType::kF32;
        LayerTensors d;
        for (HostTensor LayerTensors::*member :
             {&LayerTensors::w_ih, &LayerTensors::w_hh, &LayerTensors::b_ih, &LayerTensors::b_hh,
              &LayerTensors::w_hr}) {
            if (!(t.*member).defined()) continue;
            d.*member = HostTensor(sum, (t.*member).shape());
            (d.*member).fill(line.accumulate ? 0.0 : kNan);
        }
        weights.push_back(std::move(t));
        dweights.push_back(std::move(d));
    }
    for (std::size_t s = 0; s < weights.size(); ++s) {
        LayerTensors& w = weights[s];
        LayerTensors& d = dweights[s];
        params.layers.push_back(
            {view(w.w_ih), view(w.w_hh), view(w.b_ih), view(w.b_hh), view(w.w_hr)});
        grads.layers.push_back(
            {view(d.w_ih), view(d.w_hh), view(d.b_ih), view(d.b_hh), view(d.w_hr)});
    }
}

void RnnRun::make_args(const RnnData& data) {
    RnnForwardArgs& f = forward_args;
    f.seq_len = line.seq_len;
    f.batch_size = line.batch_size;
    f.x = view(x);
    f.hx = view(hx);
    f.cx = view(cx);
    f.y = view(y);
    f.hy = view(hy);
    f.cy = view(cy);
    f.mask.lengths = static_cast<const std::int64_t*>(
        on_device(lengths.data(), lengths.size() * sizeof(std::int64_t)));
    f.mask.reset = static_cast<const std::uint8_t*>(on_device(reset.data(), reset.size()));
    f.params = &params;
    f.layer_outputs = view(layer_outputs);
    f.cell_states = view(cell_states);
    f.gates = view(gates);
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
    b.dy = view(dy);
    b.dhy = view(dhy);
    b.dcy = view(dcy);
    b.dx = view(dx);
    b.dhx = view(dhx);
    b.dcx = view(dcx);
    b.grads = &grads;
    b.accumulate = line.accumulate;
    b.dh_norms = view(dh_norms);
}

void RnnRun::replan(const RnnPlanOptions& new_options) {
    options = new_options;
    plan = RnnPlan::create(line.spec, options);
    const std::size_t workspace_bytes = plan.workspace_bytes(),
                      reserve_bytes = plan.reserve_bytes();
    void *scratch = nullptr, *saved = nullptr;
    if (device_.type == DeviceType::kCpu) {
        workspace = AlignedBytes(workspace_bytes);
        reserve = AlignedBytes(reserve_bytes);
        scratch = workspace.data();
        saved = reserve.data();
    } else {
        device_workspace = Buffer(workspace_bytes, device_, "test workspace");
        device_reserve = Buffer(reserve_bytes, device_, "test reserve");
        scratch = device_workspace.data();
        saved = device_reserve.data();
    }
    forward_args.workspace = backward_args.workspace = scratch;
    forward_args.workspace_bytes = backward_args.workspace_bytes = workspace_bytes;
    forward_args.reserve = saved;
    backward_args.reserve = saved;
    forward_args.reserve_bytes = backward_args.reserve_bytes = reserve_bytes;
}

TensorView RnnRun::view(HostTensor& tensor) {
    TensorView v = tensor.view();
    if (device_.type == DeviceType::kCpu || !tensor.defined()) return v;
    copies_.push_back({&tensor, Buffer(tensor.bytes().size(), device_, "test tensor")});
    v.data = copies_.back().device.data();
    v.device = device_;
    return v;
}

const void* RnnRun::on_device(const void* data, std::size_t bytes) {
    if (bytes == 0) return nullptr;
    if (device_.type == DeviceType::kCpu) return data;
    masks_.emplace_back(bytes, device_, "test mask");
    copy_to_device(masks_.back().data(), data, bytes, device_);
    return masks_.back().data();
}

void RnnRun::upload() {
    for (const Copy& copy : copies_)
        copy_to_device(copy.device.data(), copy.host->bytes().data(), copy.device.bytes(), device_);
}

void RnnRun::download() {
    synchronize(device_);
    for (const Copy& copy : copies_)
        copy_to_host(copy.host->bytes().data(), copy.device.data(), copy.device.bytes(), device_);
}

void RnnRun::poison(AlignedBytes& host, const Buffer& device_memory) {
    host.poison();
    if (device_.type == DeviceType::kCpu || device_memory.bytes() == 0) return;
    // A piece from the host, then doubled on the device: on a card the workspace of products alone is
    // tens of megabytes, too much to carry over for every run of every case.
    const std::size_t bytes = device_memory.bytes();
    const std::vector<std::byte> ones(std::min(bytes, std::size_t{1} << 20), std::byte{0xFF});
    copy_to_device(device_memory.data(), ones.data(), ones.size(), device_);
    if (ones.size() == bytes) return;
    const auto api = cuda::device_api(device_.index);
    const cuda::Queue queue = api->default_queue();
    auto* memory = static_cast<std::byte*>(device_memory.data());
    for (std::size_t done = ones.size(); done < bytes; done *= 2)
        api->copy(queue, memory + done, memory, std::min(done, bytes - done));
    api->synchronize(queue);
}

void RnnRun::poison_scratch() {
    upload();
    poison(workspace, device_workspace);
    poison(reserve, device_reserve);
}

void RnnRun::inference() {
    upload();
    poison(workspace, device_workspace);
    forward_inference(plan, forward_args);
    download();
}

void RnnRun::training() {
    upload();
    poison(workspace, device_workspace);
    poison(reserve, device_reserve);
    forward_training(plan, forward_args);
    download();
}

void RnnRun::backward() {
    upload();
    poison(workspace, device_workspace);
    carousel::backward(plan, backward_args);
    download();
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
        // A mask does not depend on the dtype; the CPU observes it in one of its own.
        RnnSpec spec = line.spec;
        if (spec.dtype != DType::kF64) spec.dtype = DType::kF32;
        data.problem.dropout = observe_dropout(spec, line.seq_len, line.batch_size,
                                               data.dropout_seed, data.dropout_step);
    }
    return data;
}

NamedTensors reference_forward(const RnnData& data, bool training) {
    reference::Problem problem = data.problem;
    if (!training) problem.dropout.clear();
    return named_forward(reference::forward(problem));
}

NamedTensors reference_all(const RnnData& data) { return reference_all(data, {}); }

NamedTensors reference_all(const RnnData& data, const std::vector<double>& gates) {
    reference::Forward fwd = reference::forward(data.problem);
    NamedTensors r = named_forward(fwd);
    if (!gates.empty()) fwd.gates = gates;
    const reference::Backward bwd =
        reference::backward(data.problem, fwd, data.dy, data.dhy, data.dcy);
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
