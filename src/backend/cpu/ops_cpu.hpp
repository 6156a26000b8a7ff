#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/cpu/nn_table.hpp"
#include "src/backend/cpu/thread_pool.hpp"
#include "src/backend/ops.hpp"

namespace carousel::cpu {

/// The training layer's operations on the CPU: each call splits its rows, columns or elements over
/// the pool's threads and returns when all are done.
template <class T>
class CpuOps final : public Ops {
public:
    CpuOps(Device device, std::shared_ptr<ThreadPool> pool);

    DType dtype() const noexcept override { return sizeof(T) == 4 ? DType::kF32 : DType::kF64; }
    Device device() const noexcept override { return device_; }
    bool visits_rows() const noexcept override { return true; }

    void upload(void* to, const void* from, std::size_t bytes) override { copy(from, to, bytes); }
    Ticket read_back(const void* from, std::size_t bytes) override;
    void collect(Ticket ticket, void* to) override;
    void drop(Ticket ticket) override;
    void download(void* to, const void* from, std::size_t bytes) override { copy(from, to, bytes); }
    void clear_status() override {}

    void zero(void* data, std::size_t bytes) override;
    void axpy(double alpha, const void* x, void* y, std::int64_t numel) override;
    void scale(double alpha, void* x, std::int64_t numel) override;
    void scale_by(const double* factor, void* x, std::int64_t numel) override {
        scale(*factor, x, numel);
    }
    void clamp(double limit, void* x, std::int64_t numel) override;
    void cast(DType from_dtype, const void* from, DType to_dtype, void* to,
              std::int64_t numel) override;
    void copy(const void* from, void* to, std::size_t bytes) override;

    void gather_rows(const GatherRowsArgs& args) override;
    void scatter_add_rows(const ScatterAddRowsArgs& args) override;
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
                       const std::uint64_t* key, std::uint32_t layer) override {
        dropout(x, y, numel, p, key[0], key[1], layer);
    }
    void sample_tokens(const SampleTokensArgs& args) override;

    void grad_norm(const GradNormArgs& args) override;
    void reset_scale(StepControl* control, LossScale* loss_scale) override;
    void optimizer_step(const OptimizerStepArgs& args) override;

private:
    // Fewer elements than this are done before the team has woken up.
    static constexpr std::int64_t kMinWork = 16384;

    /// Runs body(begin, end) over [0, count), split over the threads in units of `grain`; on the
    /// calling thread alone if there are fewer than kMinWork elements of `work`.
    template <class Body>
    void split(std::int64_t count, std::int64_t grain, std::int64_t work, Body&& body) {
        const int num_threads = pool_->num_threads();
        if (num_threads == 1 || work < kMinWork) {
            if (count > 0) body(std::int64_t{0}, count);
            return;
        }
        pool_->impl().run([&](int tid) {
            const Span span = split_evenly(count, tid, num_threads, grain);
            if (span.size() > 0) body(span.begin, span.end);
        });
    }

    /// What read_back() saw; the number of a ticket that is collected is 0.
    struct ReadBack {
        Ticket ticket = 0;
        std::size_t bytes = 0;
        std::array<std::byte, kReadBackBytes> data;
    };
    ReadBack& read_back_of(Ticket ticket);

    Device device_;
    std::vector<ReadBack> read_backs_;
    Ticket last_ticket_ = 0;
    std::shared_ptr<ThreadPool> pool_;
    const NnKernels<T>& kernels_;
};

}  // namespace carousel::cpu
