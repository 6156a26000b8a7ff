#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "carousel/rnn.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/io/rnn_weights.hpp"
#include "src/io/safetensors.hpp"
#include "src/util/dtypes.hpp"

// `carousel run`: a recurrent layer from a file, applied to a sequence from a file.

namespace carousel::cli {
namespace {

struct RunOptions {
    std::string cell = "lstm";
    std::string weights, input, output, prefix;
    std::string device = "auto";
    std::string dtype;
    int threads = 0;
    bool backward = false;
};

using Shape = std::vector<std::int64_t>;

/// A tensor of the run, on the CPU or on the device of the run.
struct RunTensor {
    Buffer memory;
    Shape shape;  ///< as in files: without N when x is unbatched
    DType dtype = DType::kF32;
    bool defined() const { return memory.data() != nullptr; }
};

/// Sizes of the run, and shapes with the batch axis left out where x has none.
struct Dims {
    std::int64_t seq_len = 0;
    std::int64_t batch_size = 1;
    bool unbatched = false;
    RnnSpec spec;

    Shape sequence(std::int64_t size) const {
        return unbatched ? Shape{seq_len, size} : Shape{seq_len, batch_size, size};
    }
    Shape state(std::int64_t size) const {
        return unbatched ? Shape{spec.num_states(), size}
                         : Shape{spec.num_states(), batch_size, size};
    }
    DType dtype() const { return storage_dtype(spec.dtype); }
    DType c_dtype() const { return accumulator_dtype(spec.dtype); }
    Shape y() const { return sequence(spec.num_directions() * spec.output_size()); }
    Shape h() const { return state(spec.output_size()); }
    Shape c() const { return state(spec.hidden_size); }
};

std::size_t numel(const Shape& shape) {
    std::size_t n = 1;
    for (const std::int64_t size : shape) n *= static_cast<std::size_t>(size);
    return n;
}

std::string text_of(const Shape& shape) {
    io::StoredTensor t;
    t.shape = shape;
    return t.shape_text();
}

/// Reads tensors of the input file, checks their shapes, converts them.
class InputReader {
public:
    InputReader(const io::SafetensorsFile& file, const Dims& dims, bool backward)
        : file_(file), dims_(dims) {
        std::vector<std::string> known{"x", "hx", "cx", "lengths", "reset", "dy", "dhy", "dcy"};
        for (const io::StoredTensor& t : file.tensors()) {
            if (std::find(known.begin(), known.end(), t.name) == known.end()) {
                fail("tensor '" + t.name +
                     "' is unknown; the inputs of a layer are x, hx, cx, lengths, reset, and with "
                     "--backward dy, dhy, dcy.");
            }
            const bool is_c = t.name == "cx" || t.name == "dcy";
            if (is_c && !cell_has_c(dims.spec.cell)) {
                fail("tensor '" + t.name + "' is given, but the cell " +
                     std::string(cell_name(dims.spec.cell)) + " has no cell state.");
            }
            if (t.name.front() == 'd' && !backward) {
                note("carousel: '" + t.name + "' is not used without --backward.");
            }
        }
    }

    /// A floating-point tensor; undefined if it is missing.
    RunTensor floats(const char* name, const Shape& shape, const char* axes) const {
        return read(name, {shape}, axes, dims_.dtype());
    }
    /// A cell state or its gradient.
    RunTensor cell_state(const char* name, const char* axes) const {
        return read(name, {dims_.c()}, axes, dims_.c_dtype());
    }
    RunTensor lengths() const {
        RunTensor t = dims_.unbatched ? read("lengths", {{1}, {}}, "[1]", DType::kI64)
                                      : read("lengths", {{dims_.batch_size}}, "[N]", DType::kI64);
        for (std::size_t n = 0; t.defined() && n < numel(t.shape); ++n) {
            const std::int64_t length = t.memory.as<std::int64_t>()[n];
            if (length < 0 || length > dims_.seq_len) {
                fail("tensor 'lengths' has " + std::to_string(length) + " for sequence " +
                     std::to_string(n) + "; x has " + std::to_string(dims_.seq_len) +
                     " steps, so it must be from 0 to that.");
            }
        }
        return t;
    }
    RunTensor reset() const {
        return dims_.unbatched
                   ? read("reset", {{dims_.seq_len}, {dims_.seq_len, 1}}, "[T]", DType::kU8)
                   : read("reset", {{dims_.seq_len, dims_.batch_size}}, "[T,N]", DType::kU8);
    }

private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(ErrorCode::kIo, "'" + file_.path() + "': " + what);
    }

    RunTensor read(const char* name, const std::vector<Shape>& allowed, const char* axes,
                   DType dtype) const {
        RunTensor result;
        const io::StoredTensor* t = file_.find(name);
        if (t == nullptr) return result;
        if (std::find(allowed.begin(), allowed.end(), t->shape) == allowed.end()) {
            fail("tensor '" + std::string(name) + "' has shape " + t->shape_text() + ", expected " +
                 axes + " = " + text_of(allowed.front()) + " from x and the weights (" +
                 to_string(dims_.spec) + ").");
        }
        result.shape = t->shape;
        result.dtype = dtype;
        result.memory = Buffer(std::max<std::size_t>(1, numel(t->shape) * dtype_bytes(dtype)),
                               Device::cpu(), name);
        io::convert_to(*t, dtype, result.memory.data(), file_.path());
        return result;
    }

    const io::SafetensorsFile& file_;
    const Dims& dims_;
};

/// Everything that goes in and comes out.
struct RunTensors {
    RunTensor x, hx, cx, lengths, reset, dy, dhy, dcy;
    RunTensor y, hy, cy, dx, dhx, dcx;
    Buffer weight_grads;
};

RunTensor make_output(const Shape& shape, DType dtype, Device device, const char* name) {
    RunTensor t;
    t.shape = shape;
    t.dtype = dtype;
    t.memory = Buffer(std::max<std::size_t>(1, numel(shape) * dtype_bytes(dtype)), device, name);
    return t;
}

/// Moves a buffer to another device; undefined ones and those that are there already stay.
void move_to(Device device, Buffer& buffer, const char* what) {
    if (buffer.data() == nullptr || buffer.device() == device) return;
    Buffer there(buffer.bytes(), device, what);
    if (device.type == DeviceType::kCpu) {
        copy_to_host(there.data(), buffer.data(), buffer.bytes(), buffer.device());
    } else {
        copy_to_device(there.data(), buffer.data(), buffer.bytes(), device);
    }
    buffer = std::move(there);
}

void move_inputs(Device device, RunTensors& t) {
    for (RunTensor* tensor : {&t.x, &t.hx, &t.cx, &t.lengths, &t.reset, &t.dy, &t.dhy, &t.dcy}) {
        move_to(device, tensor->memory, "an input");
    }
}

void move_outputs(Device device, RunTensors& t) {
    for (RunTensor* tensor : {&t.y, &t.hy, &t.cy, &t.dx, &t.dhx, &t.dcx}) {
        move_to(device, tensor->memory, "an output");
    }
    move_to(device, t.weight_grads, "the weight gradients");
}

/// The batched view that the layer takes; unbatched data is N = 1.
template <class View>
View view_of(const RunTensor& t, const Dims& dims) {
    if (!t.defined()) return {};
    return View(t.memory.data(), t.dtype, {t.shape.front(), dims.batch_size, t.shape.back()},
                t.memory.device());
}

Dims read_dims(const io::SafetensorsFile& file, const RunOptions& options, DType& dtype) {
    const io::StoredTensor& x = file.get("x");
    if (!io::stored_type_is_float(x.type)) {
        throw Error(ErrorCode::kIo, "'" + file.path() + "': tensor 'x' is of type " +
                                        io::stored_type_name(x.type) +
                                        "; it must be floating-point.");
    }
    if (options.dtype.empty()) {
        dtype = x.type == io::StoredType::kF64    ? DType::kF64
                : x.type == io::StoredType::kF16  ? DType::kF16
                : x.type == io::StoredType::kBf16 ? DType::kBf16
                                                  : DType::kF32;
    } else {
        dtype = dtype_parse(options.dtype);
        if (!io::stored_type_is_float(io::stored_type_of(dtype))) {
            throw Error(ErrorCode::kInvalidArgument,
                        "--dtype " + options.dtype + ": expected f32, f64, tf32, bf16 or f16.");
        }
    }
    Dims dims;
    const std::size_t ndim = x.shape.size();
    const bool empty = x.numel() == 0;
    if ((ndim != 2 && ndim != 3) || empty) {
        throw Error(ErrorCode::kIo, "'" + file.path() + "': tensor 'x' has shape " +
                                        x.shape_text() +
                                        ", expected [T,N,I], or [T,I] for one sequence, each size "
                                        "at least 1.");
    }
    dims.unbatched = ndim == 2;
    dims.seq_len = x.shape[0];
    dims.batch_size = dims.unbatched ? 1 : x.shape[1];
    return dims;
}

RunTensors load_inputs(const io::SafetensorsFile& file, const Dims& dims, bool backward) {
    const InputReader reader(file, dims, backward);
    RunTensors t;
    t.x = reader.floats("x", dims.sequence(dims.spec.input_size),
                        dims.unbatched ? "[T,I]" : "[T,N,I]");
    const char* h_axes = dims.unbatched ? "[L*D,O]" : "[L*D,N,O]";
    const char* c_axes = dims.unbatched ? "[L*D,H]" : "[L*D,N,H]";
    t.hx = reader.floats("hx", dims.h(), h_axes);
    t.cx = reader.cell_state("cx", c_axes);
    t.lengths = reader.lengths();
    t.reset = reader.reset();
    if (backward) {
        t.dy = reader.floats("dy", dims.y(), dims.unbatched ? "[T,D*O]" : "[T,N,D*O]");
        t.dhy = reader.floats("dhy", dims.h(), h_axes);
        t.dcy = reader.cell_state("dcy", c_axes);
    }
    return t;
}

void run_layer(const RunOptions& options, Device device, const Dims& dims, const RnnParams& params,
               RunTensors& t) {
    const DType dtype = dims.dtype();
    const bool has_c = cell_has_c(dims.spec.cell);
    RnnPlanOptions plan_options;
    plan_options.seq_len = dims.seq_len;
    plan_options.batch_size = dims.batch_size;
    plan_options.training = options.backward;
    plan_options.device = device;
    plan_options.num_threads = options.threads;
    const RnnPlan plan = RnnPlan::create(dims.spec, plan_options);
    const Buffer workspace(plan.workspace_bytes(), device, "the workspace");
    const Buffer reserve(plan.reserve_bytes(), device, "the reserve");

    t.y = make_output(dims.y(), dtype, device, "y");
    t.hy = make_output(dims.h(), dtype, device, "hy");
    if (has_c) t.cy = make_output(dims.c(), dims.c_dtype(), device, "cy");

    RnnForwardArgs forward;
    forward.seq_len = dims.seq_len;
    forward.batch_size = dims.batch_size;
    forward.x = view_of<ConstTensorView>(t.x, dims);
    forward.hx = view_of<ConstTensorView>(t.hx, dims);
    forward.cx = view_of<ConstTensorView>(t.cx, dims);
    forward.y = view_of<TensorView>(t.y, dims);
    forward.hy = view_of<TensorView>(t.hy, dims);
    forward.cy = view_of<TensorView>(t.cy, dims);
    forward.mask.lengths = t.lengths.memory.as<const std::int64_t>();
    forward.mask.reset = t.reset.memory.as<const std::uint8_t>();
    forward.params = &params;
    forward.workspace = workspace.data();
    forward.workspace_bytes = workspace.bytes();
    forward.reserve = reserve.data();
    forward.reserve_bytes = reserve.bytes();
    if (!options.backward) {
        forward_inference(plan, forward);
        return;
    }
    forward_training(plan, forward);

    t.dx = make_output(t.x.shape, dtype, device, "dx");
    t.dhx = make_output(dims.h(), dtype, device, "dhx");
    if (has_c) t.dcx = make_output(dims.c(), dims.c_dtype(), device, "dcx");
    t.weight_grads =
        Buffer(static_cast<std::size_t>(param_count(dims.spec)) * dtype_bytes(dims.c_dtype()),
               device, "the weight gradients");
    RnnGrads grads = grads_from_flat(dims.spec, t.weight_grads.data(), device);

    RnnBackwardArgs back;
    back.seq_len = dims.seq_len;
    back.batch_size = dims.batch_size;
    back.x = forward.x;
    back.hx = forward.hx;
    back.cx = forward.cx;
    back.y = forward.y;
    back.mask = forward.mask;
    back.params = &params;
    back.dy = view_of<ConstTensorView>(t.dy, dims);
    back.dhy = view_of<ConstTensorView>(t.dhy, dims);
    back.dcy = view_of<ConstTensorView>(t.dcy, dims);
    back.dx = view_of<TensorView>(t.dx, dims);
    back.dhx = view_of<TensorView>(t.dhx, dims);
    back.dcx = view_of<TensorView>(t.dcx, dims);
    back.grads = &grads;
    back.workspace = workspace.data();
    back.workspace_bytes = workspace.bytes();
    back.reserve = reserve.data();
    back.reserve_bytes = reserve.bytes();
    backward(plan, back);
}

void write_outputs(const std::string& path, const Dims& dims, const RunTensors& t) {
    const DType grad_type = grad_dtype(dims.spec.dtype);
    std::vector<io::TensorToWrite> tensors;
    const auto add = [&](const char* name, const RunTensor& tensor) {
        if (tensor.defined()) {
            tensors.emplace_back(name, tensor.dtype, tensor.shape, tensor.memory.data());
        }
    };
    add("y", t.y);
    add("hy", t.hy);
    add("cy", t.cy);
    add("dx", t.dx);
    add("dhx", t.dhx);
    add("dcx", t.dcx);
    if (t.weight_grads.data() != nullptr) {
        for (const RnnParamInfo& info : param_layout(dims.spec)) {
            const Shape shape(info.shape, info.shape + info.ndim);
            tensors.emplace_back("d_" + info.name, grad_type, shape,
                                 t.weight_grads.as<char>() + static_cast<std::size_t>(info.offset) *
                                                                 dtype_bytes(grad_type));
        }
    }
    io::write_safetensors(path, std::move(tensors));
}

int run(const RunOptions& options) {
    const Cell cell = cell_parse(options.cell);
    const Device device = resolve_device(options.device);
    const auto weights_file = io::SafetensorsFile::open(options.weights);
    const auto input_file = io::SafetensorsFile::open(options.input);
    DType dtype = DType::kF32;
    Dims dims = read_dims(input_file, options, dtype);
    io::RnnWeights weights = io::load_rnn_weights(weights_file, cell, dtype, options.prefix);
    dims.spec = weights.spec;
    if (!weights.others.empty()) {
        note("carousel: " + std::to_string(weights.others.size()) + " tensors of '" +
             options.weights + "' belong to other modules and are not used ('" +
             weights.others.front() + "'" + (weights.others.size() > 1 ? ", ..." : "") + ").");
    }
    RunTensors tensors = load_inputs(input_file, dims, options.backward);
    move_inputs(device, tensors);
    move_to(device, weights.flat, "the weights");
    const RnnParams params = params_from_flat(weights.spec, weights.flat.data(), device);
    run_layer(options, device, dims, params, tensors);
    move_outputs(Device::cpu(), tensors);
    synchronize(device);
    write_outputs(options.output, dims, tensors);
    note(to_string(dims.spec) + " over T " + std::to_string(dims.seq_len) + " N " +
         std::to_string(dims.batch_size) + ", written to '" + options.output + "'.");
    return kExitDone;
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
    CLI::App* command = app.add_subcommand(
        "run", "Applies a recurrent layer with weights from a file to sequences from a file");
    auto options = std::make_shared<RunOptions>();
    flag_cell(*command, options->cell)->required()->default_str("");
    command
        ->add_option("--weights", options->weights,
                     "Weights under PyTorch's names (.safetensors); sizes, layers, directions, "
                     "bias and projection follow from names and shapes")
        ->required();
    command
        ->add_option("--input", options->input,
                     "x [T,N,I] or [T,I]; optional hx, cx, lengths i64 [N], reset u8 [T,N], and "
                     "for --backward dy, dhy, dcy (missing = 0) (.safetensors)")
        ->required();
    command
        ->add_option(
            "--output", options->output,
            "File for y, hy, cy, and with --backward dx, dhx, dcx, d_<weight>; in bf16 and "
            "f16 cy, dcx and d_<weight> are f32 (.safetensors)")
        ->required();
    command->add_option("--prefix", options->prefix,
                        "What stands before weight_ih_l0 in the file, such as 'encoder.rnn.'; "
                        "needed only if the file holds several layers");
    command->add_flag("--backward", options->backward, "Also compute the gradients");
    flag_device(*command, options->device);
    flag_dtype(*command, options->dtype)->default_str("that of x");
    flag_threads(*command, options->threads);
    command->callback(
        [&context, options] { context.action = [options] { return run(*options); }; });
}

}  // namespace carousel::cli
