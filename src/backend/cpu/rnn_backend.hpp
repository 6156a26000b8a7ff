#pragma once

#include <memory>

#include "carousel/rnn_params.hpp"
#include "src/backend/rnn_executor.hpp"

namespace carousel::cpu {

/// Lanes of the instruction set in use for `dtype` (f32 or f64).
int rnn_lanes(DType dtype);

/// Executor of a CPU plan; `plan` must outlive it and have spec, options, config and schedule set.
std::unique_ptr<RnnExecutor> make_rnn_executor(const RnnPlan::Impl& plan,
                                               std::shared_ptr<ThreadPool> pool);

/// Fills a PackedWeights::Impl whose layout is set.
void pack_all_weights(PackedWeights::Impl& packed, const RnnParams& params, ThreadPool* pool);

}  // namespace carousel::cpu
