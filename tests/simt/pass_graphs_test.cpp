#include "carousel/pass_graphs.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "simt/simt_device.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/rnn_run.hpp"

// Recorded passes: a replay is the direct run with whatever its addresses hold by then.

namespace carousel::test {
namespace {

constexpr int kDevice = 62;

template <class T>
void write(const T* to, const std::vector<T>& values) {
    copy_to_device(const_cast<T*>(to), values.data(), values.size() * sizeof(T),
                   Device::cuda(kDevice));
}

/// One case with its results after forward and backward, by direct calls or through graphs.
class GraphedRun {
public:
    GraphedRun(const ShapeLine& line, const RnnData& data)
        : run_(line, data, Device::cuda(kDevice)),
          key_(2 * sizeof(std::uint64_t), Device::cuda(kDevice), "dropout key") {
        run_.forward_args.dropout_key = key_.as<std::uint64_t>();
        set_key(data.dropout_seed, data.dropout_step);
    }
    void set_key(std::uint64_t seed, std::uint64_t step) {
        write<std::uint64_t>(key_.as<std::uint64_t>(), {seed, step});
    }
    RnnRun& run() { return run_; }

    NamedTensors direct() {
        return results([&] {
            forward_training(run_.plan, run_.forward_args);
            backward(run_.plan, run_.backward_args);
        });
    }
    NamedTensors through(PassGraphs& graphs) {
        return results([&] {
            graphs.forward_training(run_.plan, run_.forward_args);
            graphs.backward(run_.plan, run_.backward_args);
        });
    }

private:
    template <class Body>
    NamedTensors results(Body&& body) {
        run_.poison_scratch();
        body();
        run_.download();
        NamedTensors all = run_.forward_results();
        all.merge(run_.backward_results());
        return all;
    }
    RnnRun run_;
    Buffer key_;
};

class PassGraphsOfPlans : public testing::TestWithParam<const char*> {};

TEST_P(PassGraphsOfPlans, ReplayReadsWhatLiesBehindTheAddresses) {
    simt::InstalledDevice device(kDevice);
    const ShapeLine line = parse_shape_line(GetParam());
    const RnnData data = make_rnn_data_with_dropout(line);
    GraphedRun graphed(line, data), plain(line, data);
    PassGraphs graphs(device.device());
    RnnRun& run = graphed.run();

    expect_same_bits(graphed.through(graphs), plain.direct());
    EXPECT_EQ(graphs.num_graphs(), 0U);
    ASSERT_TRUE(graphs.prepare_forward_training(run.plan, run.forward_args));
    ASSERT_TRUE(graphs.prepare_backward(run.plan, run.backward_args));
    EXPECT_EQ(graphs.num_graphs(), 2U);

    device->reset_counts();
    expect_same_bits(graphed.through(graphs), plain.direct());
    EXPECT_EQ(device->counts().graph_launches, 2);

    // New values behind the same addresses, in both runs alike.
    const std::int64_t N = line.batch_size, T = line.seq_len;
    std::vector<std::int64_t> lengths;
    for (std::int64_t n = 0; n < N; ++n) lengths.push_back((n * 3 + 2) % (T + 1));
    std::vector<std::uint8_t> reset(static_cast<std::size_t>(T * N), 0);
    for (std::size_t e = 0; e < reset.size(); e += 7) reset[e] = 1;
    const NamedTensors before = plain.direct();
    for (GraphedRun* each : {&graphed, &plain}) {
        write(each->run().forward_args.mask.lengths, lengths);
        write(each->run().forward_args.mask.reset, reset);
        each->set_key(99, 7);
        each->run().lengths = lengths;
    }
    const NamedTensors after = graphed.through(graphs);
    expect_same_bits(after, plain.direct());
    EXPECT_NE(after.at("y"), before.at("y"));
    EXPECT_EQ(device->counts().graph_launches, 4);
}

INSTANTIATE_TEST_SUITE_P(Plans, PassGraphsOfPlans,
                         testing::Values("lstm T8 N4 I5 H8 L3 lengths reset dropout=0.3 f32",
                                         "gru T7 N4 I5 H8 L2 D2 lengths reset dropout=0.3 f32",
                                         "gru_reset_before T6 N3 I4 H5 L2 lengths reset "
                                         "dropout=0.2 f64"));

TEST(PassGraphsKeys, MovedBuffersNeverReplayStale) {
    simt::InstalledDevice device(kDevice);
    const ShapeLine line = parse_shape_line("lstm T5 N3 I4 H6 L2 f32");
    const RnnData data = make_rnn_data_with_dropout(line);
    GraphedRun first(line, data);
    PassGraphs graphs(device.device());
    const NamedTensors expected = first.through(graphs);
    graphs.prepare_forward_training(first.run().plan, first.run().forward_args);
    graphs.prepare_backward(first.run().plan, first.run().backward_args);
    device->reset_counts();

    // The same plan and shapes with every tensor elsewhere.
    GraphedRun moved(line, data);
    RnnForwardArgs forward = moved.run().forward_args;
    RnnBackwardArgs backward = moved.run().backward_args;
    graphs.forward_training(first.run().plan, forward);
    graphs.backward(first.run().plan, backward);
    moved.run().download();
    EXPECT_EQ(device->counts().graph_launches, 0);
    NamedTensors results = moved.run().forward_results();
    results.merge(moved.run().backward_results());
    expect_same_bits(results, expected);

    // One tensor elsewhere is enough.
    RnnForwardArgs one = first.run().forward_args;
    one.hy = forward.hy;
    graphs.forward_training(first.run().plan, one);
    EXPECT_EQ(device->counts().graph_launches, 0);
    graphs.forward_training(first.run().plan, first.run().forward_args);
    EXPECT_EQ(device->counts().graph_launches, 1);
    synchronize(device.device());
}

TEST(PassGraphsKeys, SeedByValueIsPartOfTheRecording) {
    simt::InstalledDevice device(kDevice);
    const ShapeLine line = parse_shape_line("lstm T5 N3 I4 H6 L2 dropout=0.5 f32");
    const RnnData data = make_rnn_data_with_dropout(line);
    RnnRun run(line, data, device.device());
    PassGraphs graphs(device.device());
    graphs.forward_training(run.plan, run.forward_args);
    ASSERT_TRUE(graphs.prepare_forward_training(run.plan, run.forward_args));
    device->reset_counts();
    RnnForwardArgs other = run.forward_args;
    ++other.dropout_step;
    graphs.forward_training(run.plan, other);
    EXPECT_EQ(device->counts().graph_launches, 0);
    graphs.forward_training(run.plan, run.forward_args);
    EXPECT_EQ(device->counts().graph_launches, 1);
    synchronize(device.device());
}

TEST(PassGraphsKeys, BadArgumentsAreToldBeforeAnythingIsRecorded) {
    simt::InstalledDevice device(kDevice);
    const ShapeLine line = parse_shape_line("lstm T5 N3 I4 H6 f32");
    const RnnData data = make_rnn_data_with_dropout(line);
    RnnRun run(line, data, device.device());
    PassGraphs graphs(device.device());
    EXPECT_THROW(graphs.prepare_forward_training(run.plan, run.forward_args), Error);  // never run
    RnnForwardArgs args = run.forward_args;
    args.batch_size = 99;
    EXPECT_THROW(graphs.forward_training(run.plan, args), Error);
    args = run.forward_args;
    args.stream.native = device->make_queue().native;
    EXPECT_THROW(graphs.prepare_forward_training(run.plan, args), Error);
    EXPECT_THROW(PassGraphs(Device::cpu()).forward_training(run.plan, run.forward_args), Error);
    EXPECT_EQ(graphs.num_graphs(), 0U);
}

}  // namespace
}  // namespace carousel::test
