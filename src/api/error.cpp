#include "carousel/error.hpp"

namespace carousel {

const char* error_code_name(ErrorCode code) noexcept {
    switch (code) {
        case ErrorCode::kOk:
            return "Ok";
        case ErrorCode::kInvalidArgument:
            return "InvalidArgument";
        case ErrorCode::kUnsupported:
            return "Unsupported";
        case ErrorCode::kOutOfMemory:
            return "OutOfMemory";
        case ErrorCode::kCuda:
            return "Cuda";
        case ErrorCode::kDeviceLost:
            return "DeviceLost";
        case ErrorCode::kIo:
            return "Io";
        case ErrorCode::kInternal:
            return "Internal";
    }
    return "Unknown";
}

Error::Error(ErrorCode code, const std::string& message)
    : std::runtime_error(message), code_(code) {}

}  // namespace carousel
