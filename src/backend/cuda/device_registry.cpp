#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/device_query.hpp"
#if CAROUSEL_HAS_CUDA
#include "src/backend/cuda/runtime/cuda_device.hpp"
#endif

namespace carousel::cuda {

namespace {

struct Registry {
    std::mutex mutex;
    std::map<int, std::shared_ptr<DeviceApi>> devices;
};

// Never destroyed: at process exit the driver takes everything back, and CUDA must not be called from
// destructors of statics (CUDA C++ Programming Guide, "Initialization").
Registry& registry() {
    static Registry* const kept = new Registry;
    return *kept;
}

}  // namespace

std::shared_ptr<DeviceApi> find_device_api(int index) {
    Registry& known = registry();
    const std::lock_guard lock(known.mutex);
    const auto found = known.devices.find(index);
    return found == known.devices.end() ? nullptr : found->second;
}

std::shared_ptr<DeviceApi> device_api(int index) {
    Registry& known = registry();
    // Held while the device is made: two first users get the same one.
    const std::lock_guard lock(known.mutex);
    if (const auto found = known.devices.find(index); found != known.devices.end()) {
        return found->second;
    }
    const std::string reason = cuda_unusable_reason(index);
    if (!reason.empty()) {
        throw Error(ErrorCode::kUnsupported,
                    "cannot use " + Device::cuda(index).name() + ": " + reason);
    }
#if CAROUSEL_HAS_CUDA
    const CudaStatus status = cuda_status();
    auto made = make_cuda_device(index, status.devices[static_cast<std::size_t>(index)]);
    known.devices.emplace(index, made);
    return made;
#else
    throw Error(ErrorCode::kInternal, "a build without CUDA found a CUDA device");
#endif
}

void install_device_api(int index, std::shared_ptr<DeviceApi> api) {
    Registry& known = registry();
    std::shared_ptr<DeviceApi> before;  // destroyed after the lock is released
    const std::lock_guard lock(known.mutex);
    const auto found = known.devices.find(index);
    if (found != known.devices.end()) {
        before = std::move(found->second);
        known.devices.erase(found);
    }
    if (api != nullptr) known.devices.emplace(index, std::move(api));
}

}  // namespace carousel::cuda
