// Page-locked slots, over a device whose copies happen late.

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <vector>

#include "src/backend/cuda/pinned_ring.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/queued_device.hpp"

namespace carousel::test {
namespace {

using cuda::PinnedReadback;
using cuda::PinnedRing;

TEST(PinnedRing, HostMemoryCanBeReusedAtOnce) {
    const auto device = std::make_shared<QueuedDevice>();
    PinnedRing ring(device, sizeof(int), 2);
    std::array<int, 2> on_device = {0, 0};
    for (int value : {1, 2}) {
        int host = value;
        ring.upload(device->default_queue(), &on_device[static_cast<std::size_t>(value - 1)], &host,
                    sizeof(host));
        host = -1;
    }
    EXPECT_EQ(on_device[0], 0) << "nothing may have been waited for";
    device->finish();
    EXPECT_EQ(on_device[0], 1);
    EXPECT_EQ(on_device[1], 2);
    EXPECT_EQ(ring.num_waits(), 0U);
    EXPECT_EQ(device->host_waits, 0);
}

TEST(PinnedRing, OnlyAFullRingWaits) {
    const auto device = std::make_shared<QueuedDevice>();
    PinnedRing ring(device, sizeof(int), 3);
    std::vector<int> on_device(10, -1);
    for (int i = 0; i < 3; ++i) {
        ring.upload(device->default_queue(), &on_device[static_cast<std::size_t>(i)], &i,
                    sizeof(i));
    }
    EXPECT_EQ(device->host_waits, 0);
    for (int i = 3; i < 10; ++i) {
        ring.upload(device->default_queue(), &on_device[static_cast<std::size_t>(i)], &i,
                    sizeof(i));
        EXPECT_EQ(device->host_waits, i - 2) << "the oldest slot, and no other, was waited for";
        EXPECT_EQ(on_device[static_cast<std::size_t>(i - 2)], -1);
    }
    EXPECT_EQ(ring.num_waits(), 7U);
    device->finish();
    for (int i = 0; i < 10; ++i) EXPECT_EQ(on_device[static_cast<std::size_t>(i)], i);
    // All slots are free again, which costs no wait to find out.
    const int last = 77;
    for (int i = 0; i < 3; ++i) {
        ring.upload(device->default_queue(), on_device.data(), &last, sizeof(last));
    }
    EXPECT_EQ(ring.num_waits(), 7U);
    device->finish();
}

TEST(PinnedRing, LargeUploadsTakeSeveralSlots) {
    const auto device = std::make_shared<QueuedDevice>();
    PinnedRing ring(device, 8, 2);
    std::vector<unsigned char> host(29), on_device(30, 0xEE);
    std::iota(host.begin(), host.end(), static_cast<unsigned char>(1));
    ring.upload(device->default_queue(), on_device.data(), host.data(), host.size());
    EXPECT_EQ(ring.num_waits(), 2U);  // 4 slots of 2
    device->finish();
    for (std::size_t i = 0; i < host.size(); ++i) EXPECT_EQ(on_device[i], host[i]) << i;
    EXPECT_EQ(on_device[29], 0xEE);
    ring.upload(device->default_queue(), on_device.data(), host.data(), 0);
    EXPECT_TRUE(device->idle());
}

TEST(PinnedRing, DestructorWaitsForCopiesAndReturnsEverything) {
    const auto device = std::make_shared<QueuedDevice>();
    int on_device = 0;
    {
        PinnedRing ring(device, sizeof(int), 4);
        const int value = 5;
        ring.upload(device->default_queue(), &on_device, &value, sizeof(value));
        EXPECT_GT(device->live_blocks(), 0U);
    }
    EXPECT_EQ(on_device, 5);
    EXPECT_EQ(device->live_blocks(), 0U);
    EXPECT_EQ(device->events, 0);
}

TEST(PinnedRing, LostDeviceIsThrownByCallsAndToleratedByTheDestructor) {
    const auto device = std::make_shared<QueuedDevice>();
    auto ring = std::make_unique<PinnedRing>(device, sizeof(int), 2);
    int on_device = 0;
    const int value = 5;
    ring->upload(device->default_queue(), &on_device, &value, sizeof(value));
    device->finish();
    ring->upload(device->default_queue(), &on_device, &value, sizeof(value));
    device->lost = true;
    expect_error(ErrorCode::kDeviceLost, "lost",
                 [&] { ring->upload(device->default_queue(), &on_device, &value, sizeof(value)); });
    EXPECT_NO_THROW(ring.reset());
    EXPECT_EQ(device->events, 0);
    device->lost = false;
}

TEST(PinnedRing, OutOfMemoryLeavesNothingBehind) {
    const auto device = std::make_shared<QueuedDevice>();
    device->memory_limit = 100;
    expect_error(ErrorCode::kOutOfMemory, "101", [&] { PinnedRing(device, 101, 3); });
    EXPECT_EQ(device->live_blocks(), 0U);
    EXPECT_EQ(device->events, 0);
    expect_error(ErrorCode::kInternal, "slots", [&] { PinnedRing(device, 10, 1); });
}

TEST(PinnedReadback, ResultsAreCollectedByTicket) {
    const auto device = std::make_shared<QueuedDevice>();
    PinnedReadback back(device, sizeof(int), 3);
    int on_device = 10;
    const auto first = back.read(device->default_queue(), &on_device, sizeof(int));
    EXPECT_FALSE(back.ready(first));
    EXPECT_EQ(device->host_waits, 0);
    device->finish();
    EXPECT_TRUE(back.ready(first));
    on_device = 20;
    const auto second = back.read(device->default_queue(), &on_device, sizeof(int));
    int host = 0;
    back.collect(second, &host);  // out of order, and waits
    EXPECT_EQ(host, 20);
    EXPECT_EQ(device->host_waits, 1);
    back.collect(first, &host);
    EXPECT_EQ(host, 10);
    EXPECT_EQ(device->host_waits, 1) << "a finished copy is not waited for";
    expect_error(ErrorCode::kInvalidArgument, "once", [&] { back.collect(first, &host); });
    expect_error(ErrorCode::kInvalidArgument, "once", [&] { back.ready(second + 1); });
}

TEST(PinnedReadback, FullRingIsAnErrorNotALoss) {
    const auto device = std::make_shared<QueuedDevice>();
    PinnedReadback back(device, sizeof(int), 2);
    std::array<int, 3> on_device = {1, 2, 3};
    const auto first = back.read(device->default_queue(), &on_device[0], sizeof(int));
    const auto second = back.read(device->default_queue(), &on_device[1], sizeof(int));
    EXPECT_TRUE(back.full());
    expect_error(ErrorCode::kInvalidArgument, "collect",
                 [&] { back.read(device->default_queue(), &on_device[2], sizeof(int)); });
    // A dropped slot is used again, after the copy that was under way.
    back.drop(first);
    EXPECT_FALSE(back.full());
    const auto third = back.read(device->default_queue(), &on_device[2], sizeof(int));
    EXPECT_EQ(device->host_waits, 0);
    int host = 0;
    back.collect(third, &host);
    EXPECT_EQ(host, 3);
    back.collect(second, &host);
    EXPECT_EQ(host, 2);
    expect_error(ErrorCode::kInvalidArgument, "5",
                 [&] { back.read(device->default_queue(), on_device.data(), 5); });
}

}  // namespace
}  // namespace carousel::test
