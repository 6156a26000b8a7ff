#include <memory>
#include <utility>

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

    const char* instruction_set() const noexcept override { return isa_name(current_isa()); }

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

}  // namespace

std::unique_ptr<RnnExecutor> make_rnn_executor(const RnnPlan::Impl& plan,
                                               std::shared_ptr<ThreadPool> pool) {
    if (plan.spec.dtype == DType::kF64)
        return std::make_unique<CpuRnnExecutor<double>>(plan, std::move(pool));
    return std::make_unique<CpuRnnExecutor<float>>(plan, std::move(pool));
}

}  // namespace carousel::cpu
