#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "simt/simt_device.hpp"
#include "src/backend/cuda/rnn_forward.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/device_pass.hpp"

// Inference that keeps x W_ih^T of fewer steps than the sequence has: what plans of real sizes do, and
// plans of test sizes, whose inputs all fit, do not.

namespace carousel::test {
namespace {

constexpr int kDevice = 62;

/// One inference on `run`'s tensors with a ring of `ring` steps, and chunks of half of that.
NamedTensors infer_with_ring(RnnRun& run, simt::Device& device, Algorithm algorithm,
                             std::int64_t ring) {
    cuda::RnnPlanData plan;
    plan.spec = run.line.spec;
    plan.options = run.options;
    plan.options.algorithm = algorithm;
    plan.config = choose_cuda_config(plan.spec, plan.options, device.caps(),
                                     device.gemm_workspace_bytes(), plan.rejections);
    plan.config.ring_steps = ring;
    if (plan.config.fronts_of_layers) {
        plan.config.chunk_steps = ring / 2;
        plan.config.lag = ring;
    }
    plan.schedule = build_cuda_schedule(plan.spec, plan.options, plan.config);
    const CudaRnnSchedule::Workspace& work = plan.schedule.inference;
    const Buffer workspace(work.slices.bytes(), Device::cuda(kDevice), "workspace with a ring");

    const cuda::Queue queues[2] = {device.default_queue(), device.make_queue()};
    std::vector<cuda::Event> events;
    for (int event = 0; event < kCudaWalkEvents; ++event) events.push_back(device.make_event());
    std::vector<cuda::WeightPointers> weights(static_cast<std::size_t>(plan.spec.num_states()));
    const RnnForwardArgs& args = run.forward_args;
    cuda::RnnOperands operands(plan, device, args.seq_len, args.batch_size, work, workspace.data(),
                               queues, weights);
    const bool packs = plan.config.algorithm == Algorithm::kWavefront;
    operands.bind_weights(args.params, nullptr, packs);
    cuda::RnnForwardRun forward(operands, args, false);
    run.upload();
    walk_forward(plan.spec, plan.config, args.seq_len, false, packs, [&](const CudaStep& step) {
        if (step.kind == CudaStepKind::kRecord) {
            device.record(queues[step.queue], events[static_cast<std::size_t>(step.event)]);
        } else if (step.kind == CudaStepKind::kWait) {
            device.wait(queues[step.queue], events[static_cast<std::size_t>(step.event)]);
        } else {
            forward.run(step);
        }
    });
    device.synchronize(queues[0]);
    run.download();
    return run.forward_results();
}

TEST(SimtRnnRing, ShortRingsMatchTheOracle) {
    for (const simt::QueueOrder order :
         {simt::QueueOrder::kSideEarly, simt::QueueOrder::kSideLate}) {
        simt::DeviceOptions options;
        options.order = order;
        simt::InstalledDevice device(kDevice, options);
        for (const char* text :
             {"lstm T7 N3 I4 H5 L2 D2 lengths reset f64", "gru T9 N2 I3 H4 L3 D2 f64",
              "gru_reset_before T8 N3 I5 H4 L2 D2 batch_first f32",
              "rnn_tanh T5 N4 I3 H8 L2 D2 bf16", "lstm T11 N2 I4 H6 P3 L3 lengths f64",
              "gru T6 N3 I4 H5 L4 reset f32"}) {
            const ShapeLine line = parse_shape_line(text);
            const RnnData data = make_rnn_data(line);
            const NamedTensors expected = reference_forward(data, false);
            for (const Algorithm algorithm : device_algorithms(line.spec)) {
                for (const std::int64_t ring : {2, 4}) {
                    SCOPED_TRACE(line.text + ", " + algorithm_name(algorithm) + ", ring of " +
                                 std::to_string(ring));
                    RnnRun run(line, data, device.device(), algorithm);
                    expect_close(infer_with_ring(run, *device, algorithm, ring), expected,
                                 device_tolerance(line.spec.dtype, line.seq_len));
                }
            }
        }
    }
}

}  // namespace
}  // namespace carousel::test
