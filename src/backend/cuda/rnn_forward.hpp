#pragma once

#include <algorithm>

#include "src/backend/cuda/rnn_operands.hpp"

namespace carousel::cuda {

/// Elements between steps and between sequences of a caller's tensor.
struct TensorStrides {
    std::int64_t t = 0, n = 0;
};

/// Calls `fill(part, state, walk)` for every state of a front and launches what `launcher` makes of
/// the parts, kMaxParts at a time.
template <class Args, class Fill>
void launch_parts(const RnnOperands& operands, const StepCommon& common, const CudaStep& step,
                  Fill&& fill, Launch (*launcher)(const Args&)) {
    for (std::int64_t first = 0; first < step.num_states; first += kMaxParts) {
        Args args;
        args.common = common;
        args.common.num_parts =
            static_cast<int>(std::min<std::int64_t>(kMaxParts, step.num_states - first));
        for (int i = 0; i < args.common.num_parts; ++i) {
            const std::int64_t index = first + i;
            fill(args.parts[i], step.first_state + index, step.walk - index * step.lag);
        }
        operands.launch(step.queue, launcher(args));
    }
}

/// One forward pass: turns the steps of a walk into products and launches.
class RnnForwardRun {
public:
    RnnForwardRun(const RnnOperands& operands, const RnnForwardArgs& args, bool training);
    void run(const CudaStep& step);

private:
    template <class Args, class Fill>
    void for_parts(const CudaStep& step, Fill&& fill, Launch (*launcher)(const Args&)) {
        launch_parts<Args>(x_, common_, step, fill, launcher);
    }
    void set_key(const CudaStep& step);
    void state_in(const CudaStep& step);
    void input_product(const CudaStep& step);
    void recurrent_product(const CudaStep& step);
    void reset_product(const CudaStep& step);
    void project_product(const CudaStep& step);
    void cell(const CudaStep& step, bool second);
    void fill_cell(CellForwardPart& part, std::int64_t state, std::int64_t walk) const;
    void project(const CudaStep& step);

    void* x_preact(std::int64_t state, std::int64_t first_time) const;
    std::int64_t x_preact_stride() const;
    void* h_in(std::int64_t state, std::int64_t walk) const;
    void* c(std::int64_t state, std::int64_t walk) const;
    void* aux(std::int64_t state, std::int64_t walk) const;
    void* layer_output(std::int64_t layer, std::int64_t t) const;
    bool folds_bias(std::int64_t state) const;
    StateOut state_out(std::int64_t state, std::int64_t walk) const;

    const RnnOperands& x_;
    const RnnForwardArgs& args_;
    bool training_;
    StepCommon common_;
};

}  // namespace carousel::cuda
