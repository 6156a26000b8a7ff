#pragma once

#include <stdexcept>
#include <string>

#include "carousel/export.hpp"

namespace carousel {

/// What kind of failure an Error reports. The values are those of `carousel_status` in the C ABI.
enum class ErrorCode : int {
    kOk = 0,
    kInvalidArgument = 1,  ///< your mistake: an argument breaks a rule that the sentence states
    kUnsupported = 2,      ///< our limit: the request is legal, this build or device cannot do it
    kOutOfMemory = 3,      ///< the sentence says how much was needed, and for what
    kCuda = 4,             ///< a CUDA or cuBLAS call failed
    kDeviceLost = 5,       ///< an earlier sticky CUDA error; every later call answers this
    kIo = 6,               ///< a file could not be read or written, or its content is malformed
    kInternal = 7,         ///< a defect of Carousel; please report it
};

/// Name of a code as it stands in messages: "InvalidArgument", "Unsupported", …
CAROUSEL_API const char* error_code_name(ErrorCode code) noexcept;

/// The one exception type that leaves the C++ API. `what()` is a sentence that names the tensor or
/// the line, what was expected, and what to do.
class CAROUSEL_API Error : public std::runtime_error {
public:
    Error(ErrorCode code, const std::string& message);
    ErrorCode code() const noexcept { return code_; }

private:
    ErrorCode code_;
};

}  // namespace carousel
