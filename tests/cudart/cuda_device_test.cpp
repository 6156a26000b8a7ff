// The device of a card, run over a CUDA runtime and a cuBLASLt that write down what they are told.

#include "src/backend/cuda/runtime/cuda_device.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "src/backend/cuda/graph_cache.hpp"
#include "src/backend/cuda/pinned_ring.hpp"
#include "tests/cudart/runtime_fixture.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

using cuda::Launch;
using cuda::Queue;

class RuntimeDevice : public RuntimeTest {};

__attribute__((noinline)) void kernel(int) {}

Launch launch_of(int value) {
    Launch launch = cuda::make_launch("some_kernel", &kernel, value, {3, 2, 1}, {64, 1, 1});
    return launch;
}

TEST_F(RuntimeDevice, OpensAndClosesOnItsOwnDevice) {
    EXPECT_NE(fake.find("cudaMemPoolCreate 1"), -1);
    EXPECT_NE(
        fake.find("cudaMemPoolSetAttribute " + std::to_string(cudaMemPoolAttrReleaseThreshold) +
                  " " + std::to_string(UINT64_MAX)),
        -1);
    EXPECT_EQ(fake.count("cudaStreamCreateWithFlags 1"), 2) << "both non-blocking";
    EXPECT_EQ(fake.count("cudaStreamCreateWithFlags 0"), 0);
    EXPECT_EQ(*device->status_word(), 0U);
    EXPECT_EQ(fake.current_device, 0) << "the caller's device";
    const int creates = lt.creates;
    device.reset();
    EXPECT_EQ(lt.destroys, creates);
    EXPECT_EQ(lt.live_objects, 0);
    EXPECT_EQ(fake.pools, 0);
    EXPECT_TRUE(fake.device_blocks.empty());
    EXPECT_EQ(fake.count("cudaStreamDestroy"), 2);
    EXPECT_EQ(fake.current_device, 0);
}

TEST_F(RuntimeDevice, FailedOpeningLeavesNothing) {
    for (const char* call :
         {"cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cudaMemPoolCreate",
          "cudaMemPoolSetAttribute", "cudaMallocFromPoolAsync", "cudaMemsetAsync"}) {
        device.reset();
        fake.log.clear();
        fake.fail_once[call] = cudaErrorInvalidValue;
        expect_error(ErrorCode::kCuda, call, [&] { device = make_device(); });
        EXPECT_EQ(fake.pools, 0) << call;
        EXPECT_TRUE(fake.device_blocks.empty()) << call;
        EXPECT_EQ(fake.current_device, 0) << call;
    }
}

TEST_F(RuntimeDevice, MemoryIsUsableWhenItReturns) {
    void* memory = device->allocate(1000, "test");
    const int taken = fake.find("cudaMallocFromPoolAsync");
    ASSERT_NE(taken, -1);
    const std::string stream = word(fake.log[static_cast<std::size_t>(taken)], 1);
    EXPECT_NE(fake.find("cudaStreamSynchronize " + stream, taken), -1);
    EXPECT_NE(stream, default_stream);
    device->release(memory);
}

TEST_F(RuntimeDevice, ReleaseFollowsEveryQueueWithoutWaiting) {
    const Queue other = device->make_queue();
    void* memory = device->allocate(1000, "test");
    fake.log.clear();
    device->release(memory);
    const int freed = fake.find("cudaFreeAsync");
    ASSERT_NE(freed, -1);
    const std::string stream = word(fake.log[static_cast<std::size_t>(freed)], 1);
    int followed = 0;
    for (int i = 0; i < freed; ++i) {
        const std::string& line = fake.log[static_cast<std::size_t>(i)];
        if (word(line, 0) != "cudaEventRecord") continue;
        // Each record is awaited before the event is used again.
        EXPECT_EQ(fake.log[static_cast<std::size_t>(i + 1)],
                  "cudaStreamWaitEvent " + stream + " " + word(line, 1));
        ++followed;
    }
    EXPECT_EQ(followed, 2);
    EXPECT_EQ(fake.count("cudaStreamSynchronize"), 0);
    // What a queue still had to do when it went counts too.
    fake.log.clear();
    device->release_queue(other);
    EXPECT_LT(fake.find("cudaStreamWaitEvent " + stream), fake.find("cudaStreamDestroy"));
    EXPECT_NE(fake.find("cudaStreamWaitEvent " + stream), -1);
}

TEST_F(RuntimeDevice, MemoryThatCannotBeOrderedIsNotHandedOut) {
    void* memory = device->allocate(1000, "test");
    fake.log.clear();
    fake.fail_once["cudaEventRecord"] = cudaErrorInvalidValue;
    device->release(memory);
    EXPECT_EQ(fake.count("cudaFreeAsync"), 0);
    EXPECT_EQ(fake.last_error, cudaSuccess);
}

TEST_F(RuntimeDevice, ReleaseIsPutOffWhileAnythingIsRecorded) {
    void* memory = device->allocate(1000, "test");
    void* pinned = device->allocate_pinned(100, "test");
    const cuda::Event event = device->make_event();
    device->begin_capture(queue);
    fake.log.clear();
    device->release(memory);
    EXPECT_EQ(fake.count("cudaFreeAsync"), 0);
    EXPECT_EQ(fake.count("cudaEventRecord"), 0);
    // Nor does anything else that touches no recorded queue spoil the capture.
    void* more = device->allocate(1000, "test");
    device->release_pinned(pinned);
    device->release_pinned(device->allocate_pinned(100, "test"));
    EXPECT_TRUE(device->done(event));
    device->launch(queue, launch_of(1));
    device->copy(queue, more, memory, 8);
    void* graph = device->end_capture(queue, true);
    ASSERT_NE(graph, nullptr);
    EXPECT_LT(fake.find("cudaStreamEndCapture"), fake.find("cudaFreeAsync"));
    EXPECT_EQ(fake.device_blocks.count(memory), 0U);
    device->release(more);
    device->release_event(event);
    device->release_graph(graph);
    EXPECT_EQ(fake.executables, 0);
    EXPECT_EQ(fake.graphs, 0);
}

TEST_F(RuntimeDevice, ReleaseIsPutOffWhileTheCallerRecordsOurQueue) {
    cudaStream_t callers = nullptr;
    cudaEvent_t fork = nullptr;
    cudaStreamCreateWithFlags(&callers, 0);
    cudaEventCreateWithFlags(&fork, 0);
    void* memory = device->allocate(1000, "test");
    cudaStreamBeginCapture(callers, cudaStreamCaptureModeThreadLocal);
    cudaEventRecord(fork, callers);
    device->wait(queue, {fork});
    fake.log.clear();
    device->release(memory);
    EXPECT_EQ(fake.count("cudaFreeAsync"), 0);
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(callers, &graph), cudaSuccess);
    device->release(device->allocate(10, "test"));
    EXPECT_EQ(fake.count("cudaFreeAsync"), 2);
    EXPECT_EQ(fake.device_blocks.count(memory), 0U);
    cudaGraphDestroy(graph);
    cudaEventDestroy(fork);
    cudaStreamDestroy(callers);
}

TEST_F(RuntimeDevice, OutOfMemoryTriesAgainThenNamesTheSizes) {
    fake.free_bytes = 5000;
    fake.log.clear();
    const std::string sentence = expect_error(ErrorCode::kOutOfMemory, "6000",
                                              [&] { device->allocate(6000, "the workspace"); });
    EXPECT_NE(sentence.find("the workspace"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("5000 of"), std::string::npos) << sentence;
    EXPECT_EQ(fake.count("cudaMallocFromPoolAsync"), 2);
    EXPECT_EQ(fake.count("cudaMemPoolTrimTo"), 1);
    EXPECT_EQ(fake.count("cudaDeviceGraphMemTrim"), 1);
    EXPECT_EQ(fake.last_error, cudaSuccess) << "the caller must not find it";
    expect_error(ErrorCode::kOutOfMemory, "locked",
                 [&] { device->allocate_pinned(6000, "slots"); });
    // A first failure that trimming cures is none.
    fake.fail_once["cudaMallocFromPoolAsync"] = cudaErrorMemoryAllocation;
    void* memory = device->allocate(4000, "test");
    EXPECT_NE(memory, nullptr);
    device->release(memory);
    EXPECT_EQ(fake.current_device, 0);
}

TEST_F(RuntimeDevice, DevicesWithoutPoolsUsePlainMemory) {
    device.reset();
    caps.memory_pools = false;
    device = make_device();
    fake.log.clear();
    void* memory = device->allocate(1000, "test");
    device->begin_capture(device->default_queue());
    device->release(memory);
    EXPECT_EQ(fake.count("cudaFree"), 0);
    EXPECT_NE(device->allocate(10, "test"), nullptr);
    EXPECT_EQ(device->end_capture(device->default_queue(), false), nullptr);
    EXPECT_EQ(fake.count("cudaFree"), 1);
    EXPECT_EQ(fake.count("cudaMalloc"), 2);
    EXPECT_EQ(fake.count("cudaMallocFromPoolAsync"), 0);
}

TEST_F(RuntimeDevice, APoolThatCannotBeMadeIsDoneWithout) {
    device.reset();
    fake.log.clear();
    fake.fail_once["cudaMemPoolCreate"] = cudaErrorNotSupported;
    device = make_device();
    void* memory = device->allocate(1000, "test");
    device->release(memory);
    EXPECT_EQ(fake.count("cudaMallocFromPoolAsync"), 0);
    EXPECT_EQ(fake.device_blocks.count(memory), 0U);
    device.reset();
    EXPECT_EQ(fake.count("cudaStreamDestroy"), fake.count("cudaStreamCreateWithFlags"));
    EXPECT_EQ(fake.count("cudaEventDestroy"), fake.count("cudaEventCreateWithFlags"));
}

TEST_F(RuntimeDevice, LaunchesCarryGeometryAttributesAndArguments) {
    Launch launch = launch_of(42);
    device->launch(queue, launch);
    EXPECT_NE(
        fake.find("cudaLaunchKernelExC " + default_stream + " grid 3,2,1 block 64 shared 0 arg 42"),
        -1);
    EXPECT_EQ(fake.count("cudaFuncSetAttribute"), 0);
    // More than 48 KiB of dynamic shared memory is asked for once, and again for more.
    for (const unsigned shared : {100U << 10, 90U << 10, 100U << 10, 200U << 10}) {
        launch.shared_bytes = shared;
        device->launch(queue, launch);
    }
    EXPECT_EQ(fake.count("cudaFuncSetAttribute " +
                         std::to_string(cudaFuncAttributeMaxDynamicSharedMemorySize)),
              2);
    EXPECT_EQ(fake.count("cudaFuncGetAttributes"), 1);
    launch = launch_of(1);
    launch.cluster = 4;
    launch.cooperative = true;
    device->launch(queue, launch);
    const std::string line = fake.last("cudaLaunchKernelExC");
    EXPECT_NE(line.find("cluster 4 cooperative 1"), std::string::npos) << line;
    const std::string wide =
        "cudaFuncSetAttribute " + std::to_string(cudaFuncAttributeNonPortableClusterSizeAllowed);
    EXPECT_EQ(fake.count(wide), 0);
    launch.cluster = 16;
    device->launch(queue, launch);
    device->launch(queue, launch);
    EXPECT_EQ(fake.count(wide), 1);
    EXPECT_EQ(fake.current_device, 0);
}

TEST_F(RuntimeDevice, FailedLaunchNamesTheKernelAndItsGeometry) {
    fake.fail_once["cudaLaunchKernelExC"] = cudaErrorInvalidConfiguration;
    const std::string sentence =
        expect_error(ErrorCode::kCuda, "some_kernel", [&] { device->launch(queue, launch_of(1)); });
    EXPECT_NE(sentence.find("grid 3x2x1, block 64x1x1"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("cudaErrorInvalidConfiguration"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("cuda:1"), std::string::npos) << sentence;
    EXPECT_EQ(fake.last_error, cudaSuccess);
    EXPECT_EQ(fake.current_device, 0);
    EXPECT_NO_THROW(device->launch(queue, launch_of(1)));
}

TEST_F(RuntimeDevice, LostDeviceAnswersTheSameForEver) {
    void* memory = device->allocate(1000, "test");
    const cuda::Event event = device->make_event();
    const Queue other = device->make_queue();
    cuda::PinnedRing ring(device, 64, 2);
    const int value = 1;
    ring.upload(queue, memory, &value, sizeof(value));
    fake.fail_once["cudaStreamSynchronize"] = cudaErrorIllegalAddress;
    const std::string first = expect_error(ErrorCode::kDeviceLost, "cudaErrorIllegalAddress",
                                           [&] { device->synchronize(queue); });
    EXPECT_NE(first.find("first seen at cudaStreamSynchronize"), std::string::npos) << first;
    fake.log.clear();
    for (const auto& call : std::vector<std::function<void()>>{
             [&] { device->launch(queue, launch_of(1)); },
             [&] { device->copy(queue, memory, memory, 4); },
             [&] { device->allocate(1, "test"); },
             [&] { device->synchronize(queue); },
             [&] { device->done(event); },
             [&] { device->begin_capture(queue); },
             [&] { ring.upload(queue, memory, &value, sizeof(value)); },
         }) {
        EXPECT_EQ(expect_error(ErrorCode::kDeviceLost, "lost", call), first);
    }
    device->release(memory);
    device->release_event(event);
    device->release_queue(other);
    device.reset();
    EXPECT_TRUE(fake.log.empty()) << "nothing may be asked of a dead context: " << fake.log[0];
}

TEST_F(RuntimeDevice, KernelThatDiesIsNamedWhereItWasSeen) {
    fake.fail_once["cudaLaunchKernelExC"] = cudaErrorLaunchFailure;
    expect_error(ErrorCode::kDeviceLost, "some_kernel",
                 [&] { device->launch(queue, launch_of(1)); });
}

TEST_F(RuntimeDevice, WaitingCallsAreRefusedWhileRecordedAndSpoilNothing) {
    int on_device = 0, host = 0;
    device->begin_capture(queue);
    expect_error(ErrorCode::kInvalidArgument, "capture",
                 [&] { device->copy_to_host(&host, &on_device, 4); });
    expect_error(ErrorCode::kInvalidArgument, "synchronize", [&] { device->synchronize(queue); });
    void* graph = device->end_capture(queue, true);
    EXPECT_NE(graph, nullptr);
    device->release_graph(graph);
    EXPECT_EQ(fake.current_device, 0);
}

// CUDA records what any thread enqueues on a recording stream.
TEST_F(RuntimeDevice, OtherThreadsStayOutOfARecording) {
    const auto launched = [&](int value) {
        return fake.find("cudaLaunchKernelExC " + default_stream +
                         " grid 3,2,1 block 64 shared 0 arg " + std::to_string(value));
    };
    const Queue own = device->make_queue();
    device->begin_capture(queue);
    std::jthread shared([&] { device->launch(queue, launch_of(2)); });
    std::jthread waits([&] { device->synchronize(queue); });
    std::jthread records([&] {
        device->begin_capture(queue);
        device->launch(queue, launch_of(3));
        device->end_capture(queue, false);
    });
    std::thread([&] { device->launch(own, launch_of(4)); }).join();  // another queue is free
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    device->launch(queue, launch_of(1));
    void* graph = device->end_capture(queue, true);
    EXPECT_NE(graph, nullptr);
    for (std::jthread* thread : {&shared, &waits, &records}) thread->join();

    const int ended = fake.find("cudaStreamEndCapture");
    EXPECT_LT(launched(1), ended);
    EXPECT_GT(launched(2), ended);
    EXPECT_GT(
        fake.find("cudaStreamSynchronize " + default_stream, fake.find("cudaStreamBeginCapture")),
        ended);
    const int second = fake.find("cudaStreamBeginCapture", ended);
    ASSERT_NE(second, -1) << "the other recording began when this one was over";
    EXPECT_GT(launched(3), second);
    EXPECT_LT(launched(3), fake.find("cudaStreamEndCapture", ended + 1));
    device->release_graph(graph);
    device->release_queue(own);
}

// The caller records a stream of its own in the strictest mode.
TEST_F(RuntimeDevice, GraphsAreMadeAndReleasedWhileTheCallerRecords) {
    cudaStream_t callers = nullptr;
    cudaStreamCreateWithFlags(&callers, 0);
    device->begin_capture(queue);
    void* first = device->end_capture(queue, true);
    cudaStreamBeginCapture(callers, cudaStreamCaptureModeGlobal);
    device->release_graph(first);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(callers, &graph), cudaSuccess);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(callers);
}

TEST_F(RuntimeDevice, CapturesEndOnEveryPath) {
    device->begin_capture(queue);
    EXPECT_NE(fake.find("cudaStreamBeginCapture " + default_stream + " " +
                        std::to_string(cudaStreamCaptureModeThreadLocal)),
              -1);
    EXPECT_EQ(device->end_capture(queue, false), nullptr);
    EXPECT_EQ(fake.graphs, 0);

    device->begin_capture(queue);
    fake.fail_once["cudaStreamEndCapture"] = cudaErrorStreamCaptureInvalidated;
    expect_error(ErrorCode::kCuda, "cudaErrorStreamCaptureInvalidated",
                 [&] { device->end_capture(queue, true); });

    device->begin_capture(queue);
    fake.fail_once["cudaGraphInstantiate"] = cudaErrorMemoryAllocation;
    expect_error(ErrorCode::kOutOfMemory, "graph", [&] { device->end_capture(queue, true); });

    device->begin_capture(queue);
    fake.fail_once["cudaGraphUpload"] = cudaErrorNotSupported;
    expect_error(ErrorCode::kCuda, "cudaGraphUpload", [&] { device->end_capture(queue, true); });

    fake.fail_once["cudaStreamBeginCapture"] = cudaErrorNotSupported;
    expect_error(ErrorCode::kCuda, "cudaStreamBeginCapture", [&] { device->begin_capture(queue); });
    EXPECT_EQ(fake.graphs, 0);
    EXPECT_EQ(fake.executables, 0);
    EXPECT_EQ(fake.last_error, cudaSuccess);
    // None of them left the pool believing that something is recorded.
    fake.log.clear();
    device->release(device->allocate(10, "test"));
    EXPECT_EQ(fake.count("cudaFreeAsync"), 1);
}

TEST_F(RuntimeDevice, GraphsKnowTheirNodesAndTheLimit) {
    const auto record = [&](std::int64_t nodes) {
        fake.nodes_recorded = static_cast<std::size_t>(nodes);
        device->begin_capture(queue);
        return device->end_capture(queue, true);
    };
    void* graph = record(cuda::kMaxGraphNodes);
    EXPECT_EQ(device->graph_nodes(graph), cuda::kMaxGraphNodes);
    EXPECT_GE(device->graph_bytes(graph), static_cast<std::size_t>(cuda::kMaxGraphNodes) * 4096);
    EXPECT_NO_THROW(device->launch_graph(queue, graph));
    EXPECT_EQ(fake.count("cudaGraphLaunch " + default_stream), 1);
    void* large = record(cuda::kMaxGraphNodes + 1);
    EXPECT_EQ(device->graph_nodes(large), cuda::kMaxGraphNodes + 1);
    EXPECT_EQ(fake.executables, 1) << "above the limit nothing is instantiated";
    expect_error(ErrorCode::kInternal, "20001", [&] { device->launch_graph(queue, large); });
    device->release_graph(large);
    device->release_graph(graph);
    EXPECT_EQ(fake.executables, 0);
    // The cache over the device takes it for what it is.
    cuda::GraphCache cache(device);
    cache.run("key", queue, [](Queue) {});
    EXPECT_FALSE(cache.prepare("key", queue, [](Queue) {}));
    EXPECT_EQ(fake.graphs, 0);
}

TEST_F(RuntimeDevice, UnfinishedEventsAreNoError) {
    const cuda::Event event = device->make_event();
    device->record(queue, event);
    fake.fail_once["cudaEventQuery"] = cudaErrorNotReady;
    EXPECT_FALSE(device->done(event));
    EXPECT_EQ(fake.last_error, cudaSuccess);
    EXPECT_TRUE(device->done(event));
    device->wait_on_host(event);
    device->release_event(event);
}

TEST_F(RuntimeDevice, CopiesAreEnqueuedOnTheirQueue) {
    int to[4] = {}, from[4] = {1, 2, 3, 4};
    const Queue other = device->make_queue();
    fake.log.clear();
    device->copy(other, to, from, sizeof(to));
    EXPECT_EQ(fake.count("cudaMemcpyAsync"), 1);
    EXPECT_EQ(fake.count("cudaMemcpyAsync " + default_stream), 0);
    device->copy(other, to, from, 0);
    device->zero(other, to, 0);
    device->copy_2d(other, to, 8, from, 8, 0, 2);
    EXPECT_EQ(fake.count("cudaMemcpyAsync"), 1) << "nothing to do is nothing to enqueue";
    device->copy_2d(other, to, 8, from, 8, 8, 2);  // dense rows are one copy
    EXPECT_EQ(fake.count("cudaMemcpyAsync"), 2);
    device->copy_2d(other, to, 8, from, 8, 4, 2);
    EXPECT_EQ(fake.count("cudaMemcpy2DAsync"), 1);
    EXPECT_NE(fake.last("cudaMemcpy2DAsync").find("4x2"), std::string::npos);
    fake.log.clear();
    device->copy_to_host(to, from, sizeof(to));
    EXPECT_EQ(to[3], 4);
    EXPECT_LT(fake.find("cudaMemcpyAsync " + default_stream),
              fake.find("cudaStreamSynchronize " + default_stream));
    device->release_queue(other);
}

}  // namespace
}  // namespace carousel::test
