#pragma once

#include <memory>

#include "bench/gpu/gpu_side.hpp"

namespace carousel::bench {

/// The bare products of a case, one recurrent product per step, layer and direction: the floor of every
/// implementation that unrolls over steps. What it computes is no RNN and is not checked.
class GemmSide final : public GpuSide {
public:
    GemmSide(const GpuProblem& problem, GpuArena& arena, std::shared_ptr<cuda::DeviceApi> api);
    std::string name() const override { return "gemm"; }
    std::size_t workspace_bytes() const override;
    std::size_t reserve_bytes() const override;
    void forward(cuda::Queue queue, bool training) override;
    void backward(cuda::Queue queue, bool weights) override;
    bool backward_changes_reserve() const override { return false; }
    GpuOutcome outcome(bool) override { return {}; }

private:
    void enqueue_forward(cuda::Queue queue, std::int64_t state);
    void enqueue_backward(cuda::Queue queue, std::int64_t state, bool weights);
    cuda::GemmArgs product() const;
    const void* weight(std::int64_t state, const char* kind) const;

    const GpuProblem& problem_;
    GpuArena& arena_;
    std::shared_ptr<cuda::DeviceApi> api_;
    std::vector<RnnParamInfo> layout_;
};

}  // namespace carousel::bench
