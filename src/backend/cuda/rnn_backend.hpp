#pragma once

#include <memory>
#include <string>

#include "carousel/rnn_params.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/backend/rnn_executor.hpp"

namespace carousel::cuda {

/// Decides how `spec` runs on a device of these capabilities and executes it on `api`.
/// `options.algorithm` is set to what was chosen.
std::unique_ptr<RnnExecutor> make_rnn_executor(const RnnSpec& spec, RnnPlanOptions& options,
                                               std::shared_ptr<DeviceApi> api);

/// The plan that a device of these capabilities would get; needs no device. `gemm_workspace_bytes` 0:
/// what cuBLAS recommends for the architecture.
struct RnnExplanation {
    Algorithm algorithm = Algorithm::kAuto;
    std::size_t workspace_bytes = 0, reserve_bytes = 0;
    std::string text;  ///< as RnnPlan::describe
};
RnnExplanation explain_rnn(const RnnSpec& spec, const RnnPlanOptions& options,
                           const DeviceCaps& caps, std::size_t gemm_workspace_bytes = 0);

/// Fills a PackedWeights::Impl (spec and device are set) from plain weights in device memory.
void pack_all_weights(PackedWeights::Impl& packed, const RnnParams& params, DeviceApi& api);

}  // namespace carousel::cuda
