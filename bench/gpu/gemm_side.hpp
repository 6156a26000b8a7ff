#pragma once

#include <memory>

#include "bench/core/side.hpp"
#include "src/backend/cuda/device_api.hpp"

namespace carousel::bench {

/// The bare products of a case, one recurrent product per step, layer and direction: the floor of every
/// implementation that unrolls over steps. What it computes is no RNN and is not checked.
class GemmSide final : public Side {
public:
    GemmSide(const Problem& problem, Arena& arena, std::shared_ptr<cuda::DeviceApi> api);
    std::string name() const override { return "gemm"; }
    std::size_t workspace_bytes() const override;
    std::size_t reserve_bytes() const override;
    void forward(StreamRef stream, bool training) override;
    void backward(StreamRef stream, bool weights) override;
    Outcome outcome(bool) override { return {}; }

private:
    void enqueue_forward(cuda::Queue queue, std::int64_t state);
    void enqueue_backward(cuda::Queue queue, std::int64_t state, bool weights);
    cuda::GemmArgs product() const;
    const void* weight(std::int64_t state, const char* kind) const;

    const Problem& problem_;
    Arena& arena_;
    std::shared_ptr<cuda::DeviceApi> api_;
    std::vector<RnnParamInfo> layout_;
};

}  // namespace carousel::bench
