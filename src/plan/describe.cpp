#include <algorithm>
#include <sstream>

#include "src/plan/rnn_schedule.hpp"

namespace carousel {

const char* step_name(StepKind kind) noexcept {
    switch (kind) {
        case StepKind::kPackForward:
            return "pack weights";
        case StepKind::kForwardSweep:
            return "forward sweep";
        case StepKind::kStateOut:
            return "final state";
        case StepKind::kRequested:
            return "requested outputs";
        case StepKind::kDropout:
            return "dropout";
        case StepKind::kPackBackward:
            return "pack transposed weights";
        case StepKind::kBackwardSweep:
            return "backward sweep";
        case StepKind::kStateGrads:
            return "state gradients";
        case StepKind::kWeightGrads:
            return "weight gradients";
        case StepKind::kBiasGrads:
            return "bias gradients";
        case StepKind::kInputGrads:
            return "input gradients";
        case StepKind::kDropoutGrads:
            return "dropout gradients";
    }
    return "?";
}

namespace {

/// What a step computes, with the sizes of its operands.
std::string step_detail(const RnnSpec& spec, const RnnConfig& config, std::int64_t batch_size,
                        const PlanStep& step) {
    std::ostringstream text;
    const std::int64_t rows = spec.num_gates() * spec.hidden_size, O = spec.output_size();
    const std::int64_t input = spec.layer_input_size(step.layer);
    switch (step.kind) {
        case StepKind::kForwardSweep:
            if (fuses_input(spec, config, batch_size)) {
                text << "per step: gemm x[N," << input << "] w_ih[" << rows << "," << input
                     << "]^T + ";
            } else {
                text << "per " << config.chunk_steps << " steps: gemm x[*," << input << "] w_ih["
                     << rows << "," << input << "]^T; per step: ";
            }
            text << "gemm h[N," << O << "] w_hh[" << rows << "," << O << "]^T + "
                 << cell_name(spec.cell) << " forward";
            if (spec.proj_size > 0) {
                text << " + gemm w_hr[" << spec.proj_size << "," << spec.hidden_size << "]^T";
            }
            break;
        case StepKind::kBackwardSweep:
            text << "per step, last first: gemm dgates[N," << rows << "] w_hh[" << rows << "," << O
                 << "] + " << cell_name(spec.cell) << " backward";
            break;
        case StepKind::kWeightGrads:
            text << "gemm over T*N: dw_ih[" << rows << "," << input << "], dw_hh[" << rows << ","
                 << O << "]";
            if (spec.proj_size > 0)
                text << ", dw_hr[" << spec.proj_size << "," << spec.hidden_size << "]";
            break;
        case StepKind::kBiasGrads:
            text << "column sums over T*N [" << rows << "]";
            break;
        case StepKind::kInputGrads:
            text << "gemm dgates[T*N," << rows << "] w_ih[" << rows << "," << input << "]";
            break;
        case StepKind::kDropout:
        case StepKind::kDropoutGrads:
            text << "p = " << spec.dropout << " on [T,N," << spec.num_directions() * O << "]";
            break;
        default:
            break;
    }
    return text.str();
}

void print_steps(std::ostream& out, const char* title, const RnnSpec& spec, const RnnConfig& config,
                 std::int64_t batch_size, const std::vector<PlanStep>& steps) {
    out << title << ":\n";
    for (std::size_t i = 0; i < steps.size(); ++i) {
        out << "  " << i << " l" << steps[i].layer << (steps[i].dir == 1 ? ".reverse " : " ")
            << step_name(steps[i].kind);
        const std::string detail = step_detail(spec, config, batch_size, steps[i]);
        if (!detail.empty()) out << ": " << detail;
        out << "\n";
    }
}

}  // namespace

std::string describe(const RnnSpec& spec, const RnnPlanOptions& options, const RnnConfig& config,
                     const std::vector<Rejection>& rejections, const RnnSchedule& schedule,
                     const char* isa) {
    std::ostringstream out;
    out << "plan: " << to_string(spec) << " T" << options.seq_len << " N" << options.batch_size
        << " on " << options.device.name() << (options.training ? ", training\n" : ", inference\n");
    out << "algorithm: " << algorithm_name(config.algorithm) << "\n";
    for (const Rejection& rejection : rejections) {
        out << "  not " << algorithm_name(rejection.algorithm) << ": " << rejection.reason << "\n";
    }
    out << "instruction set: " << isa << ", " << config.lanes << " lanes\n";
    out << "threads: " << config.num_threads << " = " << config.batch_groups << " batch groups x "
        << config.unit_groups << " unit groups"
        << (config.unit_groups > 1 ? ", one barrier per step\n" : ", no barrier between steps\n");
    print_steps(out, "forward inference", spec, config, options.batch_size,
                schedule.forward_inference);
    if (options.training) {
        print_steps(out, "forward training", spec, config, options.batch_size,
                    schedule.forward_training);
        print_steps(out, "backward", spec, config, options.batch_size, schedule.backward);
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
