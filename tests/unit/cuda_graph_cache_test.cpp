// The cache of recorded work, over a device whose work happens late.

#include <gtest/gtest.h>

#include <array>
#include <stdexcept>
#include <vector>

#include "src/backend/cuda/graph_cache.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/queued_device.hpp"

namespace carousel::test {
namespace {

using cuda::GraphCache;
using cuda::GraphKey;
using cuda::Queue;

class GraphCacheTest : public ::testing::Test {
protected:
    ~GraphCacheTest() override { device->finish(); }

    // Work that copies `from` to `to`: `pieces` nodes.
    GraphCache::Enqueue copying(int* target, const int* source, int pieces = 1) {
        return [this, target, source, pieces](Queue q) {
            ++calls;
            for (int piece = 0; piece < pieces; ++piece) {
                device->copy(q, target, source, sizeof(int));
            }
        };
    }
    static std::string key_of(const void* target, const void* source) {
        return GraphKey().add(std::int64_t{7}).add(target).add(source).bytes();
    }
    void warm(GraphCache& cache, const std::string& key, const GraphCache::Enqueue& enqueue) {
        ASSERT_FALSE(cache.run(key, queue, enqueue));
        ASSERT_TRUE(cache.prepare(key, queue, enqueue));
    }

    std::shared_ptr<QueuedDevice> device = std::make_shared<QueuedDevice>();
    Queue queue = device->default_queue();
    int calls = 0;
    int from = 1, to = 0;
};

TEST_F(GraphCacheTest, RunsThenRecordsThenReplays) {
    GraphCache cache(device);
    const std::string key = key_of(&to, &from);
    EXPECT_FALSE(cache.run(key, queue, copying(&to, &from)));
    EXPECT_EQ(device->captures, 0) << "the first run must not be recorded";
    device->finish();
    EXPECT_EQ(to, 1);

    from = 2;
    EXPECT_TRUE(cache.prepare(key, queue, copying(&to, &from)));
    device->finish();
    EXPECT_EQ(to, 1) << "recording must not run the work";
    EXPECT_EQ(calls, 2);

    for (int value = 3; value < 6; ++value) {
        from = value;
        EXPECT_TRUE(cache.run(key, queue, copying(&to, &from)));
        device->finish();
        EXPECT_EQ(to, value) << "a replay sees the present value";
    }
    EXPECT_EQ(calls, 2) << "a replay must not enqueue again";
    EXPECT_EQ(device->graph_launches, 3);
    EXPECT_TRUE(cache.prepare(key, queue, copying(&to, &from)));
    EXPECT_EQ(device->captures, 1) << "prepared once";
}

TEST_F(GraphCacheTest, MovedBuffersNeverReplayStale) {
    GraphCache cache(device);
    warm(cache, key_of(&to, &from), copying(&to, &from));
    device->finish();
    std::array<int, 2> moved = {0, 0};
    from = 9;
    to = 0;
    // Each address on its own makes another key.
    EXPECT_FALSE(cache.run(key_of(&moved[0], &from), queue, copying(&moved[0], &from)));
    device->finish();
    EXPECT_EQ(moved[0], 9);
    EXPECT_EQ(to, 0) << "the graph of the old address ran";
    const int other = 11;
    EXPECT_FALSE(cache.run(key_of(&to, &other), queue, copying(&to, &other)));
    device->finish();
    EXPECT_EQ(to, 11);
    EXPECT_TRUE(cache.run(key_of(&to, &from), queue, copying(&to, &from)));
    device->finish();
    EXPECT_EQ(to, 9) << "moved back, the first graph serves again";
}

TEST_F(GraphCacheTest, KeysTellTheirPartsApart) {
    const auto two = [](const std::string& a, const std::string& b) {
        return GraphKey().add(a).add(b).bytes();
    };
    EXPECT_NE(two("ab", "c"), two("a", "bc"));
    EXPECT_NE(GraphKey().add(std::int64_t{1}).add(std::int64_t{0}).bytes(),
              GraphKey().add(std::int64_t{0}).add(std::int64_t{1}).bytes());
    EXPECT_NE(GraphKey().add(1.0).bytes(), GraphKey().add(2.0).bytes());
    EXPECT_EQ(key_of(&to, &from), key_of(&to, &from));
}

TEST_F(GraphCacheTest, WorkThatFailsWhileRecordedEndsTheRecording) {
    GraphCache cache(device);
    const std::string key = key_of(&to, &from);
    cache.run(key, queue, copying(&to, &from));
    const auto failing = [&](Queue q) {
        device->copy(q, &to, &from, sizeof(int));
        throw std::runtime_error("half way");
    };
    EXPECT_THROW(cache.prepare(key, queue, failing), std::runtime_error);
    EXPECT_EQ(device->open_captures, 0);
    EXPECT_EQ(device->graphs, 0);
    EXPECT_FALSE(cache.holds(key));
    // The queue works on, and a second try is allowed.
    from = 5;
    EXPECT_FALSE(cache.run(key, queue, copying(&to, &from)));
    device->finish();
    EXPECT_EQ(to, 5);
    EXPECT_TRUE(cache.prepare(key, queue, copying(&to, &from)));
}

TEST_F(GraphCacheTest, WorkThatCudaRefusesToRecordRunsPlain) {
    GraphCache cache(device);
    const std::string key = key_of(&to, &from);
    cache.run(key, queue, copying(&to, &from));
    const auto failing = [&](Queue) {
        throw Error(ErrorCode::kCuda, "operation not permitted when stream is capturing");
    };
    EXPECT_FALSE(cache.prepare(key, queue, failing));
    EXPECT_EQ(device->open_captures, 0);
    EXPECT_NE(cache.describe().find("not permitted"), std::string::npos) << cache.describe();
    from = 6;
    EXPECT_FALSE(cache.run(key, queue, copying(&to, &from)));
    device->finish();
    EXPECT_EQ(to, 6);
}

TEST_F(GraphCacheTest, WorkThatFailsAtItsFirstRunIsNotWarm) {
    GraphCache cache(device);
    const auto failing = [](Queue) { throw std::runtime_error("no"); };
    EXPECT_THROW(cache.run("k", queue, failing), std::runtime_error);
    expect_error(ErrorCode::kInvalidArgument, "run", [&] { cache.prepare("k", queue, failing); });
}

TEST_F(GraphCacheTest, PrepareNeedsARunBefore) {
    GraphCache cache(device);
    expect_error(ErrorCode::kInvalidArgument, "before",
                 [&] { cache.prepare("k", queue, copying(&to, &from)); });
    EXPECT_EQ(device->captures, 0);
    EXPECT_EQ(calls, 0);
}

TEST_F(GraphCacheTest, DeviceThatCannotRecordRunsPlain) {
    for (bool QueuedDevice::*fault : {&QueuedDevice::null_graph, &QueuedDevice::fail_end}) {
        GraphCache cache(device);
        const std::string key = key_of(&to, &from);
        cache.run(key, queue, copying(&to, &from));
        (*device).*fault = true;
        EXPECT_FALSE(cache.prepare(key, queue, copying(&to, &from)));
        (*device).*fault = false;
        EXPECT_EQ(device->open_captures, 0);
        EXPECT_NE(cache.describe().find("no graph"), std::string::npos) << cache.describe();
        ++from;
        EXPECT_FALSE(cache.run(key, queue, copying(&to, &from)));
        device->finish();
        EXPECT_EQ(to, from);
    }
}

TEST_F(GraphCacheTest, FailedBeginAndLostDeviceAreThrown) {
    GraphCache cache(device);
    const std::string key = key_of(&to, &from);
    cache.run(key, queue, copying(&to, &from));
    device->finish();
    device->fail_begin = true;
    expect_error(ErrorCode::kCuda, "begin_capture",
                 [&] { cache.prepare(key, queue, copying(&to, &from)); });
    EXPECT_EQ(device->open_captures, 0);
    device->fail_begin = false;
    const auto losing = [&](Queue) { device->lost = true; };
    expect_error(ErrorCode::kDeviceLost, "lost", [&] { cache.prepare(key, queue, losing); });
    EXPECT_EQ(device->open_captures, 0);
    device->lost = false;
}

TEST_F(GraphCacheTest, TooManyNodesRunPlain) {
    GraphCache cache(device);
    const std::string key = key_of(&to, &from);
    cache.run(key, queue, copying(&to, &from));
    device->extra_nodes = cuda::kMaxGraphNodes;  // and the one copy
    EXPECT_FALSE(cache.prepare(key, queue, copying(&to, &from)));
    EXPECT_EQ(device->graphs, 0) << "the refused graph must be released";
    EXPECT_FALSE(cache.prepare(key, queue, copying(&to, &from)));
    EXPECT_EQ(device->captures, 1) << "refused once and for all";
    EXPECT_NE(cache.describe().find("20001 nodes"), std::string::npos) << cache.describe();
    EXPECT_FALSE(cache.run(key, queue, copying(&to, &from)));
    // One node less is taken.
    device->extra_nodes = cuda::kMaxGraphNodes - 1;
    cache.run("other", queue, copying(&to, &from));
    EXPECT_TRUE(cache.prepare("other", queue, copying(&to, &from)));
}

TEST_F(GraphCacheTest, LeastRecentlyUsedGoesFirst) {
    GraphCache cache(device, 30);  // ten bytes a node
    for (const char* key : {"a", "b", "c"}) warm(cache, key, copying(&to, &from));
    EXPECT_EQ(cache.num_graphs(), 3U);
    EXPECT_EQ(cache.bytes(), 30U);
    EXPECT_TRUE(cache.run("a", queue, copying(&to, &from)));  // b is now the oldest
    warm(cache, "d", copying(&to, &from));
    EXPECT_TRUE(cache.holds("a"));
    EXPECT_FALSE(cache.holds("b"));
    EXPECT_TRUE(cache.holds("c"));
    EXPECT_TRUE(cache.holds("d"));
    EXPECT_EQ(device->graphs, 3);
    // Two nodes push out as many as they need.
    warm(cache, "e", copying(&to, &from, 2));
    EXPECT_FALSE(cache.holds("c"));
    EXPECT_FALSE(cache.holds("a"));
    EXPECT_TRUE(cache.holds("d"));
    EXPECT_TRUE(cache.holds("e"));
    EXPECT_EQ(cache.bytes(), 30U);
    EXPECT_EQ(device->graphs, 2);
    // What was pushed out runs plain and can come back.
    warm(cache, "b", copying(&to, &from));
    EXPECT_TRUE(cache.run("b", queue, copying(&to, &from)));
}

TEST_F(GraphCacheTest, GraphLargerThanTheCacheLeavesTheOthersAlone) {
    GraphCache cache(device, 30);
    warm(cache, "a", copying(&to, &from));
    cache.run("big", queue, copying(&to, &from, 4));
    EXPECT_FALSE(cache.prepare("big", queue, copying(&to, &from, 4)));
    EXPECT_TRUE(cache.holds("a"));
    EXPECT_EQ(device->graphs, 1);
    EXPECT_EQ(cache.bytes(), 10U);
}

TEST_F(GraphCacheTest, ManyPlainKeysAreForgottenOldestFirst) {
    GraphCache cache(device);
    warm(cache, "kept", copying(&to, &from));
    cache.run("old", queue, [](Queue) {});
    for (int i = 0; i < 1024; ++i) cache.run(std::to_string(i), queue, [](Queue) {});
    expect_error(ErrorCode::kInvalidArgument, "run",
                 [&] { cache.prepare("old", queue, [](Queue) {}); });
    EXPECT_TRUE(cache.prepare("0", queue, copying(&to, &from)));
    EXPECT_TRUE(cache.holds("kept"));
}

TEST_F(GraphCacheTest, PrintsItselfAndReleasesItsGraphs) {
    {
        GraphCache cache(device, 1000);
        warm(cache, "a", copying(&to, &from, 3));
        cache.run("a", queue, copying(&to, &from, 3));
        cache.run("a", queue, copying(&to, &from, 3));
        const std::string text = cache.describe();
        EXPECT_EQ(text.find("1 graphs, 30 of 1000 bytes\n"), 0U) << text;
        EXPECT_NE(text.find("3 nodes, 30 bytes, replayed 2 times"), std::string::npos) << text;
        EXPECT_EQ(device->graphs, 1);
    }
    EXPECT_EQ(device->graphs, 0);
}

}  // namespace
}  // namespace carousel::test
