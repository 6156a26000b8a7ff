#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "src/backend/cuda/graph_cache.hpp"
#include "tests/gpu/card.hpp"
#include "tests/support/device_pass.hpp"

// Recorded passes on a card: a replay is the direct run, bit for bit, with the lengths, masks and keys
// that device memory holds by then, at the addresses it was recorded with and no others.

namespace carousel::test {
namespace {

using cuda::GraphCache;
using cuda::GraphKey;
using cuda::Queue;

/// A pass whose data can be exchanged without moving a buffer.
class ReplayedRun {
public:
    ReplayedRun(const ShapeLine& line, Algorithm algorithm)
        : key_(2 * sizeof(std::uint64_t), kCard, "dropout key"),
          data_(make_rnn_data_with_dropout(line)),
          run_(line, data_, kCard, algorithm) {
        run_.forward_args.dropout_key = static_cast<const std::uint64_t*>(key_.data());
        assign(data_);
    }

    /// Other values for every tensor, length, mask and key, in the memory that there is.
    void assign(const RnnData& data) {
        const reference::Problem& p = data.problem;
        set(run_.x, p.x);
        set(run_.hx, p.hx);
        set(run_.cx, p.cx);
        set(run_.dy, data.dy);
        set(run_.dhy, data.dhy);
        set(run_.dcy, data.dcy);
        for (std::size_t s = 0; s < run_.weights.size(); ++s) {
            LayerTensors& to = run_.weights[s];
            const reference::Weights& from = p.weights[s];
            set(to.w_ih, from.w_ih);
            set(to.w_hh, from.w_hh);
            set(to.b_ih, from.b_ih);
            set(to.b_hh, from.b_hh);
            set(to.w_hr, from.w_hr);
        }
        run_.lengths = p.lengths;
        run_.reset = p.reset;
        const auto copy = [](const void* to, const auto& values) {
            if (to == nullptr) return;
            copy_to_device(const_cast<void*>(to), values.data(),
                           values.size() * sizeof(values.front()), kCard);
        };
        copy(run_.forward_args.mask.lengths, run_.lengths);
        copy(run_.forward_args.mask.reset, run_.reset);
        const std::vector<std::uint64_t> key = {data.dropout_seed, data.dropout_step};
        copy(key_.data(), key);
    }

    /// Forward and backward on `queue`, nothing but enqueued.
    GraphCache::Enqueue enqueue() {
        return [this](Queue queue) {
            run_.forward_args.stream.native = run_.backward_args.stream.native = queue.native;
            forward_training(run_.plan, run_.forward_args);
            backward(run_.plan, run_.backward_args);
        };
    }

    std::string key() const {
        const RnnForwardArgs& f = run_.forward_args;
        const RnnBackwardArgs& b = run_.backward_args;
        GraphKey key;
        key.add(run_.line.text).add(f.seq_len).add(f.batch_size);
        for (const void* address :
             {f.x.data, f.hx.data, f.cx.data, static_cast<const void*>(f.y.data),
              static_cast<const void*>(f.workspace), static_cast<const void*>(f.reserve),
              static_cast<const void*>(f.mask.lengths), static_cast<const void*>(f.mask.reset),
              b.dy.data, static_cast<const void*>(b.dx.data)}) {
            key.add(address);
        }
        return key.bytes();
    }

    /// What `work` leaves behind, started from fresh inputs.
    template <class Work>
    NamedTensors results(const Work& work) {
        run_.upload();
        work();
        run_.download();
        NamedTensors all = run_.forward_results();
        all.merge(run_.backward_results());
        return all;
    }

    RnnRun& run() { return run_; }

private:
    static void set(HostTensor& tensor, const std::vector<double>& values) {
        if (tensor.defined()) tensor.set(values);
    }

    Buffer key_;
    RnnData data_;
    RnnRun run_;
};

ShapeLine with_seed(const ShapeLine& line, std::uint64_t seed) {
    ShapeLine other = line;
    other.seed = seed;
    return other;
}

class GpuGraph : public OnCard {
protected:
    void SetUp() override {
        OnCard::SetUp();
        if (IsSkipped()) return;
        api_ = cuda::device_api(0);
        queue_ = api_->default_queue();
    }

    std::shared_ptr<cuda::DeviceApi> api_;
    Queue queue_{};
};

constexpr const char* kLines[] = {"lstm T12 N6 I7 H16 L3 lengths reset dropout=0.3 f32",
                                  "gru T9 N33 I20 H40 L2 D2 lengths dropout=0.2 f64",
                                  "gru_reset_before T8 N5 I6 H24 L2 reset f32",
                                  "lstm T10 N16 I32 H64 L2 P24 lengths reset bf16"};

TEST_F(GpuGraph, ReplaySeesNewDataMasksAndKeys) {
    for (const char* text : kLines) {
        const ShapeLine line = parse_shape_line(text);
        for (const Algorithm algorithm : device_algorithms(line.spec)) {
            SCOPED_TRACE(std::string(text) + ", " + algorithm_name(algorithm));
            ReplayedRun replayed(line, algorithm);
            GraphCache cache(api_);
            const std::string key = replayed.key();
            const auto run = [&] { return cache.run(key, queue_, replayed.enqueue()); };
            EXPECT_FALSE(run());
            ASSERT_TRUE(cache.prepare(key, queue_, replayed.enqueue())) << cache.describe();
            for (const std::uint64_t seed : {line.seed, line.seed + 10, line.seed + 20}) {
                const ShapeLine other = with_seed(line, seed);
                const RnnData data = make_rnn_data_with_dropout(other);
                replayed.assign(data);
                const NamedTensors replay = replayed.results([&] { EXPECT_TRUE(run()); });
                RnnRun direct(other, data, kCard, algorithm);
                expect_same_bits(replay, direct.training_and_backward());
                expect_close(replay, reference_for(line, data, replay),
                             device_tolerance(line.spec.dtype, line.seq_len));
            }
        }
    }
}

TEST_F(GpuGraph, MovedBuffersAreNotReplayed) {
    const ShapeLine line = parse_shape_line("lstm T7 N4 I5 H8 L2 f32");
    GraphCache cache(api_);
    ReplayedRun first(line, Algorithm::kStepwise);
    EXPECT_FALSE(cache.run(first.key(), queue_, first.enqueue()));
    ASSERT_TRUE(cache.prepare(first.key(), queue_, first.enqueue())) << cache.describe();

    ReplayedRun moved(line, Algorithm::kStepwise);
    const ShapeLine other = with_seed(line, 77);
    const RnnData data = make_rnn_data_with_dropout(other);
    moved.assign(data);
    EXPECT_FALSE(cache.holds(moved.key()));
    const NamedTensors results =
        moved.results([&] { EXPECT_FALSE(cache.run(moved.key(), queue_, moved.enqueue())); });
    expect_close(results, reference_all(data), device_tolerance(DType::kF32, line.seq_len));
    EXPECT_TRUE(cache.holds(first.key()));
}

TEST_F(GpuGraph, TooManyNodesRunsPlainly) {
    const ShapeLine line = parse_shape_line("rnn_tanh T30000 N1 I2 H3 f32");
    GraphCache cache(api_);
    ReplayedRun run(line, Algorithm::kStepwise);
    EXPECT_FALSE(cache.run(run.key(), queue_, run.enqueue()));
    EXPECT_FALSE(cache.prepare(run.key(), queue_, run.enqueue()));
    EXPECT_NE(cache.describe().find("nodes"), std::string::npos) << cache.describe();
    EXPECT_FALSE(cache.run(run.key(), queue_, run.enqueue()));
    EXPECT_NO_THROW(synchronize(kCard));
}

// --- recorded by a caller, on a stream of its own, in the strictest mode

/// A stream of the caller's, and what it recorded there.
struct CallersStream {
    CallersStream() {
        EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    }
    ~CallersStream() {
        if (executable != nullptr) cudaGraphExecDestroy(executable);
        if (graph != nullptr) cudaGraphDestroy(graph);
        cudaStreamDestroy(stream);
    }
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
};

TEST_F(GpuGraph, ACallerCanRecordAPass) {
    for (const char* text : kLines) {
        const ShapeLine line = parse_shape_line(text);
        for (const Algorithm algorithm : device_algorithms(line.spec)) {
            SCOPED_TRACE(std::string(text) + ", " + algorithm_name(algorithm));
            ReplayedRun replayed(line, algorithm);
            const GraphCache::Enqueue enqueue = replayed.enqueue();
            const NamedTensors direct = replayed.results([&] { enqueue(queue_); });

            CallersStream own;
            ASSERT_EQ(cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeGlobal), cudaSuccess);
            EXPECT_NO_THROW(enqueue(Queue{own.stream}));
            ASSERT_EQ(cudaStreamEndCapture(own.stream, &own.graph), cudaSuccess);
            ASSERT_EQ(cudaGraphInstantiate(&own.executable, own.graph, 0), cudaSuccess);
            const NamedTensors replay = replayed.results([&] {
                EXPECT_EQ(cudaGraphLaunch(own.executable, own.stream), cudaSuccess);
                EXPECT_EQ(cudaStreamSynchronize(own.stream), cudaSuccess);
            });
            expect_same_bits(replay, direct);
        }
    }
}

// A stream of the caller's runs the same pass as the library's own.
TEST_F(GpuGraph, CallersStreamGivesTheSameBits) {
    const ShapeLine line = parse_shape_line("lstm T20 N8 I16 H32 L3 lengths f32");
    ReplayedRun run(line, Algorithm::kWavefront);
    const GraphCache::Enqueue enqueue = run.enqueue();
    const NamedTensors direct = run.results([&] { enqueue(queue_); });
    CallersStream own;
    const NamedTensors theirs = run.results([&] {
        enqueue(Queue{own.stream});
        EXPECT_EQ(cudaStreamSynchronize(own.stream), cudaSuccess);
    });
    expect_same_bits(theirs, direct);
}

// The caller's current device and its captures are its own affair.
TEST_F(GpuGraph, CurrentDeviceIsTheCallersAfterwards) {
    int before = -1, after = -1;
    ASSERT_EQ(cudaGetDevice(&before), cudaSuccess);
    const ShapeLine line = parse_shape_line("gru T3 N2 I4 H5 f32");
    RnnRun run(line, make_rnn_data_with_dropout(line), kCard);
    run.training_and_backward();
    ASSERT_EQ(cudaGetDevice(&after), cudaSuccess);
    EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace carousel::test
