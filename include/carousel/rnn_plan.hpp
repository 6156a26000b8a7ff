#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "carousel/rnn_spec.hpp"

namespace carousel {

/// Algorithms, in the order in which kAuto tries them. The CPU runs kStepwise.
enum class Algorithm : int { kAuto = 0, kCluster = 1, kGrid = 2, kWavefront = 3, kStepwise = 4 };
CAROUSEL_API const char* algorithm_name(Algorithm algorithm) noexcept;

/// How a spec is going to be run.
struct RnnPlanOptions {
    std::int64_t seq_len = 0;     ///< the largest T that will be run
    std::int64_t batch_size = 0;  ///< the largest N that will be run
    bool training = true;         ///< false: forward_inference only, no reserve
    Device device{};
    /// CPU: threads of the plan's own pool; 0 = chosen from cores and size of the work.
    int num_threads = 0;
    /// CPU: share this pool instead of making one (num_threads is then ignored).
    std::shared_ptr<ThreadPool> pool;
    Algorithm algorithm = Algorithm::kAuto;
};

/// How one spec will be run on one device: algorithm, steps and named slices of memory. Immutable
/// after create(). Any T <= seq_len and N <= batch_size runs on it without replanning. One plan
/// serves one thread at a time; different plans run concurrently.
class CAROUSEL_API RnnPlan {
public:
    struct Impl;
    RnnPlan() noexcept;  ///< an empty plan, valid() is false
    ~RnnPlan();
    RnnPlan(RnnPlan&&) noexcept;
    RnnPlan& operator=(RnnPlan&&) noexcept;

    /// Errors: InvalidArgument (a rule of the spec or options), Unsupported (dtype, device or
    /// algorithm, with the reason), OutOfMemory.
    static RnnPlan create(const RnnSpec& spec, const RnnPlanOptions& options);

    const RnnSpec& spec() const noexcept;
    /// As resolved: num_threads and algorithm filled in.
    const RnnPlanOptions& options() const noexcept;
    /// Scratch of any one call; content is not kept between calls.
    std::size_t workspace_bytes() const noexcept;
    /// What forward_training saves for backward; 0 without training.
    std::size_t reserve_bytes() const noexcept;
    /// The plan as text: algorithm and why the others were rejected, steps, slices with bytes.
    std::string describe() const;

    bool valid() const noexcept { return impl_ != nullptr; }
    Impl& impl() const noexcept { return *impl_; }

private:
    explicit RnnPlan(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace carousel
