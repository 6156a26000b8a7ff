#pragma once

#include <cstddef>
#include <string>

namespace carousel::cuda {

/// What plans and usability depend on, as a plain value: plans are made for a DeviceCaps and need no
/// device. Sizes in bytes.
struct DeviceCaps {
    std::string name;  ///< as the driver reports it
    int compute_major = 0, compute_minor = 0;
    int num_sms = 0;
    std::size_t shared_bytes_per_sm = 0;
    std::size_t shared_bytes_per_block = 0;  ///< with opt-in
    std::size_t l2_bytes = 0;
    std::size_t memory_bytes = 0;
    bool cooperative_launch = false;
    bool memory_pools = false;
    int driver_version = 0;   ///< 1000*major + 10*minor; 0 = no driver
    int runtime_version = 0;  ///< that the library was built with

    friend bool operator==(const DeviceCaps&, const DeviceCaps&) = default;
};

}  // namespace carousel::cuda
