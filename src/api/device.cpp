#include "carousel/device.hpp"

#include <cctype>
#include <cstdlib>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_query.hpp"

namespace carousel {

Device Device::best() {
    const Device first = cuda(0);
    return device_usable(first) ? first : cpu();
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
    const CudaStatus status = cuda_status();
    std::string reason = status.reason;
    if (reason.empty() && device.index >= status.device_count) {
        reason =
            "there are " + std::to_string(status.device_count) + " CUDA devices, counted from 0";
    }
    if (why != nullptr) *why = reason;
    return reason.empty();
}

}  // namespace carousel
