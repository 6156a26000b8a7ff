#include <string>

#include "tests/gpu/card.hpp"

#if defined(CAROUSEL_HAS_CUPTI_HEADERS)
#include <cuda_runtime_api.h>
#include <cupti.h>

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "src/backend/cuda/graph_cache.hpp"
#include "src/train/lm_trainer.hpp"
#include "tests/gpu/loaded_library.hpp"
#include "tests/support/device_pass.hpp"
#include "tests/train/train_support.hpp"
#endif

// What a pass asks of CUDA, counted by CUPTI: once warm it neither waits for the device nor allocates,
// enqueued plainly or replayed.

namespace carousel::test {
namespace {

class GpuCalls : public OnCard {};

#if defined(CAROUSEL_HAS_CUPTI_HEADERS)

struct Cupti {
    Cupti() {
        loaded.find("cuptiSubscribe", subscribe);
        loaded.find("cuptiUnsubscribe", unsubscribe);
        loaded.find("cuptiEnableDomain", enable);
    }
    LoadedLibrary loaded{"libcupti.so." + std::to_string(CUDART_VERSION / 1000), "libcupti.so"};
    decltype(cuptiSubscribe)* subscribe = nullptr;
    decltype(cuptiUnsubscribe)* unsubscribe = nullptr;
    decltype(cuptiEnableDomain)* enable = nullptr;
};

/// Counts runtime and driver calls by name, and completed waits, while it lives.
class CallCounter {
public:
    explicit CallCounter(const Cupti& cupti) : cupti_(cupti) {
        const auto callback = reinterpret_cast<CUpti_CallbackFunc>(&CallCounter::called);
        ok_ = cupti_.subscribe(&subscriber_, callback, this) == CUPTI_SUCCESS;
        for (const CUpti_CallbackDomain domain :
             {CUPTI_CB_DOMAIN_RUNTIME_API, CUPTI_CB_DOMAIN_DRIVER_API,
              CUPTI_CB_DOMAIN_SYNCHRONIZE}) {
            ok_ = ok_ && cupti_.enable(1, subscriber_, domain) == CUPTI_SUCCESS;
        }
    }
    ~CallCounter() {
        if (subscriber_ != nullptr) cupti_.unsubscribe(subscriber_);
    }
    CallCounter(const CallCounter&) = delete;
    CallCounter& operator=(const CallCounter&) = delete;

    bool ok() const { return ok_; }
    std::map<std::string, int> calls() const {
        const std::lock_guard lock(mutex_);
        return calls_;
    }
    int waits() const {
        const std::lock_guard lock(mutex_);
        return waits_;
    }
    /// Calls whose name holds `part`.
    int matching(const std::string& part) const {
        int count = 0;
        for (const auto& [name, times] : calls()) {
            if (name.find(part) != std::string::npos) count += times;
        }
        return count;
    }

private:
    static void CUPTIAPI called(void* counter, CUpti_CallbackDomain domain, CUpti_CallbackId,
                                const void* data) {
        auto& self = *static_cast<CallCounter*>(counter);
        const std::lock_guard lock(self.mutex_);
        if (domain == CUPTI_CB_DOMAIN_SYNCHRONIZE) {
            ++self.waits_;
            return;
        }
        const auto* call = static_cast<const CUpti_CallbackData*>(data);
        if (call->callbackSite == CUPTI_API_ENTER) ++self.calls_[call->functionName];
    }

    const Cupti& cupti_;
    CUpti_SubscriberHandle subscriber_ = nullptr;
    bool ok_ = false;
    mutable std::mutex mutex_;
    std::map<std::string, int> calls_;
    int waits_ = 0;
};

std::string listing(const std::map<std::string, int>& calls) {
    std::string text;
    for (const auto& [name, times] : calls)
        text += "  " + name + " " + std::to_string(times) + "\n";
    return text;
}

void expect_only_enqueued(const CallCounter& counter) {
    EXPECT_EQ(counter.waits(), 0) << listing(counter.calls());
    for (const char* part : {"Synchronize", "Malloc", "MemAlloc", "Free", "EventQuery"}) {
        EXPECT_EQ(counter.matching(part), 0) << part << "\n" << listing(counter.calls());
    }
}

const Cupti& cupti() {
    static const Cupti once;
    return once;
}

TEST_F(GpuCalls, APassOnlyEnqueues) {
    if (!cupti().loaded.loaded()) GTEST_SKIP() << "no CUPTI: " << cupti().loaded.reason();
    const auto api = cuda::device_api(0);
    const cuda::Queue queue = api->default_queue();
    for (const char* text : {"lstm T24 N16 I32 H64 L3 lengths reset dropout=0.3 f32",
                             "gru T20 N8 I16 H32 L2 D2 bf16"}) {
        SCOPED_TRACE(text);
        const ShapeLine line = parse_shape_line(text);
        RnnRun run(line, make_rnn_data_with_dropout(line), kCard);
        run.training_and_backward();
        const auto enqueue = [&](cuda::Queue on) {
            run.forward_args.stream.native = run.backward_args.stream.native = on.native;
            forward_training(run.plan, run.forward_args);
            backward(run.plan, run.backward_args);
        };
        cuda::GraphCache cache(api);
        ASSERT_FALSE(cache.run("step", queue, enqueue));
        synchronize(kCard);
        {
            const CallCounter counter(cupti());
            if (!counter.ok()) GTEST_SKIP() << "CUPTI refuses to count calls on this machine";
            enqueue(queue);
            expect_only_enqueued(counter);
            EXPECT_GT(counter.matching("Launch"), 0) << listing(counter.calls());
        }
        ASSERT_TRUE(cache.prepare("step", queue, enqueue)) << cache.describe();
        synchronize(kCard);
        {
            const CallCounter counter(cupti());
            ASSERT_TRUE(counter.ok());
            for (int step = 0; step < 3; ++step) ASSERT_TRUE(cache.run("step", queue, enqueue));
            expect_only_enqueued(counter);
            // One call of the runtime and one of the driver below it at most.
            EXPECT_LE(counter.matching("GraphLaunch"), 2 * 3) << listing(counter.calls());
            EXPECT_EQ(counter.matching("LaunchKernel"), 0) << listing(counter.calls());
        }
        synchronize(kCard);
    }
}

// A whole update of a language model: ids and scalars go up through pinned slots, the rest is one graph.
TEST_F(GpuCalls, AReplayedTrainingStepOnlyEnqueues) {
    if (!cupti().loaded.loaded()) GTEST_SKIP() << "no CUPTI: " << cupti().loaded.reason();
    train::LmConfig config = small_lm(Cell::kLstm, 29);
    config.device = kCard;
    config.hidden_size = 48;
    config.embedding_size = 20;
    config.seq_len = 12;
    config.batch_size = 9;
    config.dropout = 0.2;
    train::LmTrainer trainer(config);
    trainer.model().initialize();
    const std::vector<std::int32_t> ids =
        some_tokens(config.seq_len * config.batch_size + config.batch_size, 29);
    const auto begin = [&] {
        return trainer.begin_step(ids.data(), ids.data() + config.batch_size, config.seq_len,
                                  false);
    };
    for (int warm = 0; warm < 4; ++warm) trainer.finish_step(begin());
    synchronize(kCard);
    {
        const CallCounter counter(cupti());
        if (!counter.ok()) GTEST_SKIP() << "CUPTI refuses to count calls on this machine";
        auto first = begin();
        auto second = begin();
        EXPECT_EQ(counter.waits(), 0) << listing(counter.calls());
        for (const char* part : {"Synchronize", "Malloc", "MemAlloc", "Free"}) {
            EXPECT_EQ(counter.matching(part), 0) << part << "\n" << listing(counter.calls());
        }
        EXPECT_GT(counter.matching("GraphLaunch"), 0) << listing(counter.calls());
        EXPECT_EQ(counter.matching("LaunchKernel"), 0) << listing(counter.calls());
        trainer.finish_step(std::move(first));
        trainer.finish_step(std::move(second));
    }
}

// That the counter sees what it is there to see.
TEST_F(GpuCalls, TheCounterSeesAWait) {
    if (!cupti().loaded.loaded()) GTEST_SKIP() << "no CUPTI: " << cupti().loaded.reason();
    cuda::device_api(0);
    const CallCounter counter(cupti());
    if (!counter.ok()) GTEST_SKIP() << "CUPTI refuses to count calls on this machine";
    synchronize(kCard);
    EXPECT_GT(counter.waits() + counter.matching("Synchronize"), 0) << listing(counter.calls());
}

#else

TEST_F(GpuCalls, APassOnlyEnqueues) {
    GTEST_SKIP() << "this program was compiled without CUPTI's headers";
}

#endif

}  // namespace
}  // namespace carousel::test
