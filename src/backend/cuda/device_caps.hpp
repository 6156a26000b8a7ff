#pragma once

#include <string>
#include <string_view>

#include "src/plan/device_caps.hpp"

namespace carousel::cuda {

/// Empty if a device with these capabilities can run plans of this build, else a sentence: the
/// architecture or the driver that is missing, and what to do. Pure.
std::string unusable_reason(const DeviceCaps& caps);

/// The same for a build whose kernels are compiled for `architectures`, as CMake writes them, with
/// commas: "80,90a", "90-real", "80-virtual".
std::string unusable_reason(const DeviceCaps& caps, std::string_view architectures);

/// What unusable_reason says of the driver alone.
std::string driver_reason(int driver_version, int runtime_version);

/// True if kernels compiled for `architectures` run on compute capability major.minor.
bool runs_on(std::string_view architectures, int compute_major, int compute_minor);

/// Published figures of devices by name ("h200", "h100", "a100", …), for plans of machines elsewhere.
/// InvalidArgument lists the names if unknown. Source: NVIDIA's data sheets and tuning guides.
DeviceCaps known_device(const std::string& name);

}  // namespace carousel::cuda
