#pragma once

#include <string>

#include "src/backend/cuda/device_query.hpp"

namespace carousel::cuda {

/// The runtime's list of devices and versions. Makes no context; never throws.
CudaAnswer probe_devices();

/// Empty if cuBLASLt is there and device `index`, which the list has, gives this process a context
/// and some memory; else a sentence. Makes the device's context; never throws.
std::string probe_use(int index);

}  // namespace carousel::cuda
