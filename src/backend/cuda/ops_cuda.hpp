#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/pinned_ring.hpp"
#include "src/backend/ops.hpp"

namespace carousel::cuda {

/// Device memory that only grows, for scratch of operations that run one after the other on one
/// queue. Older, smaller blocks stay until the end, because captured graphs hold their addresses.
class ScratchMemory {
public:
    ScratchMemory(std::shared_ptr<DeviceApi> api, const char* what)
        : api_(std::move(api)), what_(what) {}
    ~ScratchMemory();
    ScratchMemory(const ScratchMemory&) = delete;
    ScratchMemory& operator=(const ScratchMemory&) = delete;

    /// At least `bytes`; the content is whatever was left there.
    void* get(std::size_t bytes);

private:
    std::shared_ptr<DeviceApi> api_;
    const char* what_;
    std::vector<void*> blocks_;
    std::size_t bytes_ = 0;  ///< of the last block
};

/// The training layer's operations on a CUDA device: each call enqueues launches, products and
/// copies on the library's own queue and returns. Norms and updates are always dense.
class CudaOps final : public Ops {
public:
    /// Errors: Unsupported for a dtype that no kernel stores; OutOfMemory.
    CudaOps(DType dtype, std::shared_ptr<DeviceApi> api);

    DType dtype() const noexcept override { return dtype_; }
    Device device() const noexcept override { return api_->device(); }
    bool visits_rows() const noexcept override { return false; }

    void upload(void* to, const void* from, std::size_t bytes) override;
    Ticket read_back(const void* from, std::size_t bytes) override;
    void collect(Ticket ticket, void* to) override;
    void drop(Ticket ticket) override;
    void download(void* to, const void* from, std::size_t bytes) override;
    void clear_status() override;

    void zero(void* data, std::size_t bytes) override;
    void axpy(double alpha, const void* x, void* y, std::int64_t numel) override;
    void scale(double alpha, void* x, std::int64_t numel) override;
    void scale_by(const double* factor, void* x, std::int64_t numel) override;
    void clamp(double limit, void* x, std::int64_t numel) override;
    void cast(DType from_dtype, const void* from, DType to_dtype, void* to,
              std::int64_t numel) override;
    void copy(const void* from, void* to, std::size_t bytes) override;

    void gather_rows(const GatherRowsArgs& args) override;
    void scatter_add_rows(const ScatterAddRowsArgs& args) override;
    /// Errors: Unsupported: the rows of a set are host memory; clear the whole table.
    void zero_rows(void* table, const RowSet& set) override;
    void set_one_hot(void* x, std::int64_t classes, const std::int32_t* ids, std::int64_t n,
                     double value) override;

    void matmul(const MatMulArgs& args) override;
    void matvec(const MatVecArgs& args) override;
    void add_bias(const AddBiasArgs& args) override;
    void column_sum(const ColumnSumArgs& args) override;
    void softmax_xent(const SoftmaxXentArgs& args) override;
    void sum_losses(const LossSumArgs& args) override;
    void dropout(const void* x, void* y, std::int64_t numel, double p, std::uint64_t seed,
                 std::uint64_t step, std::uint32_t layer) override;
    void dropout_keyed(const void* x, void* y, std::int64_t numel, double p,
                       const std::uint64_t* key, std::uint32_t layer) override;
    void sample_tokens(const SampleTokensArgs& args) override;

    void grad_norm(const GradNormArgs& args) override;
    void reset_scale(StepControl* control, LossScale* loss_scale) override;
    void optimizer_step(const OptimizerStepArgs& args) override;

private:
    const NnLaunchers& kernels() const { return *api_->kernels().nn; }
    void run(const Launch& launch) { api_->launch(queue_, launch); }
    void gemm(GemmArgs args, DType out_dtype);

    DType dtype_;
    std::shared_ptr<DeviceApi> api_;
    Queue queue_;
    PinnedRing ring_;
    PinnedReadback readback_;
    ScratchMemory scratch_;       ///< of sorts and column sums
    ScratchMemory gemm_scratch_;  ///< of products
    ScratchMemory scalars_;       ///< one UpdateScalars
};

}  // namespace carousel::cuda
