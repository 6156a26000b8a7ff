#include "carousel/device.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/device_query.hpp"

namespace carousel {

Device Device::best() {
    const int count = std::max(cuda_status().device_count, 1);
    for (int index = 0; index < count; ++index) {
        if (device_usable(cuda(index))) return cuda(index);
    }
    return cpu();
}

Device Device::parse(const std::string& text) {
    if (text == "cpu") return cpu();
    if (text == "auto") return best();
    if (text == "cuda") return cuda(0);
    if (text.rfind("cuda:", 0) == 0 && text.size() > 5 && text.size() < 10) {
        bool digits = true;
        for (std::size_t i = 5; i < text.size(); ++i)
            digits = digits && std::isdigit(static_cast<unsigned char>(text[i]));
        if (digits) return cuda(std::atoi(text.c_str() + 5));
    }
    throw Error(ErrorCode::kInvalidArgument,
                "device is \"" + text + "\"; expected cpu, cuda, cuda:<index> or auto");
}

std::string Device::name() const {
    return type == DeviceType::kCpu ? "cpu" : "cuda:" + std::to_string(index);
}

bool device_usable(const Device& device, std::string* why) {
    if (device.type == DeviceType::kCpu) {
        if (device.index == 0) return true;
        if (why != nullptr) *why = "there is one CPU device, index 0";
        return false;
    }
    // A device in use stays usable, however little memory its users have left.
    if (cuda::find_device_api(device.index) != nullptr) return true;
    const std::string reason = cuda_unusable_reason(device.index);
    if (why != nullptr) *why = reason;
    return reason.empty();
}

void synchronize(const Device& device) {
    if (device.type == DeviceType::kCpu) return;
    const auto api = cuda::device_api(device.index);
    const cuda::Queue queue = api->default_queue();
    api->synchronize(queue);
    std::uint32_t status = 0;
    api->copy_to_host(&status, api->status_word(), sizeof(status));
    if (status == 0) return;
    api->zero(queue, api->status_word(), sizeof(status));
    api->synchronize(queue);
    std::string found;
    const auto add = [&](cuda::StatusBit bit, const char* what) {
        if ((status & bit) != 0) found += (found.empty() ? "" : ", ") + std::string(what);
    };
    add(cuda::kStatusLength, "a length outside [0, seq_len], which was clamped");
    add(cuda::kStatusToken, "a token id outside the vocabulary, which read nothing");
    add(cuda::kStatusTarget,
        "a target that is neither -1 nor in the vocabulary, which was left out of the loss");
    add(cuda::kStatusReserve,
        "a reserve in a backward pass that forward_training of the same spec, plan and sizes had "
        "not "
        "filled, so that the gradients mean nothing");
    throw Error(ErrorCode::kInvalidArgument,
                "kernels on " + device.name() + " met " + found +
                    "; check the data of the calls since the last synchronize");
}

}  // namespace carousel
