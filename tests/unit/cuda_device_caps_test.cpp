// Which machines can run CUDA plans, from plain values: no card, driver or toolkit is needed.

#include <gtest/gtest.h>

#include "carousel/device.hpp"
#include "src/backend/cuda/device_query.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

using cuda::DeviceCaps;
using cuda::known_device;
using cuda::runs_on;
using cuda::unusable_reason;

void expect_reason(const std::string& reason, const std::string& part) {
    EXPECT_NE(reason.find(part), std::string::npos) << "\"" << reason << "\" lacks " << part;
}

TEST(DeviceCaps, KnownDevicesAreUsable) {
    for (const char* name : {"h200", "h100", "h100-pcie", "a100", "l40s", "rtx4090"}) {
        const DeviceCaps caps = known_device(name);
        EXPECT_EQ(unusable_reason(caps, "80,90a"), "") << name;
        EXPECT_GT(caps.num_sms, 100) << name;
        EXPECT_LT(caps.shared_bytes_per_block, caps.shared_bytes_per_sm) << name;
        EXPECT_LT(caps.l2_bytes, caps.memory_bytes) << name;
    }
    const DeviceCaps h200 = known_device("h200");
    EXPECT_EQ(h200.compute_major, 9);
    EXPECT_EQ(h200.num_sms, 132);
    EXPECT_EQ(h200.shared_bytes_per_block, 227U * 1024);
    EXPECT_EQ(h200.l2_bytes, std::size_t{60} << 20);  // all of GH100's, as its memory stacks
    EXPECT_EQ(known_device("h100").l2_bytes, std::size_t{50} << 20);
    expect_error(ErrorCode::kInvalidArgument, "h200", [] { known_device("h300"); });
}

TEST(DeviceCaps, DriverDecidesFirst) {
    DeviceCaps caps = known_device("h100");
    caps.runtime_version = 13000;
    caps.driver_version = 0;
    expect_reason(unusable_reason(caps, "80"), "no NVIDIA driver");
    caps.driver_version = 12080;
    const std::string old = unusable_reason(caps, "80");
    expect_reason(old, "supports CUDA 12.8");
    expect_reason(old, "built with CUDA 13.0");
    // Minor versions of one major are compatible both ways.
    for (const int driver : {13000, 13010, 14000}) {
        caps.driver_version = driver;
        EXPECT_EQ(unusable_reason(caps, "80"), "") << driver;
    }
    caps.driver_version = 13000;
    caps.runtime_version = 13020;
    EXPECT_EQ(unusable_reason(caps, "80"), "");
}

TEST(DeviceCaps, ArchitectureAndMemory) {
    DeviceCaps caps = known_device("a100");
    caps.name = "NVIDIA V100";
    caps.compute_major = 7;
    caps.compute_minor = 0;
    const std::string old = unusable_reason(caps, "80,90a");
    expect_reason(old, "NVIDIA V100 has compute capability 7.0");
    expect_reason(old, "needs 8.0 or later");
    caps = known_device("a100");
    expect_reason(unusable_reason(caps, "90a"), "CMAKE_CUDA_ARCHITECTURES");
    caps.memory_bytes = 0;
    expect_reason(unusable_reason(caps, "80"), "reports no memory");
}

TEST(DeviceCaps, ArchitecturesAsNvccHasThem) {
    // Machine code and PTX of 8.0: everything from there on.
    EXPECT_TRUE(runs_on("80", 8, 0));
    EXPECT_TRUE(runs_on("80", 8, 9));
    EXPECT_TRUE(runs_on("80", 12, 0));
    EXPECT_FALSE(runs_on("80", 7, 5));
    // Machine code alone: later minors of that major.
    EXPECT_TRUE(runs_on("80-real", 8, 6));
    EXPECT_FALSE(runs_on("80-real", 9, 0));
    EXPECT_FALSE(runs_on("86-real", 8, 0));
    EXPECT_TRUE(runs_on("80-virtual", 9, 0));
    // "a" is for that one alone.
    EXPECT_TRUE(runs_on("90a", 9, 0));
    EXPECT_FALSE(runs_on("90a", 10, 0));
    EXPECT_FALSE(runs_on("90a", 8, 0));
    EXPECT_TRUE(runs_on("90a-real,80-real", 8, 6));
    EXPECT_FALSE(runs_on("", 9, 0));
    EXPECT_FALSE(runs_on("native", 9, 0));
}

CudaAnswer answer_of(int error, int driver, std::vector<DeviceCaps> devices = {}) {
    CudaAnswer answer;
    answer.compiled = true;
    answer.error = error;
    answer.error_text = error == 0 ? "" : "words of the runtime";
    answer.driver_version = driver;
    answer.runtime_version = 13000;
    answer.devices = std::move(devices);
    return answer;
}

TEST(DeviceQuery, NoDriverAndOldDriverAreToldApart) {
    // The runtime answers 35 to both.
    expect_reason(status_of(answer_of(35, 0)).reason, "no NVIDIA driver");
    expect_reason(status_of(answer_of(35, 12040)).reason, "supports CUDA 12.4");
    // One that this build's rule would take and the runtime does not.
    expect_reason(status_of(answer_of(35, 13000)).reason, "too old");
}

TEST(DeviceQuery, EveryOtherAnswerHasItsSentence) {
    expect_reason(status_of(CudaAnswer{}).reason, "no CUDA part");
    EXPECT_FALSE(status_of(CudaAnswer{}).compiled);
    expect_reason(status_of(answer_of(100, 13000)).reason, "shows no GPU");
    expect_reason(status_of(answer_of(0, 13000)).reason, "shows no GPU");
    expect_reason(status_of(answer_of(999, 13000)).reason, "words of the runtime");
    for (const int error : {35, 100, 999}) {
        EXPECT_EQ(status_of(answer_of(error, 0)).device_count, 0);
    }
}

TEST(DeviceQuery, OneUsableDeviceIsEnough) {
    DeviceCaps old = known_device("a100");
    old.compute_major = 6;
    const CudaStatus mixed = status_of(answer_of(0, 13000, {old, known_device("h200")}));
    EXPECT_EQ(mixed.device_count, 2);
    EXPECT_EQ(mixed.devices.size(), 2U);
    EXPECT_EQ(mixed.reason, "");
    const CudaStatus none = status_of(answer_of(0, 13000, {old, old}));
    expect_reason(none.reason, "compute capability 6.0");
    EXPECT_EQ(none.device_count, 2);
}

TEST(DeviceQuery, ThisMachineAnswersWithASentenceOrADevice) {
    const CudaStatus status = cuda_status();
    std::string why;
    if (device_usable(Device::cuda(), &why)) {
        EXPECT_EQ(status.reason, "");
        EXPECT_EQ(Device::best(), Device::cuda());
    } else {
        EXPECT_FALSE(why.empty());
        EXPECT_EQ(Device::best(), Device::cpu());
        EXPECT_EQ(Device::parse("auto"), Device::cpu());
    }
}

}  // namespace
}  // namespace carousel::test
