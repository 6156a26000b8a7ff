#include <sstream>

#include "src/plan/cuda_schedule.hpp"

namespace carousel {

namespace {

/// Prints a walk with equal stretches of steps folded: the last line of a stretch stands for it.
class StepPrinter {
public:
    StepPrinter(std::ostream& out, const RnnSpec& spec) : out_(out), spec_(spec) {}

    void print(const CudaStep& step) {
        ++total_;
        if (lines_ >= kLines) return;
        ++lines_;
        out_ << "  queue " << step.queue << ": " << cuda_step_name(step.kind);
        if (step.event >= 0) {
            out_ << " event " << step.event << "\n";
            return;
        }
        const std::int64_t D = spec_.num_directions();
        for (std::int64_t i = 0; i < step.num_states; ++i) {
            const std::int64_t state = step.first_state + i, walk = step.walk - i * step.lag;
            out_ << (i == 0 ? " l" : ", l") << state / D << (state % D == 1 ? ".reverse" : "");
            if (step.kind == CudaStepKind::kSetKey || step.kind == CudaStepKind::kPackWeights ||
                step.kind == CudaStepKind::kStateIn) {
                continue;
            }
            out_ << " step " << walk;
            if (step.count > 1) out_ << ".." << walk + step.count - 1;
        }
        out_ << "\n";
    }
    void finish() {
        if (total_ > lines_) out_ << "  ... " << total_ - lines_ << " more steps\n";
    }

private:
    static constexpr std::int64_t kLines = 24;
    std::ostream& out_;
    const RnnSpec& spec_;
    std::int64_t lines_ = 0, total_ = 0;
};

template <class Walk>
void print_walk(std::ostream& out, const char* title, const RnnSpec& spec, Walk&& walk) {
    out << title << ":\n";
    StepPrinter printer(out, spec);
    walk([&](const CudaStep& step) { printer.print(step); });
    printer.finish();
}

}  // namespace

std::string describe_cuda(const RnnSpec& spec, const RnnPlanOptions& options,
                          const CudaRnnConfig& config, const std::vector<Rejection>& rejections,
                          const CudaRnnSchedule& schedule, const cuda::DeviceCaps& caps) {
    std::ostringstream out;
    out << "plan: " << to_string(spec) << " T" << options.seq_len << " N" << options.batch_size
        << " on " << options.device.name() << (options.training ? ", training\n" : ", inference\n");
    out << "device: " << caps.name << ", compute capability " << caps.compute_major << "."
        << caps.compute_minor << ", " << caps.num_sms << " multiprocessors\n";
    out << "algorithm: " << algorithm_name(config.algorithm) << "\n";
    for (const Rejection& rejection : rejections) {
        out << "  not " << algorithm_name(rejection.algorithm) << ": " << rejection.reason << "\n";
    }
    out << "queues: " << config.num_queues << ", " << config.gemm_workspace_bytes
        << " bytes for products on each\n";
    if (config.fronts_of_layers) {
        out << "fronts: the layers on a diagonal, " << config.lag
            << " steps apart; products between layers " << config.chunk_steps
            << " steps at a time\n";
    } else if (config.fronts_of_directions) {
        out << "fronts: both directions of a layer\n";
    }
    const bool packs = config.algorithm == Algorithm::kWavefront;
    print_walk(out, "forward inference", spec, [&](const CudaStepSink& sink) {
        walk_forward(spec, config, options.seq_len, false, packs, sink);
    });
    if (options.training) {
        print_walk(out, "forward training", spec, [&](const CudaStepSink& sink) {
            walk_forward(spec, config, options.seq_len, true, packs, sink);
        });
        print_walk(out, "backward", spec, [&](const CudaStepSink& sink) {
            walk_backward(spec, config, options.seq_len, CudaBackwardWants{}, packs, sink);
        });
    }
    print_slices(out, "workspace, forward inference", schedule.inference.slices);
    if (options.training) {
        print_slices(out, "workspace, forward training", schedule.training.slices);
        print_slices(out, "workspace, backward", schedule.grads.slices);
        print_slices(out, "reserve", schedule.reserve);
    }
    return out.str();
}

}  // namespace carousel
