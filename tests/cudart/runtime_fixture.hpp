#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/nn_launchers.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/device_caps.hpp"
#include "tests/cudart/fake_cudart.hpp"

namespace carousel::test {

/// Biases that were added by the kernel, in order.
std::vector<cuda::RowBiasArgs>& added_biases();

/// State of the cuBLASLt that CAROUSEL_CUBLASLT names; opens it.
FakeCublasLt& fake_cublaslt();

/// A card with index 1, while the caller's device is 0, over a fresh fake runtime.
class RuntimeTest : public ::testing::Test {
protected:
    RuntimeTest();
    ~RuntimeTest() override;
    std::shared_ptr<cuda::DeviceApi> make_device();
    /// Word `index` of a log line.
    static std::string word(const std::string& line, int index);

    FakeCudart& fake = fake_cudart();
    FakeCublasLt& lt = fake_cublaslt();
    cuda::DeviceCaps caps;
    std::shared_ptr<cuda::DeviceApi> device;
    cuda::Queue queue;           ///< the default one
    std::string default_stream;  ///< its name in the log
};

}  // namespace carousel::test
