#include <cmath>
#include <memory>
#include <vector>

#include "carousel/pass_graphs.hpp"
#include "carousel/rnn.hpp"
#include "src/cli/bench_case.hpp"
#include "src/cli/bench_model.hpp"
#include "src/cli/bench_timing.hpp"
#include "src/cli/commands.hpp"
#include "src/cli/common.hpp"
#include "src/cli/tuned_products.hpp"
#include "src/io/convert.hpp"
#include "src/util/dtypes.hpp"

// `carousel bench`: times recurrent layers, whole training steps, and sampling.

namespace carousel::cli {
namespace {

/// Fills memory with numbers spread evenly over [-scale, scale]; always the same ones.
void fill_uniform(const Buffer& buffer, DType dtype, double scale) {
    std::uint64_t state = 0x9E3779B97F4A7C15ull;
    const auto next = [&] {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return scale * (static_cast<double>(state >> 11) * 0x1.0p-52 - 1.0);
    };
    const std::size_t n = buffer.bytes() / dtype_bytes(dtype);
    const Buffer host(buffer.bytes(), Device::cpu(), "numbers");
    for (std::size_t i = 0; i < n; ++i) {
        switch (dtype) {
            case DType::kF64:
                host.as<double>()[i] = next();
                break;
            case DType::kBf16:
                host.as<std::uint16_t>()[i] = io::f64_to_bf16(next());
                break;
            case DType::kF16:
                host.as<std::uint16_t>()[i] = io::f64_to_f16(next());
                break;
            default:
                host.as<float>()[i] = static_cast<float>(next());
        }
    }
    copy_to_device(buffer.data(), host.data(), host.bytes(), buffer.device());
}

/// Memory, views and plan of one case; run() is one repetition.
class RnnBench {
public:
    RnnBench(const RnnCase& c, bool uses_graphs)
        : case_(c), plan_(RnnPlan::create(c.spec, c.plan)), graphs_(c.plan.device) {
        const RnnSpec& s = c.spec;
        const std::int64_t steps = c.plan.seq_len;
        const std::int64_t batch = c.plan.batch_size;
        const std::int64_t states = s.num_states();
        const std::int64_t out = s.num_directions() * s.output_size();
        const bool has_c = cell_has_c(s.cell);
        const DType dtype = storage_dtype(s.dtype), c_dtype = accumulator_dtype(s.dtype);
        fill_uniform(weights_ = memory(param_count(s), dtype, "the weights"), dtype,
                     1.0 / std::sqrt(static_cast<double>(s.hidden_size)));
        params_ = params_from_flat(s, weights_.data(), c.plan.device);
        const TensorView x = tensor({steps, batch, s.input_size}, dtype, "x");
        forward_.seq_len = backward_.seq_len = steps;
        forward_.batch_size = backward_.batch_size = batch;
        forward_.x = x;
        forward_.hx = tensor({states, batch, s.output_size()}, dtype, "hx");
        if (has_c) forward_.cx = tensor({states, batch, s.hidden_size}, c_dtype, "cx");
        forward_.y = tensor({steps, batch, out}, dtype, "y");
        forward_.hy = tensor({states, batch, s.output_size()}, dtype, "hy");
        if (has_c) forward_.cy = tensor({states, batch, s.hidden_size}, c_dtype, "cy");
        workspace_ = Buffer(plan_.workspace_bytes(), c.plan.device, "the workspace");
        reserve_ = Buffer(plan_.reserve_bytes(), c.plan.device, "the reserve");
        forward_.workspace = backward_.workspace = workspace_.data();
        forward_.workspace_bytes = backward_.workspace_bytes = workspace_.bytes();
        forward_.reserve = reserve_.data();
        forward_.reserve_bytes = reserve_.bytes();
        if (c.mode == BenchMode::kInfer) {
            packed_ =
                std::make_unique<PackedWeights>(PackedWeights::make(s, params_, c.plan.device));
            forward_.packed = packed_.get();
        } else {
            forward_.params = &params_;
        }
        if (c.mode == BenchMode::kBackward || c.mode == BenchMode::kTrain) prepare_backward();
        if (uses_graphs && c.plan.device.type == DeviceType::kCuda) record();
    }

    const RnnPlan& plan() const { return plan_; }

    /// On a CUDA device from the first launch to the end of the last.
    void run() {
        enqueue();
        if (case_.plan.device.type == DeviceType::kCuda) synchronize(case_.plan.device);
    }

private:
    void enqueue() {
        switch (case_.mode) {
            case BenchMode::kInfer:
                graphs_.forward_inference(plan_, forward_);
                break;
            case BenchMode::kForward:
                graphs_.forward_training(plan_, forward_);
                break;
            case BenchMode::kBackward:
                graphs_.backward(plan_, backward_);
                break;
            case BenchMode::kTrain:
                graphs_.forward_training(plan_, forward_);
                graphs_.backward(plan_, backward_);
                break;
        }
    }
    void record() {
        enqueue();
        if (case_.mode == BenchMode::kInfer) graphs_.prepare_forward_inference(plan_, forward_);
        if (case_.mode == BenchMode::kForward || case_.mode == BenchMode::kTrain) {
            graphs_.prepare_forward_training(plan_, forward_);
        }
        if (case_.mode == BenchMode::kBackward || case_.mode == BenchMode::kTrain) {
            graphs_.prepare_backward(plan_, backward_);
        }
    }
    Buffer memory(std::int64_t numel, DType dtype, const char* what) const {
        return Buffer(static_cast<std::size_t>(numel) * dtype_bytes(dtype), case_.plan.device,
                      what);
    }
    TensorView tensor(std::initializer_list<std::int64_t> shape, DType dtype, const char* what) {
        TensorView view(nullptr, dtype, shape, case_.plan.device);
        tensors_.push_back(memory(view.numel(), dtype, what));
        fill_uniform(tensors_.back(), dtype, 1.0);
        view.data = tensors_.back().data();
        return view;
    }
    void prepare_backward() {
        const RnnSpec& s = case_.spec;
        const std::int64_t batch = case_.plan.batch_size;
        const std::int64_t states = s.num_states();
        const DType dtype = storage_dtype(s.dtype), wide = accumulator_dtype(s.dtype);
        backward_.x = forward_.x;
        backward_.hx = forward_.hx;
        backward_.cx = forward_.cx;
        backward_.y = forward_.y;
        backward_.params = &params_;
        backward_.dy =
            tensor({case_.plan.seq_len, batch, s.num_directions() * s.output_size()}, dtype, "dy");
        backward_.dx = tensor({case_.plan.seq_len, batch, s.input_size}, dtype, "dx");
        backward_.dhx = tensor({states, batch, s.output_size()}, dtype, "dhx");
        if (cell_has_c(s.cell)) backward_.dcx = tensor({states, batch, s.hidden_size}, wide, "dcx");
        weight_grads_ = memory(param_count(s), wide, "the weight gradients");
        grads_ = grads_from_flat(s, weight_grads_.data(), case_.plan.device);
        backward_.grads = &grads_;
        backward_.reserve = reserve_.data();
        backward_.reserve_bytes = reserve_.bytes();
        if (case_.mode == BenchMode::kBackward) forward_training(plan_, forward_);
    }

    RnnCase case_;
    RnnPlan plan_;
    PassGraphs graphs_;
    Buffer weights_, weight_grads_, workspace_, reserve_;
    std::vector<Buffer> tensors_;
    RnnParams params_;
    RnnGrads grads_;
    std::unique_ptr<PackedWeights> packed_;
    RnnForwardArgs forward_;
    RnnBackwardArgs backward_;
};

struct BenchRnnOptions {
    RnnCaseFlags flags;
    TimingOptions timing;
    std::string tune_products;
    bool no_graphs = false;
    bool json = false;
};

int bench_rnn(const BenchRnnOptions& options) {
    catch_interrupts();
    BenchReport report(options.json);
    const Device device = resolve_device(options.flags.device);
    TunedProducts products(device, options.tune_products);
    for (RnnCase& c : expand(options.flags, device)) {
        RnnBench bench(c, !options.no_graphs);
        const Timing timing = measure(options.timing, [&] { bench.run(); });
        if (interrupted()) return kExitInterrupted;
        c.plan.num_threads = bench.plan().options().num_threads;
        report.add(c.to_json(), timing, c.flops());
        products.store();
    }
    return kExitDone;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
    CLI::App* command = app.add_subcommand(
        "bench", "Times recurrent layers (rnn), training steps (lm), or sampling (sample)");
    command->require_subcommand(1);
    CLI::App* rnn = command->add_subcommand(
        "rnn", "Times a recurrent layer; median, 10th and 90th percentile of repetitions");
    auto options = std::make_shared<BenchRnnOptions>();
    add_rnn_case_flags(*rnn, options->flags);
    add_timing_flags(*rnn, options->timing);
    rnn->add_flag("--no-graphs", options->no_graphs,
                  "CUDA: enqueue each pass anew instead of replaying it as one graph");
    flag_tune_products(*rnn, options->tune_products);
    flag_json(*rnn, options->json);
    rnn->callback(
        [&context, options] { context.action = [options] { return bench_rnn(*options); }; });
    add_bench_model(*command, context);
}

}  // namespace carousel::cli
