#pragma once

#include <string>

#include "src/plan/device_caps.hpp"

namespace carousel::cuda {

/// Empty if a device with these capabilities can run plans of this build, else a sentence: the
/// architecture or the driver that is missing, and what to do. Pure.
std::string unusable_reason(const DeviceCaps& caps);

/// Published figures of devices by name ("h200", "h100", "a100", …), for plans of machines elsewhere.
/// InvalidArgument lists the names if unknown. Source: NVIDIA's data sheets and tuning guides.
DeviceCaps known_device(const std::string& name);

}  // namespace carousel::cuda
