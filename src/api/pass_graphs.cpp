#include "carousel/pass_graphs.hpp"

#include <utility>

#include "carousel/error.hpp"
#include "src/api/check.hpp"
#include "src/backend/cuda/graph_cache.hpp"
#include "src/backend/rnn_executor.hpp"

namespace carousel {

namespace {

using cuda::GraphKey;

template <class View>
void add_view(GraphKey& key, const View& view) {
    key.add(static_cast<const void*>(view.data));
    if (!view.defined()) return;
    for (int d = 0; d < view.ndim; ++d) {
        const auto i = static_cast<std::size_t>(d);
        key.add(view.shape[i]).add(view.strides[i]);
    }
}

template <class Args>
void add_common(GraphKey& key, const RnnPlan& plan, const Args& args) {
    key.add(static_cast<std::int64_t>(plan.impl().id));
    key.add(args.seq_len).add(args.batch_size);
    for (const auto* view : {&args.x, &args.hx, &args.cx}) add_view(key, *view);
    add_view(key, args.y);
    key.add(static_cast<const void*>(args.mask.lengths));
    key.add(static_cast<const void*>(args.mask.reset));
    key.add(static_cast<const void*>(args.packed != nullptr ? args.packed->impl().memory.data()
                                                            : nullptr));
    if (args.params != nullptr) {
        for (const RnnLayerParams& layer : args.params->layers) {
            for (const auto* view :
                 {&layer.w_ih, &layer.w_hh, &layer.b_ih, &layer.b_hh, &layer.w_hr}) {
                key.add(static_cast<const void*>(view->data));
            }
        }
    }
    key.add(static_cast<const void*>(args.workspace));
    key.add(static_cast<const void*>(args.reserve));
}

GraphKey forward_key(const RnnPlan& plan, const RnnForwardArgs& args, bool training) {
    GraphKey key;
    key.add(static_cast<std::int64_t>(training ? 1 : 0));
    add_common(key, plan, args);
    for (const auto* view :
         {&args.hy, &args.cy, &args.layer_outputs, &args.cell_states, &args.gates}) {
        add_view(key, *view);
    }
    key.add(static_cast<const void*>(args.dropout_key));
    if (training && args.dropout_key == nullptr && plan.spec().dropout > 0.0) {
        key.add(static_cast<std::int64_t>(args.dropout_seed));
        key.add(static_cast<std::int64_t>(args.dropout_step));
    }
    return key;
}

GraphKey backward_key(const RnnPlan& plan, const RnnBackwardArgs& args) {
    GraphKey key;
    key.add(std::int64_t{2});
    add_common(key, plan, args);
    for (const auto* view : {&args.dy, &args.dhy, &args.dcy}) add_view(key, *view);
    for (const auto* view : {&args.dx, &args.dhx, &args.dcx, &args.dh_norms}) add_view(key, *view);
    key.add(static_cast<std::int64_t>(args.accumulate ? 1 : 0));
    if (args.grads != nullptr) {
        for (const RnnLayerGrads& layer : args.grads->layers) {
            for (const auto* view :
                 {&layer.dw_ih, &layer.dw_hh, &layer.db_ih, &layer.db_hh, &layer.dw_hr}) {
                key.add(static_cast<const void*>(view->data));
            }
        }
    }
    return key;
}

void check_stream(const StreamRef& stream) {
    if (stream.native == nullptr) return;
    throw Error(
        ErrorCode::kInvalidArgument,
        "stream is given to a recorded pass; expected null: graphs are recorded and replayed "
        "on the library's own stream. Capture the plain call on your stream instead");
}

}  // namespace

struct PassGraphs::Impl {
    Device device;
    std::shared_ptr<cuda::DeviceApi> api;     ///< null on the CPU
    std::unique_ptr<cuda::GraphCache> cache;  ///< null on the CPU

    void check_device(const RnnPlan& plan) const {
        if (plan.valid() && plan.options().device == device) return;
        throw Error(ErrorCode::kInvalidArgument,
                    plan.valid() ? "the plan runs on " + plan.options().device.name() +
                                       "; these graphs are for " + device.name()
                                 : "plan is empty; make one with RnnPlan::create");
    }

    template <class Args, class Key, class Pass>
    void run(const RnnPlan& plan, const Args& args, Key&& make_key, Pass&& pass) {
        check_device(plan);
        if (cache == nullptr || args.stream.native != nullptr) return pass(args);
        cache->run(make_key().bytes(), api->default_queue(), [&](cuda::Queue) { pass(args); });
    }
    template <class Args, class Key, class Pass>
    bool prepare(const RnnPlan& plan, const Args& args, Key&& make_key, Pass&& pass) {
        check_device(plan);
        check_stream(args.stream);
        if (cache == nullptr) return false;
        return cache->prepare(make_key().bytes(), api->default_queue(),
                              [&](cuda::Queue) { pass(args); });
    }
};

PassGraphs::PassGraphs(Device device, std::size_t max_bytes) : impl_(std::make_unique<Impl>()) {
    impl_->device = device;
    if (device.type != DeviceType::kCuda) return;
    impl_->api = cuda::device_api(device.index);
    impl_->cache = std::make_unique<cuda::GraphCache>(impl_->api, max_bytes);
}
PassGraphs::~PassGraphs() = default;
PassGraphs::PassGraphs(PassGraphs&&) noexcept = default;
PassGraphs& PassGraphs::operator=(PassGraphs&&) noexcept = default;

void PassGraphs::forward_inference(const RnnPlan& plan, const RnnForwardArgs& args) {
    check_forward(plan, args, false);
    impl_->run(
        plan, args, [&] { return forward_key(plan, args, false); },
        [&](const RnnForwardArgs& a) { carousel::forward_inference(plan, a); });
}

void PassGraphs::forward_training(const RnnPlan& plan, const RnnForwardArgs& args) {
    check_forward(plan, args, true);
    impl_->run(
        plan, args, [&] { return forward_key(plan, args, true); },
        [&](const RnnForwardArgs& a) { carousel::forward_training(plan, a); });
}

void PassGraphs::backward(const RnnPlan& plan, const RnnBackwardArgs& args) {
    check_backward(plan, args);
    impl_->run(
        plan, args, [&] { return backward_key(plan, args); },
        [&](const RnnBackwardArgs& a) { carousel::backward(plan, a); });
}

bool PassGraphs::prepare_forward_inference(const RnnPlan& plan, const RnnForwardArgs& args) {
    check_forward(plan, args, false);
    return impl_->prepare(
        plan, args, [&] { return forward_key(plan, args, false); },
        [&](const RnnForwardArgs& a) { carousel::forward_inference(plan, a); });
}

bool PassGraphs::prepare_forward_training(const RnnPlan& plan, const RnnForwardArgs& args) {
    check_forward(plan, args, true);
    return impl_->prepare(
        plan, args, [&] { return forward_key(plan, args, true); },
        [&](const RnnForwardArgs& a) { carousel::forward_training(plan, a); });
}

bool PassGraphs::prepare_backward(const RnnPlan& plan, const RnnBackwardArgs& args) {
    check_backward(plan, args);
    return impl_->prepare(
        plan, args, [&] { return backward_key(plan, args); },
        [&](const RnnBackwardArgs& a) { carousel::backward(plan, a); });
}

std::size_t PassGraphs::num_graphs() const noexcept {
    return impl_->cache == nullptr ? 0 : impl_->cache->num_graphs();
}
std::size_t PassGraphs::bytes() const noexcept {
    return impl_->cache == nullptr ? 0 : impl_->cache->bytes();
}
std::string PassGraphs::describe() const {
    return impl_->cache == nullptr ? "no graphs: the CPU runs passes as they are\n"
                                   : impl_->cache->describe();
}

}  // namespace carousel
