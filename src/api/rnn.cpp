#include "carousel/rnn.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "carousel/error.hpp"
#include "src/api/check.hpp"
#include "src/backend/cpu/rnn_backend.hpp"
#include "src/backend/cpu/thread_pool.hpp"
#include "src/backend/cuda/rnn_backend.hpp"
#include "src/backend/rnn_executor.hpp"

namespace carousel {

namespace {

/// The CPU computes in f32 and f64; CUDA devices in every floating-point dtype.
void check_supported(const RnnSpec& spec, const Device& device) {
    if (device.type == DeviceType::kCuda) {
        std::string why;
        if (device_usable(device, &why)) return;
        throw Error(ErrorCode::kUnsupported,
                    "device " + device.name() + " cannot run this plan: " + why +
                        "; use Device::cpu(), or Device::best() to choose");
    }
    if (device.index != 0) {
        throw Error(ErrorCode::kInvalidArgument,
                    "device cpu has index " + std::to_string(device.index) + "; expected 0");
    }
    if (spec.dtype != DType::kF32 && spec.dtype != DType::kF64) {
        throw Error(ErrorCode::kUnsupported, std::string("dtype ") + dtype_name(spec.dtype) +
                                                 " is not available on the CPU; use f32 or f64");
    }
}

void check_options(const RnnPlanOptions& options) {
    const auto at_least_one = [](const char* name, std::int64_t value) {
        if (value < 1) {
            throw Error(
                ErrorCode::kInvalidArgument,
                std::string(name) + " is " + std::to_string(value) + "; expected at least 1");
        }
    };
    at_least_one("seq_len", options.seq_len);
    at_least_one("batch_size", options.batch_size);
    if (options.num_threads < 0 || options.num_threads > 1024) {
        throw Error(ErrorCode::kInvalidArgument,
                    "num_threads is " + std::to_string(options.num_threads) +
                        "; expected 1 to 1024, or 0 to let the plan choose");
    }
}

/// Algorithms that the CPU does not have, with the reason; kStepwise remains.
std::vector<Rejection> choose_algorithm(Algorithm asked) {
    const std::vector<Rejection> rejections = {
        {Algorithm::kCluster,
         "it keeps weights in the shared memory of a GPU's thread-block cluster"},
        {Algorithm::kGrid, "it spreads one kernel over the multiprocessors of a GPU"},
        {Algorithm::kWavefront,
         "layers overlap on the streams of a GPU; on the CPU every core already works on each "
         "step"},
    };
    if (asked == Algorithm::kAuto || asked == Algorithm::kStepwise) return rejections;
    for (const Rejection& rejection : rejections) {
        if (rejection.algorithm == asked) {
            throw Error(ErrorCode::kUnsupported, std::string("algorithm ") + algorithm_name(asked) +
                                                     " does not run on the CPU: " +
                                                     rejection.reason + "; use auto or stepwise");
        }
    }
    throw Error(ErrorCode::kInvalidArgument, "algorithm is " +
                                                 std::to_string(static_cast<int>(asked)) +
                                                 "; expected one of the Algorithm enumerators");
}

}  // namespace

RnnPlan::RnnPlan() noexcept = default;
RnnPlan::RnnPlan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RnnPlan::~RnnPlan() = default;
RnnPlan::RnnPlan(RnnPlan&&) noexcept = default;
RnnPlan& RnnPlan::operator=(RnnPlan&&) noexcept = default;

RnnPlan RnnPlan::create(const RnnSpec& spec, const RnnPlanOptions& options) {
    validate(spec);
    check_options(options);
    check_supported(spec, options.device);
    static std::atomic<std::uint64_t> plans{0};
    auto impl = std::make_unique<Impl>();
    impl->id = ++plans;
    impl->spec = spec;
    impl->options = options;
    if (options.device.type == DeviceType::kCuda) {
        impl->executor =
            cuda::make_rnn_executor(spec, impl->options, cuda::device_api(options.device.index));
        return RnnPlan(std::move(impl));
    }
    impl->rejections = choose_algorithm(options.algorithm);
    const int available = options.pool != nullptr ? options.pool->num_threads() : usable_cores();
    RnnPlanOptions wanted = options;
    if (options.pool != nullptr) wanted.num_threads = available;
    impl->config = choose_config(spec, wanted, available, cpu::rnn_lanes(spec.dtype));
    impl->options.num_threads = impl->config.num_threads;
    impl->options.algorithm = impl->config.algorithm;
    impl->schedule = build_schedule(spec, options, impl->config);
    std::shared_ptr<ThreadPool> pool = options.pool;
    if (pool == nullptr) pool = std::make_shared<ThreadPool>(impl->config.num_threads);
    impl->options.pool = pool;
    impl->executor = cpu::make_rnn_executor(*impl, std::move(pool));
    return RnnPlan(std::move(impl));
}

namespace {
const RnnPlan::Impl& checked(const RnnPlan& plan) {
    if (!plan.valid())
        throw Error(ErrorCode::kInvalidArgument, "plan is empty; make one with RnnPlan::create");
    return plan.impl();
}
}  // namespace

const RnnSpec& RnnPlan::spec() const noexcept { return impl_->spec; }
const RnnPlanOptions& RnnPlan::options() const noexcept { return impl_->options; }
std::size_t RnnPlan::workspace_bytes() const noexcept { return impl_->executor->workspace_bytes(); }
std::size_t RnnPlan::reserve_bytes() const noexcept { return impl_->executor->reserve_bytes(); }

std::string RnnPlan::describe() const { return checked(*this).executor->describe(); }

PackedWeights::PackedWeights(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackedWeights::~PackedWeights() = default;
PackedWeights::PackedWeights(PackedWeights&&) noexcept = default;
PackedWeights& PackedWeights::operator=(PackedWeights&&) noexcept = default;
std::size_t PackedWeights::bytes() const noexcept { return impl_->memory.bytes(); }

PackedWeights PackedWeights::make(const RnnSpec& spec, const RnnParams& params, Device device,
                                  ThreadPool* pool, bool for_backward) {
    validate(spec);
    check_supported(spec, device);
    check_params(spec, params, device);
    auto impl = std::make_unique<Impl>();
    impl->spec = spec;
    impl->device = device;
    impl->for_backward = for_backward;
    if (device.type == DeviceType::kCuda) {
        impl->for_backward = true;  // both passes read the same copy
        add_cuda_weights(spec, impl->slices, impl->cuda);
        impl->memory = Buffer(impl->slices.bytes(), device, "packed weights");
        cuda::pack_all_weights(*impl, params, *cuda::device_api(device.index));
        return PackedWeights(std::move(impl));
    }
    impl->states = add_packed_weights(spec, cpu::rnn_lanes(spec.dtype),
                                      {.forward = true, .backward = for_backward}, impl->slices);
    impl->memory = Buffer(impl->slices.bytes(), device, "packed weights");
    cpu::pack_all_weights(*impl, params, pool);
    return PackedWeights(std::move(impl));
}

void forward_inference(const RnnPlan& plan, const RnnForwardArgs& args) {
    check_forward(plan, args, false);
    plan.impl().executor->forward(args, false);
}

void forward_training(const RnnPlan& plan, const RnnForwardArgs& args) {
    check_forward(plan, args, true);
    plan.impl().executor->forward(args, true);
}

void backward(const RnnPlan& plan, const RnnBackwardArgs& args) {
    check_backward(plan, args);
    plan.impl().executor->backward(args);
}

}  // namespace carousel
