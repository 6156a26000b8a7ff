#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "carousel/rnn.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/cli/run_tensors.hpp"
#include "src/io/rnn_weights.hpp"

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

/// The output replaces the file under its name, which must not be what the run reads.
void check_output(const RunOptions& options) {
    for (const std::string& input : {options.weights, options.input}) {
        std::error_code one_is_missing;
        if (!std::filesystem::equivalent(options.output, input, one_is_missing)) continue;
        throw Error(ErrorCode::kInvalidArgument, "--output '" + options.output + "' is the file '" +
                                                     input + "' that is read; name another one.");
    }
}

/// Without --dtype the type is that of x, which a CPU may not compute in.
void check_type_of_x(const RunOptions& options, Device device, DType dtype) {
    const bool narrow = dtype != DType::kF32 && dtype != DType::kF64;
    if (!options.dtype.empty() || device.type != DeviceType::kCpu || !narrow) return;
    throw Error(ErrorCode::kUnsupported,
                "'" + options.input + "': x is " + dtype_name(dtype) +
                    ", and the CPU computes in f32 and f64; add --dtype f32 to convert it.");
}

int run(const RunOptions& options) {
    const Cell cell = cell_parse(options.cell);
    const Device device = resolve_device(options.device);
    check_output(options);
    const auto weights_file = io::SafetensorsFile::open(options.weights);
    const auto input_file = io::SafetensorsFile::open(options.input);
    DType dtype = DType::kF32;
    Dims dims = read_dims(input_file, options.dtype, dtype);
    check_type_of_x(options, device, dtype);
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
