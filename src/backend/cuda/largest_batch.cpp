#include "src/backend/largest_batch.hpp"

#include <string>

#include "carousel/error.hpp"
#include "src/backend/cuda/rnn_backend.hpp"

namespace carousel {

std::int64_t largest_batch_size(const RnnSpec& spec, const RnnPlanOptions& options,
                                std::size_t bytes) {
    const std::shared_ptr<cuda::DeviceApi> api = cuda::device_api(options.device.index);
    const auto fits = [&](std::int64_t batch_size) {
        RnnPlanOptions smaller = options;
        smaller.batch_size = batch_size;
        const cuda::RnnExplanation plan =
            cuda::explain_rnn(spec, smaller, api->caps(), api->gemm_workspace_bytes());
        return plan.workspace_bytes + plan.reserve_bytes <= bytes;
    };
    std::int64_t low = 0, high = options.batch_size + 1;  // low fits, high does not
    while (high - low > 1) {
        const std::int64_t middle = low + (high - low) / 2;
        (fits(middle) ? low : high) = middle;
    }
    return low;
}

void allocate_for_plan(const RnnSpec& spec, const RnnPlanOptions& options, const char* what,
                       void (*allocate)(void* context), void* context) {
    try {
        allocate(context);
    } catch (const Error& error) {
        if (error.code() != ErrorCode::kOutOfMemory || options.device.type != DeviceType::kCuda)
            throw;
        const std::size_t free_bytes = cuda::device_api(options.device.index)->free_bytes();
        const std::int64_t batch = largest_batch_size(spec, options, free_bytes);
        throw Error(ErrorCode::kOutOfMemory,
                    std::string(error.what()) + ". " + what + " (" + to_string(spec) +
                        ", T = " + std::to_string(options.seq_len) +
                        ", N = " + std::to_string(options.batch_size) + "): " +
                        (batch > 0 ? "the largest batch that fits is " + std::to_string(batch)
                                   : std::string("not even a batch of 1 fits")));
    }
}

}  // namespace carousel
