// Algorithms of products chosen by timing, over a cuBLASLt whose candidates take as long as they are
// told to.

#include <cublasLt.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "carousel/gemm_tuning.hpp"
#include "src/backend/cuda/gemm_choice.hpp"
#include "tests/cudart/runtime_fixture.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

using cuda::GemmArgs;

class GemmTuningTest : public RuntimeTest {
protected:
    GemmTuningTest() {
        fake.clock_us = &lt.clock_us;
        lt.computes = true;
        costs({10, 12, 7, 9});
        cuda::install_device_api(1, device);
    }
    ~GemmTuningTest() override { cuda::install_device_api(1, nullptr); }

    // Microseconds of the heuristic's candidates, its first in front.
    void costs(const std::vector<double>& us) {
        lt.num_algos = static_cast<int>(us.size());
        std::copy(us.begin(), us.end(), lt.cost_us);
    }
    // C [24,16] = A [24,32] x B [32,16] in f32, in columns of 28.
    GemmArgs product() {
        GemmArgs g;
        g.m = g.lda = 24;
        g.n = 16;
        g.k = g.ldb = 32;
        g.ldc = 28;
        g.a = a.data();
        g.b = b.data();
        g.c = c.data();
        g.workspace = workspace.data();
        g.workspace_bytes = workspace.size();
        return g;
    }
    // Index of the algorithm that the caller's result was last made by.
    int used() const {
        return static_cast<int>(lt.products.back().algo - FakeCublasLt::kFirstAlgo);
    }
    int run(const GemmArgs& g) {
        device->gemm(queue, g);
        EXPECT_EQ(lt.products.back().stream, queue.native);
        EXPECT_EQ(lt.products.back().d, g.c);
        return used();
    }
    // A process that begins anew: another device object.
    void restart_device() {
        cuda::install_device_api(1, nullptr);
        device = make_device();
        queue = device->default_queue();
        cuda::install_device_api(1, device);
    }

    const Device card = Device::cuda(1);
    std::vector<float> a = std::vector<float>(4096), b = a, c = a;
    std::vector<std::byte> workspace = std::vector<std::byte>(4096);
};

TEST_F(GemmTuningTest, OffNothingIsTimed) {
    EXPECT_FALSE(gemm_tuning(card));
    EXPECT_EQ(run(product()), 0);
    EXPECT_EQ(lt.wanted, 1);
    EXPECT_EQ(lt.heuristics, 1);
    EXPECT_EQ(lt.matmuls, 1);
    EXPECT_EQ(lt.checks, 0);
    EXPECT_EQ(fake.count("cudaStreamIsCapturing"), 0);
    EXPECT_NE(gemm_choices(card).find("choices 0\n"), std::string::npos);
}

TEST_F(GemmTuningTest, AProductWhoseBiasIsAddedApartIsTimedWithoutIt) {
    lt.no_bias = true;
    set_gemm_tuning(card, true);
    GemmArgs g = product();
    g.bias = a.data();
    EXPECT_EQ(run(g), 2);
    EXPECT_EQ(added_biases().size(), 1U);
    const int before = lt.matmuls;
    EXPECT_EQ(run(g), 2);
    EXPECT_EQ(lt.matmuls, before + 1);
    EXPECT_EQ(added_biases().size(), 2U);
}

TEST_F(GemmTuningTest, FastestIsTakenAndKept) {
    set_gemm_tuning(card, true);
    EXPECT_TRUE(gemm_tuning(card));
    EXPECT_EQ(run(product()), 2);
    EXPECT_EQ(lt.wanted, 8);
    std::set<unsigned long> tried;
    for (const auto& one : lt.products) tried.insert(one.algo);
    EXPECT_EQ(tried.size(), 4U);
    const int before = lt.matmuls;
    costs({1, 12, 7, 9});  // too late for this product
    EXPECT_EQ(run(product()), 2);
    EXPECT_EQ(lt.matmuls, before + 1);
    // Another product is another question.
    GemmArgs other = product();
    other.n = 8;
    EXPECT_EQ(run(other), 0);
    // Off again, what was chosen stays, and what is new is not timed.
    set_gemm_tuning(card, false);
    costs({5, 1});
    EXPECT_EQ(run(product()), 2);
    other.n = 9;
    EXPECT_EQ(run(other), 0);
}

TEST_F(GemmTuningTest, ProductUsedBeforeTuningWasOnIsTimed) {
    EXPECT_EQ(run(product()), 0);
    set_gemm_tuning(card, true);
    EXPECT_EQ(run(product()), 2);
}

TEST_F(GemmTuningTest, LittleGainLeavesTheFirst) {
    set_gemm_tuning(card, true);
    costs({100, 98, 97.1});
    EXPECT_EQ(run(product()), 0);
    costs({100, 98, 96.9});
    GemmArgs other = product();
    other.n = 8;
    EXPECT_EQ(run(other), 2);
}

TEST_F(GemmTuningTest, CallersResultIsMadeOnceWithItsBeta) {
    set_gemm_tuning(card, true);
    std::fill(c.begin(), c.end(), 5.0F);
    GemmArgs g = product();
    g.beta = 1.0;
    g.alpha = 2.0;
    EXPECT_EQ(run(g), 2);
    EXPECT_EQ(c[0], 5.0F + 2.0F * 1002.0F);
    EXPECT_EQ(std::count(c.begin(), c.end(), 5.0F), 4095);
    EXPECT_EQ(lt.beta, 1.0);
    const std::size_t last = lt.products.size() - 1;
    for (std::size_t i = 0; i < last; ++i) {
        EXPECT_NE(lt.products[i].stream, queue.native);
        EXPECT_EQ(lt.products[i].c, lt.products[i].d);
        // At the same alignment, outside the caller's result.
        const auto scratch = reinterpret_cast<std::uintptr_t>(lt.products[i].d);
        const auto callers = reinterpret_cast<std::uintptr_t>(g.c);
        EXPECT_EQ(scratch % 256, callers % 256);
        EXPECT_TRUE(scratch >= callers + c.size() * 4 || scratch < callers);
    }
}

TEST_F(GemmTuningTest, BiasIsThatOfTheCall) {
    set_gemm_tuning(card, true);
    GemmArgs g = product();
    g.bias = a.data() + 1;  // at 4 bytes: copied into the workspace
    const auto start = static_cast<int>(fake.log.size());
    EXPECT_EQ(run(g), 2);
    EXPECT_EQ(lt.epilogue, CUBLASLT_EPILOGUE_BIAS);
    EXPECT_GE(lt.bias, static_cast<const void*>(workspace.data()));
    EXPECT_LT(lt.bias, static_cast<const void*>(workspace.data() + workspace.size()));
    const int copied = fake.find("cudaMemcpyAsync " + default_stream, start);
    EXPECT_GE(copied, 0);
    EXPECT_LT(copied, fake.find("cudaStreamSynchronize " + default_stream, start))
        << "timed before the copy was there";
}

TEST_F(GemmTuningTest, WaitsForTheQueueFirstAndLeavesNothingBehind) {
    run(product());
    set_gemm_tuning(card, true);
    const std::size_t blocks = fake.device_blocks.size();
    const auto start = static_cast<int>(fake.log.size());
    GemmArgs g = product();
    g.n = 8;
    run(g);
    EXPECT_EQ(fake.device_blocks.size(), blocks);
    const auto in_call = [&](const std::string& text) { return fake.find(text, start); };
    EXPECT_LT(in_call("cudaStreamSynchronize " + default_stream), in_call("cudaEventRecord"));
    EXPECT_GE(in_call("cudaStreamSynchronize " + default_stream), 0);
    EXPECT_GE(in_call("cudaStreamDestroy"), 0);
    int created = 0, destroyed = 0;
    for (std::size_t i = static_cast<std::size_t>(start); i < fake.log.size(); ++i) {
        created += fake.log[i].rfind("cudaEventCreate", 0) == 0 ? 1 : 0;
        destroyed += fake.log[i].rfind("cudaEventDestroy", 0) == 0 ? 1 : 0;
    }
    EXPECT_EQ(created, 2);
    EXPECT_EQ(destroyed, 2);
}

TEST_F(GemmTuningTest, NotWhileRecording) {
    set_gemm_tuning(card, true);
    device->begin_capture(queue);
    EXPECT_EQ(run(product()), 0);
    EXPECT_EQ(lt.matmuls, 1) << "only the product itself is recorded";
    void* graph = device->end_capture(queue, true);
    ASSERT_NE(graph, nullptr);
    device->release_graph(graph);
    EXPECT_NE(gemm_choices(card).find("choices 0\n"), std::string::npos);
    EXPECT_EQ(run(product()), 2) << "the first use outside the capture";
}

TEST_F(GemmTuningTest, OtherQueuesMayRecordMeanwhile) {
    set_gemm_tuning(card, true);
    const cuda::Queue other = device->make_queue();
    device->begin_capture(other);
    EXPECT_EQ(run(product()), 2);
    void* graph = device->end_capture(other, true);
    EXPECT_NE(graph, nullptr) << "timing broke the recording";
    device->release_graph(graph);
    device->release_queue(other);
}

TEST_F(GemmTuningTest, CandidatesThatDoNotRunAreLeftOut) {
    set_gemm_tuning(card, true);
    lt.refused = {FakeCublasLt::kFirstAlgo + 2};
    EXPECT_EQ(run(product()), 3);
    // A single one needs no timing, and is a choice all the same.
    costs({10});
    GemmArgs other = product();
    other.n = 8;
    const int before = lt.matmuls;
    EXPECT_EQ(run(other), 0);
    EXPECT_EQ(lt.matmuls, before + 1);
    EXPECT_NE(gemm_choices(card).find("choices 2\n"), std::string::npos);
}

TEST_F(GemmTuningTest, WithoutRoomTheFirstServes) {
    set_gemm_tuning(card, true);
    fake.free_bytes = 1024;  // the result takes 1,792
    EXPECT_EQ(run(product()), 0);
    EXPECT_EQ(lt.matmuls, 1);
    fake.free_bytes = std::size_t{1} << 30;
    EXPECT_EQ(run(product()), 0) << "not tried again at every call";
    set_gemm_tuning(card, true);
    EXPECT_EQ(run(product()), 2);
}

TEST_F(GemmTuningTest, LostDeviceIsReportedAndNothingChosen) {
    set_gemm_tuning(card, true);
    fake.fail_once["cudaEventSynchronize"] = cudaErrorIllegalAddress;
    expect_error(ErrorCode::kDeviceLost, "cudaErrorIllegalAddress",
                 [&] { device->gemm(queue, product()); });
    EXPECT_NE(gemm_choices(card).find("choices 0\n"), std::string::npos);
    fake.last_error = cudaSuccess;
}

TEST_F(GemmTuningTest, ProductThatMeetsADeadContextIsNotARefusal) {
    set_gemm_tuning(card, true);
    lt.fail_matmul = CUBLAS_STATUS_EXECUTION_FAILED;
    fake.fail_once["cudaMemGetInfo"] = cudaErrorIllegalAddress;
    expect_error(ErrorCode::kDeviceLost, "cudaErrorIllegalAddress",
                 [&] { device->gemm(queue, product()); });
    EXPECT_NE(gemm_choices(card).find("choices 0\n"), std::string::npos);
}

TEST_F(GemmTuningTest, StoredChoicesAreUsedWithoutTiming) {
    set_gemm_tuning(card, true);
    run(product());
    GemmArgs other = product();
    other.n = 8;
    run(other);
    const std::string text = gemm_choices(card);
    restart_device();
    costs({1, 12, 7, 9});  // timing would say otherwise
    load_gemm_choices(card, text);
    EXPECT_EQ(gemm_choices(card), text);
    EXPECT_FALSE(gemm_tuning(card));
    const int before = lt.matmuls, asked = lt.heuristics;
    EXPECT_EQ(run(product()), 2);
    EXPECT_EQ(run(other), 2);
    set_gemm_tuning(card, true);
    EXPECT_EQ(run(product()), 2);
    EXPECT_EQ(lt.matmuls, before + 3);
    EXPECT_EQ(lt.heuristics, asked);
    EXPECT_EQ(lt.checks, 2) << "once per product";
}

TEST_F(GemmTuningTest, LoadingReplacesWhatWasChosen) {
    set_gemm_tuning(card, true);
    run(product());
    const std::string text = gemm_choices(card);
    restart_device();
    costs({10, 12, 17, 5});
    EXPECT_EQ(run(product()), 0);
    set_gemm_tuning(card, true);
    EXPECT_EQ(run(product()), 3);
    load_gemm_choices(card, text);
    EXPECT_EQ(run(product()), 2);
}

TEST_F(GemmTuningTest, ChoiceThatTheLibraryRejectsFallsBack) {
    set_gemm_tuning(card, true);
    run(product());
    const std::string text = gemm_choices(card);
    const auto loaded = [&] {
        restart_device();
        load_gemm_choices(card, text);
    };
    loaded();
    costs({10, 9});  // the third is gone
    EXPECT_EQ(run(product()), 0);
    EXPECT_NE(gemm_choices(card).find("choices 0\n"), std::string::npos);
    loaded();
    costs({10, 9});
    set_gemm_tuning(card, true);
    EXPECT_EQ(run(product()), 1) << "timed anew";
    loaded();
    costs({10, 12, 7, 9});
    lt.check_workspace = workspace.size() + 1;
    EXPECT_EQ(run(product()), 0) << "needs more workspace than there is";
}

TEST_F(GemmTuningTest, TextOfAnotherPlaceIsRefused) {
    set_gemm_tuning(card, true);
    run(product());
    const std::string text = gemm_choices(card);
    caps.name = "Another Card";
    restart_device();
    expect_error(ErrorCode::kInvalidArgument, "line 2",
                 [&] { load_gemm_choices(card, text, "choices.txt"); });
    caps = cuda::known_device("h100");
    lt.version = 130200;
    restart_device();
    const std::string sentence = expect_error(ErrorCode::kInvalidArgument, "line 3", [&] {
        load_gemm_choices(card, text, "choices.txt");
    });
    EXPECT_NE(sentence.find("choices.txt"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("130200"), std::string::npos) << sentence;
    EXPECT_EQ(run(product()), 0) << "nothing was taken";
}

TEST_F(GemmTuningTest, TheCpuHasNoChoice) {
    expect_error(ErrorCode::kUnsupported, "cpu", [] { set_gemm_tuning(Device::cpu(), true); });
    expect_error(ErrorCode::kUnsupported, "cpu", [] { gemm_choices(Device::cpu()); });
}

}  // namespace
}  // namespace carousel::test
