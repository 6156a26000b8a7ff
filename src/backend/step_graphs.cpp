#include "src/backend/step_graphs.hpp"

#include "src/backend/cuda/device_api.hpp"

namespace carousel {

StepGraphs::StepGraphs(Device device, bool enabled) : device_(device) {
    if (device.type != DeviceType::kCuda || !enabled) return;
    api_ = cuda::device_api(device.index);
    cache_ = std::make_unique<cuda::GraphCache>(api_);
}

void StepGraphs::run(const std::function<void(cuda::GraphKey&)>& add_key,
                     const std::function<void()>& enqueue) {
    if (cache_ == nullptr) return enqueue();
    cuda::GraphKey key;
    add_key(key);
    const auto on_queue = [&](cuda::Queue) { enqueue(); };
    const cuda::Queue queue = api_->default_queue();
    if (cache_->knows(key.bytes())) cache_->prepare(key.bytes(), queue, on_queue);
    cache_->run(key.bytes(), queue, on_queue);
}

std::string StepGraphs::describe() const {
    if (cache_ != nullptr) return cache_->describe();
    return device_.type == DeviceType::kCuda ? "no graphs: switched off\n"
                                             : "no graphs: the CPU runs steps as they are\n";
}

}  // namespace carousel
