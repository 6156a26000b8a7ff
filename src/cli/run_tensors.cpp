#include "src/cli/run_tensors.hpp"

#include <utility>

#include "carousel/error.hpp"
#include "carousel/rnn_params.hpp"
#include "src/cli/common.hpp"

namespace carousel::cli {

namespace {

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

}  // namespace

RunTensor make_output(const Shape& shape, DType dtype, Device device, const char* name) {
    RunTensor t;
    t.shape = shape;
    t.dtype = dtype;
    t.memory = Buffer(std::max<std::size_t>(1, numel(shape) * dtype_bytes(dtype)), device, name);
    return t;
}

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

Dims read_dims(const io::SafetensorsFile& file, const std::string& dtype_text, DType& dtype) {
    const io::StoredTensor& x = file.get("x");
    if (!io::stored_type_is_float(x.type)) {
        throw Error(ErrorCode::kIo, "'" + file.path() + "': tensor 'x' is of type " +
                                        io::stored_type_name(x.type) +
                                        "; it must be floating-point.");
    }
    if (dtype_text.empty()) {
        dtype = x.type == io::StoredType::kF64    ? DType::kF64
                : x.type == io::StoredType::kF16  ? DType::kF16
                : x.type == io::StoredType::kBf16 ? DType::kBf16
                                                  : DType::kF32;
    } else {
        dtype = layer_dtype(dtype_text);
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

}  // namespace carousel::cli
