#include <algorithm>
#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/cuda/rnn_backend.hpp"
#include "src/backend/cuda/rnn_backward.hpp"
#include "src/backend/cuda/rnn_forward.hpp"

namespace carousel::cuda {

namespace {

RnnPlanData make_plan(const RnnSpec& spec, const RnnPlanOptions& options, const DeviceCaps& caps,
                      std::size_t gemm_workspace_bytes) {
    RnnPlanData plan;
    plan.spec = spec;
    plan.options = options;
    plan.config = choose_cuda_config(spec, options, caps, gemm_workspace_bytes, plan.rejections);
    plan.options.algorithm = plan.config.algorithm;
    plan.schedule = build_cuda_schedule(spec, options, plan.config);
    return plan;
}

std::size_t largest_workspace(const CudaRnnSchedule& schedule) {
    return std::max({schedule.inference.slices.bytes(), schedule.training.slices.bytes(),
                     schedule.grads.slices.bytes()});
}

/// The side queue and the events of one plan.
class Branches {
public:
    Branches(DeviceApi& api, int num_queues) : api_(api) {
        try {
            for (Event& event : events_) event = api_.make_event();
            if (num_queues > 1) side_ = api_.make_queue();
        } catch (...) {
            release();
            throw;
        }
    }
    ~Branches() { release(); }
    Branches(const Branches&) = delete;
    Branches& operator=(const Branches&) = delete;

    Queue side() const noexcept { return side_; }
    Event event(int index) const noexcept { return events_[index]; }

private:
    void release() noexcept {
        for (const Event event : events_) {
            if (event.native != nullptr) api_.release_event(event);
        }
        if (side_.native != nullptr) api_.release_queue(side_);
    }
    DeviceApi& api_;
    Queue side_{};
    Event events_[kCudaWalkEvents] = {};
};

class CudaRnnExecutor final : public RnnExecutor {
public:
    CudaRnnExecutor(RnnPlanData plan, std::shared_ptr<DeviceApi> api)
        : plan_(std::move(plan)),
          api_(std::move(api)),
          branches_(*api_, plan_.config.num_queues),
          weights_(static_cast<std::size_t>(plan_.spec.num_states())) {}

    void forward(const RnnForwardArgs& args, bool training) override {
        const Queue queues[2] = {main_queue(args.stream), branches_.side()};
        const CudaRnnSchedule::Workspace& work =
            training ? plan_.schedule.training : plan_.schedule.inference;
        RnnOperands operands(plan_, *api_, args.seq_len, args.batch_size, work, args.workspace,
                             queues, weights_);
        const bool packs = packs_weights(args.params);
        operands.bind_weights(args.params, args.packed, packs);
        RnnForwardRun run(operands, args, training);
        walk_forward(plan_.spec, plan_.config, args.seq_len, training, packs,
                     [&](const CudaStep& step) { execute(step, queues, run); });
    }

    void backward(const RnnBackwardArgs& args) override {
        const Queue queues[2] = {main_queue(args.stream), branches_.side()};
        RnnOperands operands(plan_, *api_, args.seq_len, args.batch_size, plan_.schedule.grads,
                             args.workspace, queues, weights_);
        const bool packs = packs_weights(args.params);
        operands.bind_weights(args.params, args.packed, packs);
        RnnBackwardRun run(operands, args);
        walk_backward(plan_.spec, plan_.config, args.seq_len, RnnBackwardRun::wants(args), packs,
                      [&](const CudaStep& step) { execute(step, queues, run); });
    }

    std::size_t workspace_bytes() const noexcept override {
        return largest_workspace(plan_.schedule);
    }
    std::size_t reserve_bytes() const noexcept override { return plan_.schedule.reserve.bytes(); }
    std::string describe() const override {
        return describe_cuda(plan_.spec, plan_.options, plan_.config, plan_.rejections,
                             plan_.schedule, api_->caps());
    }
    // The reserve is device memory, and reading it would make the host wait: the first kernel of the
    // lowest layer looks at its stamp, and reports in the status word.
    void check_reserve(const RnnBackwardArgs&) const override {}

private:
    Queue main_queue(const StreamRef& stream) const {
        return stream.native != nullptr ? Queue{stream.native} : api_->default_queue();
    }
    bool packs_weights(const RnnParams* params) const noexcept {
        return params != nullptr && plan_.config.algorithm == Algorithm::kWavefront;
    }
    template <class Run>
    void execute(const CudaStep& step, const Queue* queues, Run& run) {
        switch (step.kind) {
            case CudaStepKind::kRecord:
                return api_->record(queues[step.queue], branches_.event(step.event));
            case CudaStepKind::kWait:
                return api_->wait(queues[step.queue], branches_.event(step.event));
            default:
                return run.run(step);
        }
    }

    RnnPlanData plan_;
    std::shared_ptr<DeviceApi> api_;
    Branches branches_;
    std::vector<WeightPointers> weights_;
};

}  // namespace

std::unique_ptr<RnnExecutor> make_rnn_executor(const RnnSpec& spec, RnnPlanOptions& options,
                                               std::shared_ptr<DeviceApi> api) {
    RnnPlanData plan = make_plan(spec, options, api->caps(), api->gemm_workspace_bytes());
    options.algorithm = plan.config.algorithm;
    return std::make_unique<CudaRnnExecutor>(std::move(plan), std::move(api));
}

RnnExplanation explain_rnn(const RnnSpec& spec, const RnnPlanOptions& options,
                           const DeviceCaps& caps, std::size_t gemm_workspace_bytes) {
    // cuBLAS recommends 32 MiB of workspace on Hopper, 4 MiB before.
    if (gemm_workspace_bytes == 0)
        gemm_workspace_bytes = std::size_t{caps.compute_major >= 9 ? 32U : 4U} << 20;
    const RnnPlanData plan = make_plan(spec, options, caps, gemm_workspace_bytes);
    return {
        plan.config.algorithm, largest_workspace(plan.schedule), plan.schedule.reserve.bytes(),
        describe_cuda(plan.spec, plan.options, plan.config, plan.rejections, plan.schedule, caps)};
}

void pack_all_weights(PackedWeights::Impl& packed, const RnnParams& params, DeviceApi& api) {
    const DType dtype = packed.spec.dtype;
    const Queue queue = api.default_queue();
    for (std::size_t state = 0; state < params.layers.size(); ++state) {
        const RnnLayerParams& from = params.layers[state];
        const auto copy = [&](const StateArray& array, const ConstTensorView& tensor) {
            if (!tensor.defined()) return;
            void* to = packed.slices.at<std::byte>(packed.memory.data(), array.slice);
            const auto rows = static_cast<std::size_t>(tensor.shape[0]);
            const auto columns = tensor.ndim == 2 ? static_cast<std::size_t>(tensor.shape[1]) : 1U;
            api.copy(queue, offset(to, static_cast<std::int64_t>(state) * array.stride, dtype),
                     tensor.data, rows * columns * dtype_bytes(dtype));
        };
        copy(packed.cuda.w_ih, from.w_ih);
        copy(packed.cuda.w_hh, from.w_hh);
        copy(packed.cuda.w_hr, from.w_hr);
        copy(packed.cuda.b_ih, from.b_ih);
        copy(packed.cuda.b_hh, from.b_hh);
    }
    // Plans read them on any queue.
    api.synchronize(queue);
}

}  // namespace carousel::cuda
