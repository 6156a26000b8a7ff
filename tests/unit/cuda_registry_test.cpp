// Buffers, copies and synchronize on a CUDA device, over one that works on host memory.

#include <gtest/gtest.h>

#include <array>
#include <utility>

#include "carousel/carousel.h"
#include "carousel/tensor.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/queued_device.hpp"

namespace carousel::test {
namespace {

// An index that no machine has.
constexpr int kIndex = 77;
const Device kDevice = Device::cuda(kIndex);

class DeviceRegistry : public ::testing::Test {
protected:
    DeviceRegistry() { cuda::install_device_api(kIndex, device); }
    ~DeviceRegistry() override { cuda::install_device_api(kIndex, nullptr); }

    std::shared_ptr<QueuedDevice> device = std::make_shared<QueuedDevice>(kIndex);
};

TEST_F(DeviceRegistry, InstalledDeviceIsUsableUntilTakenAway) {
    EXPECT_TRUE(device_usable(kDevice));
    EXPECT_EQ(cuda::device_api(kIndex), device);
    EXPECT_EQ(cuda::find_device_api(kIndex), device);
    cuda::install_device_api(kIndex, nullptr);
    EXPECT_EQ(cuda::find_device_api(kIndex), nullptr);
    std::string why;
    EXPECT_FALSE(device_usable(kDevice, &why));
    EXPECT_FALSE(why.empty());
    expect_error(ErrorCode::kUnsupported, "cuda:77", [] { cuda::device_api(kIndex); });
    expect_error(ErrorCode::kUnsupported, "cuda:77", [] { Buffer(8, kDevice); });
}

TEST_F(DeviceRegistry, BuffersHoldOnToTheirDevice) {
    std::weak_ptr<QueuedDevice> watched = device;
    {
        Buffer buffer(100, kDevice, "a tensor");
        EXPECT_EQ(buffer.device(), kDevice);
        EXPECT_EQ(buffer.bytes(), 100U);
        EXPECT_EQ(device->live_blocks(), 1U);
        cuda::install_device_api(kIndex, nullptr);
        device.reset();
        EXPECT_FALSE(watched.expired());
        // Moves carry the owner along.
        Buffer moved = std::move(buffer);
        EXPECT_EQ(buffer.data(), nullptr);
        Buffer assigned(16);
        assigned = std::move(moved);
        EXPECT_EQ(assigned.device(), kDevice);
        assigned.zero();
        EXPECT_EQ(assigned.as<unsigned char>()[99], 0);
    }
    EXPECT_TRUE(watched.expired());
}

TEST_F(DeviceRegistry, BuffersAreReturnedToTheirDevice) {
    { const Buffer buffer(100, kDevice); }
    EXPECT_EQ(device->live_blocks(), 0U);
    const Buffer empty(0, kDevice);
    EXPECT_EQ(empty.data(), nullptr);
    device->memory_limit = 1000;
    const std::string sentence = expect_error(ErrorCode::kOutOfMemory, "1001",
                                              [] { Buffer(1001, kDevice, "the workspace"); });
    EXPECT_NE(sentence.find("the workspace"), std::string::npos) << sentence;
    EXPECT_EQ(device->live_blocks(), 0U);
}

TEST_F(DeviceRegistry, CopiesFillAndReadTensors) {
    const Buffer buffer(sizeof(float) * 3, kDevice);
    const std::array<float, 3> in = {1.0F, 2.0F, 3.0F};
    std::array<float, 3> out = {};
    copy_to_device(buffer.data(), in.data(), sizeof(in), kDevice);
    copy_to_host(out.data(), buffer.data(), sizeof(out), kDevice);
    EXPECT_EQ(in, out);
    // The same calls on the CPU, and in C.
    std::array<float, 3> host = {};
    copy_to_device(host.data(), in.data(), sizeof(in), Device::cpu());
    out = {};
    copy_to_host(out.data(), host.data(), sizeof(out), Device::cpu());
    EXPECT_EQ(in, out);
    const carousel_device c_device = {CAROUSEL_CUDA_DEVICE, kIndex};
    out = {};
    EXPECT_EQ(carousel_copy_to_host(out.data(), buffer.data(), sizeof(out), c_device), CAROUSEL_OK);
    EXPECT_EQ(in, out);
    EXPECT_EQ(carousel_copy_to_device(buffer.data(), out.data(), sizeof(out), c_device),
              CAROUSEL_OK);
    EXPECT_EQ(carousel_copy_to_host(nullptr, buffer.data(), 4, c_device),
              CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(carousel_copy_to_host(nullptr, nullptr, 0, c_device), CAROUSEL_OK);
}

TEST_F(DeviceRegistry, SynchronizeReportsBadDataOnce) {
    int from = 3, to = 0;
    device->copy(device->default_queue(), &to, &from, sizeof(int));
    EXPECT_NO_THROW(synchronize(kDevice));
    EXPECT_EQ(to, 3) << "synchronize must wait";

    const std::array<std::pair<cuda::StatusBit, const char*>, 4> bits = {{
        {cuda::kStatusLength, "length"},
        {cuda::kStatusToken, "token"},
        {cuda::kStatusTarget, "target"},
        {cuda::kStatusReserve, "reserve"},
    }};
    for (const auto& [bit, word] : bits) {
        *device->status_word() = bit;
        const std::string sentence =
            expect_error(ErrorCode::kInvalidArgument, word, [] { synchronize(kDevice); });
        for (const auto& [other, other_word] : bits) {
            EXPECT_EQ(sentence.find(other_word) != std::string::npos, other == bit) << sentence;
        }
        EXPECT_EQ(*device->status_word(), 0U);
        EXPECT_NO_THROW(synchronize(kDevice));
    }
    *device->status_word() = cuda::kStatusLength | cuda::kStatusTarget;
    EXPECT_EQ(carousel_synchronize({CAROUSEL_CUDA_DEVICE, kIndex}), CAROUSEL_INVALID_ARGUMENT);
    EXPECT_EQ(carousel_synchronize({CAROUSEL_CUDA_DEVICE, kIndex}), CAROUSEL_OK);
    EXPECT_EQ(carousel_synchronize({CAROUSEL_CPU, 0}), CAROUSEL_OK);
    EXPECT_NO_THROW(synchronize(Device::cpu()));
}

}  // namespace
}  // namespace carousel::test
