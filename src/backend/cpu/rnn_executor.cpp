#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "carousel/error.hpp"

#include "src/backend/cpu/cpu_isa.hpp"
#include "src/backend/cpu/rnn_backend.hpp"
#include "src/backend/cpu/rnn_backward.hpp"
#include "src/backend/cpu/rnn_forward.hpp"

namespace carousel::cpu {

namespace {

template <class T>
class CpuRnnExecutor final : public RnnExecutor {
public:
    CpuRnnExecutor(const RnnPlan::Impl& plan, std::shared_ptr<ThreadPool> pool)
        : plan_(plan),
          pool_(std::move(pool)),
          team_barrier_(plan.config.num_threads),
          group_barriers_(
              std::make_unique<SpinBarrier[]>(static_cast<std::size_t>(plan.config.batch_groups))) {
        for (int group = 0; group < plan.config.batch_groups; ++group) {
            group_barriers_[static_cast<std::size_t>(group)].reset(plan.config.unit_groups);
        }
        rnn_kernels<T>();
    }

    void forward(const RnnForwardArgs& args, bool training) override {
        const ForwardPass<T> pass(plan_, args, training);
        run(args.batch_size, [&](const Member& member) { pass.run(member); });
    }

    void backward(const RnnBackwardArgs& args) override {
        const BackwardPass<T> pass(plan_, args);
        run(args.batch_size, [&](const Member& member) { pass.run(member); });
    }

    std::size_t workspace_bytes() const noexcept override {
        const RnnSchedule& schedule = plan_.schedule;
        return std::max({schedule.inference.slices.bytes(), schedule.training.slices.bytes(),
                         schedule.grads.slices.bytes()});
    }
    std::size_t reserve_bytes() const noexcept override { return plan_.schedule.reserve.bytes(); }
    std::string describe() const override {
        return carousel::describe(plan_.spec, plan_.options, plan_.config, plan_.rejections,
                                  plan_.schedule, isa_name(current_isa()));
    }
    void check_reserve(const RnnBackwardArgs& args) const override;

private:
    template <class Body>
    void run(std::int64_t batch_size, Body&& body) {
        const RnnConfig& config = plan_.config;
        pool_->impl().run([&](int tid) {
            if (tid >= config.num_threads)
                return;  // a shared pool may be larger than this plan wants
            const int group = tid / config.unit_groups;
            body(Member{tid, config.num_threads, group, tid % config.unit_groups,
                        config.unit_groups, &team_barrier_,
                        &group_barriers_[static_cast<std::size_t>(group)],
                        split_evenly(batch_size, group, config.batch_groups)});
        });
    }

    const RnnPlan::Impl& plan_;
    std::shared_ptr<ThreadPool> pool_;
    SpinBarrier team_barrier_;
    std::unique_ptr<SpinBarrier[]> group_barriers_;
};

template <class T>
void CpuRnnExecutor<T>::check_reserve(const RnnBackwardArgs& args) const {
    const auto* header =
        plan_.schedule.reserve.at<ReserveHeader>(args.reserve, plan_.schedule.reserve_header);
    if (header->magic != ReserveHeader::kMagic || header->spec_hash != spec_hash(plan_.spec)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "reserve was not filled by forward_training of this plan's spec; run "
                    "forward_training into it first");
    }
    if (header->seq_len == args.seq_len && header->batch_size == args.batch_size) return;
    throw Error(ErrorCode::kInvalidArgument,
                "reserve was filled with T = " + std::to_string(header->seq_len) +
                    ", N = " + std::to_string(header->batch_size) +
                    "; this backward has T = " + std::to_string(args.seq_len) +
                    ", N = " + std::to_string(args.batch_size) + ": give both calls the same");
}

}  // namespace

std::unique_ptr<RnnExecutor> make_rnn_executor(const RnnPlan::Impl& plan,
                                               std::shared_ptr<ThreadPool> pool) {
    if (plan.spec.dtype == DType::kF64)
        return std::make_unique<CpuRnnExecutor<double>>(plan, std::move(pool));
    return std::make_unique<CpuRnnExecutor<float>>(plan, std::move(pool));
}

}  // namespace carousel::cpu
