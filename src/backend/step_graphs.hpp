#pragma once

#include <functional>
#include <memory>
#include <string>

#include "carousel/device.hpp"
#include "src/backend/cuda/graph_cache.hpp"

namespace carousel {

/// Whole training steps recorded as CUDA graphs. The first run of a kind of step enqueues as it is
/// (kernels are loaded, products choose their algorithms), the second records it, later ones replay:
/// a kind that occurs once costs nothing more. On the CPU every run enqueues.
class StepGraphs {
public:
    /// `enabled` false: every run enqueues on a CUDA device, too.
    StepGraphs(Device device, bool enabled);

    /// `add_key` appends what tells this step from others; `enqueue` does it on the library's own
    /// queue of the device. Errors: those of `enqueue`.
    void run(const std::function<void(cuda::GraphKey&)>& add_key,
             const std::function<void()>& enqueue);

    std::size_t num_graphs() const noexcept { return cache_ ? cache_->num_graphs() : 0; }
    std::string describe() const;  ///< the graphs, one line each, or why there are none

private:
    Device device_;
    std::shared_ptr<cuda::DeviceApi> api_;     ///< null on the CPU
    std::unique_ptr<cuda::GraphCache> cache_;  ///< null on the CPU and if not enabled
};

}  // namespace carousel
