#pragma once

#include <cstddef>
#include <cstdint>

#include "carousel/rnn_plan.hpp"

namespace carousel {

/// The largest batch of at most options.batch_size whose plan's workspace and reserve fit `bytes` of a
/// CUDA device together; 0 if none does.
std::int64_t largest_batch_size(const RnnSpec& spec, const RnnPlanOptions& options,
                                std::size_t bytes);

/// Calls `allocate`; if the device has too little memory for it, the error also says which batch
/// would fit. `what` names the layer.
void allocate_for_plan(const RnnSpec& spec, const RnnPlanOptions& options, const char* what,
                       void (*allocate)(void* context), void* context);

template <class Allocate>
void allocate_for_plan(const RnnSpec& spec, const RnnPlanOptions& options, const char* what,
                       Allocate&& allocate) {
    allocate_for_plan(
        spec, options, what, [](void* call) { (*static_cast<Allocate*>(call))(); }, &allocate);
}

}  // namespace carousel
