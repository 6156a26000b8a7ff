// What the runtime's answers become.

#include "src/backend/cuda/runtime/cuda_probe.hpp"

#include <gtest/gtest.h>

#include "carousel/error.hpp"
#include "src/backend/cuda/runtime/cuda_check.hpp"
#include "tests/cudart/runtime_fixture.hpp"

namespace carousel::test {
namespace {

class RuntimeProbe : public RuntimeTest {};

TEST_F(RuntimeProbe, DevicesBecomeCaps) {
    const CudaAnswer answer = cuda::probe_devices();
    EXPECT_TRUE(answer.compiled);
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.driver_version, CUDART_VERSION);
    EXPECT_EQ(answer.runtime_version, CUDART_VERSION);
    ASSERT_EQ(answer.devices.size(), 2U);
    const cuda::DeviceCaps& second = answer.devices[1];
    EXPECT_EQ(second.name, "Fake");
    EXPECT_EQ(second.compute_major, 9);
    EXPECT_EQ(second.num_sms, 101);
    EXPECT_EQ(second.shared_bytes_per_block, 227U << 10);
    EXPECT_TRUE(second.memory_pools);
    EXPECT_TRUE(second.cooperative_launch);
    EXPECT_EQ(second.driver_version, CUDART_VERSION);
    EXPECT_EQ(status_of(answer).reason, "");
}

TEST_F(RuntimeProbe, FailuresAreAnswersAndLeaveNoErrorBehind) {
    fake.count_error = cudaErrorInsufficientDriver;
    fake.driver_version = 0;
    EXPECT_NE(status_of(cuda::probe_devices()).reason.find("no NVIDIA driver"), std::string::npos);
    fake.driver_version = 11080;
    EXPECT_NE(status_of(cuda::probe_devices()).reason.find("CUDA 11.8"), std::string::npos);
    EXPECT_EQ(fake.last_error, cudaSuccess);
    fake.count_error = cudaErrorNoDevice;
    EXPECT_NE(status_of(cuda::probe_devices()).reason.find("shows no GPU"), std::string::npos);
    fake.count_error = cudaSuccess;
    fake.fail_once["cudaGetDeviceProperties"] = cudaErrorUnknown;
    EXPECT_NE(status_of(cuda::probe_devices()).reason.find("words of the runtime"),
              std::string::npos);
    EXPECT_EQ(fake.last_error, cudaSuccess);
}

TEST_F(RuntimeProbe, UseNeedsMemory) {
    EXPECT_EQ(cuda::probe_use(1), "");
    EXPECT_EQ(fake.current_device, 0);
    fake.free_bytes = 1000;
    EXPECT_NE(cuda::probe_use(1).find("1000 bytes are free"), std::string::npos);
    fake.free_bytes = std::size_t{1} << 30;
    fake.fail_once["cudaMemGetInfo"] = cudaErrorMemoryAllocation;
    EXPECT_NE(cuda::probe_use(1).find("memory is taken"), std::string::npos);
    fake.fail_once["cudaSetDevice"] = cudaErrorDevicesUnavailable;
    EXPECT_NE(cuda::probe_use(1).find("cannot use it"), std::string::npos);
    EXPECT_EQ(fake.last_error, cudaSuccess);
}

TEST_F(RuntimeProbe, StickyErrorsAreThoseThatKillAContext) {
    for (const cudaError_t error :
         {cudaErrorIllegalAddress, cudaErrorLaunchFailure, cudaErrorAssert,
          cudaErrorECCUncorrectable, cudaErrorLaunchTimeout, cudaErrorUnknown}) {
        EXPECT_TRUE(cuda::is_sticky(error)) << error;
    }
    for (const cudaError_t error :
         {cudaErrorMemoryAllocation, cudaErrorInvalidValue, cudaErrorInvalidConfiguration,
          cudaErrorLaunchOutOfResources, cudaErrorNotReady, cudaErrorStreamCaptureInvalidated,
          cudaErrorCooperativeLaunchTooLarge, cudaErrorNoKernelImageForDevice}) {
        EXPECT_FALSE(cuda::is_sticky(error)) << error;
    }
}

}  // namespace
}  // namespace carousel::test
