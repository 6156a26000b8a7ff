#pragma once

#include "src/backend/cuda/rnn_forward.hpp"

namespace carousel::cuda {

/// One backward pass: turns the steps of a walk into products and launches.
class RnnBackwardRun {
public:
    RnnBackwardRun(const RnnOperands& operands, const RnnBackwardArgs& args);
    void run(const CudaStep& step);

    static CudaBackwardWants wants(const RnnBackwardArgs& args);

private:
    template <class Args, class Fill>
    void for_parts(const CudaStep& step, Fill&& fill, Launch (*launcher)(const Args&)) {
        launch_parts<Args>(x_, common_, step, fill, launcher);
    }
    void state_grad_in(const CudaStep& step);
    void state_grad_out(const CudaStep& step);
    void project_backward(const CudaStep& step);
    void project_product(const CudaStep& step);
    void cell(const CudaStep& step, bool second);
    void fill_cell(CellBackwardPart& part, std::int64_t state, std::int64_t walk) const;
    void reset_product(const CudaStep& step);
    void recurrent_product(const CudaStep& step);
    void input_product(const CudaStep& step);
    void weight_grads(const CudaStep& step);
    void input_weight_grads(const CudaStep& step);
    void bias_grads(const CudaStep& step);
    void norms(const CudaStep& step);

    /// dw [rows,columns] (+)= dgates[:, slot*H ...]^T operand, over `rows_total` rows.
    void weight_product(int queue, const void* dgates, std::int64_t ld, const void* operand,
                        std::int64_t operand_ld, std::int64_t total_rows, std::int64_t out_rows,
                        std::int64_t out_columns, void* out, bool add) const;

    void* dgates(std::int64_t state, std::int64_t t, std::int64_t slot = 0) const;
    std::int64_t dgates_stride() const;
    void* dy_of(std::int64_t layer, std::int64_t t) const;
    const void* aux(std::int64_t state, std::int64_t t) const;
    const void* h_in(std::int64_t state, std::int64_t t) const;
    void* norm_partials(std::int64_t state, std::int64_t walk) const;
    std::int64_t norm_columns() const;
    GradIn grad_in(std::int64_t state, std::int64_t walk) const;

    const RnnOperands& x_;
    const RnnBackwardArgs& args_;
    StepCommon common_;
};

}  // namespace carousel::cuda
