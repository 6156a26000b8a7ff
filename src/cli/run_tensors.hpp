#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "carousel/rnn_spec.hpp"
#include "carousel/tensor.hpp"
#include "src/io/safetensors.hpp"
#include "src/util/dtypes.hpp"

// What `run` reads and writes: tensors of a sequence, with the shapes that files have.

namespace carousel::cli {

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

/// Everything that goes in and comes out.
struct RunTensors {
    RunTensor x, hx, cx, lengths, reset, dy, dhy, dcy;
    RunTensor y, hy, cy, dx, dhx, dcx;
    Buffer weight_grads;
};

/// A tensor without values on a device.
RunTensor make_output(const Shape& shape, DType dtype, Device device, const char* name);

/// Moves a buffer to another device; undefined ones and those that are there already stay.
void move_to(Device device, Buffer& buffer, const char* what);
void move_inputs(Device device, RunTensors& tensors);
void move_outputs(Device device, RunTensors& tensors);

/// The batched view that the layer takes; unbatched data is N = 1.
template <class View>
View view_of(const RunTensor& t, const Dims& dims) {
    if (!t.defined()) return {};
    return View(t.memory.data(), t.dtype, {t.shape.front(), dims.batch_size, t.shape.back()},
                t.memory.device());
}

/// T, N and the type of the run from x, or from `dtype_text` if that is not empty. Io: x is missing or
/// no sequence; InvalidArgument: not a floating-point type.
Dims read_dims(const io::SafetensorsFile& file, const std::string& dtype_text, DType& dtype);

/// All inputs of the file, checked and converted, on the CPU. Io names file, tensor and shape expected.
RunTensors load_inputs(const io::SafetensorsFile& file, const Dims& dims, bool backward);

/// Writes what is defined; all of it on the CPU.
void write_outputs(const std::string& path, const Dims& dims, const RunTensors& tensors);

}  // namespace carousel::cli
