#include "src/train/token_stream.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "simt/nn_data.hpp"
#include "simt/train_support.hpp"
#include "tests/support/expect_error.hpp"

// Text drawn on a CUDA device, the draw and its way back into the model included.

namespace carousel::test {
namespace {

using train::LmModel;
using train::StreamOptions;
using train::TokenStream;

StreamOptions some_draws(std::int64_t length) {
    StreamOptions options;
    options.seed = 11;
    options.prompt = {3, 17, 0};
    options.length = length;
    return options;
}

/// A model whose logits differ enough for draws to depend on what was fed.
train::LmConfig drawing_lm(Device device, DType dtype = DType::kF32) {
    train::LmConfig config = tiny_lm(device, dtype);
    config.init = train::init_parse("uniform:1");
    return config;
}

std::vector<std::int32_t> written(const train::LmConfig& config, const StreamOptions& options) {
    LmModel model(config, 1, 1, nullptr);
    model.initialize();
    const auto stream = TokenStream::make(model, options);
    std::vector<std::int32_t> tokens;
    for (std::int64_t i = 0; i < options.length; ++i) tokens.push_back(stream->next());
    return tokens;
}

void expect_the_cpus_tokens(train::LmConfig config, const StreamOptions& options) {
    const auto tokens = written(config, options);
    EXPECT_EQ(written(config, options), tokens) << "a second time";
    config.device = Device::cpu();
    EXPECT_EQ(written(config, options), tokens);
    if (options.draw.temperature > 0.0 && options.draw.top_k != 1) {
        EXPECT_GT(std::set<std::int32_t>(tokens.begin(), tokens.end()).size(), 1U);
    }
}

TEST(SimtTokenStream, WritesWhatTheCpuWrites) {
    const simt::InstalledDevice device(kTrainDevice);
    StreamOptions options = some_draws(70);
    for (const train::SampleOptions& how :
         {train::SampleOptions{1.0, 0, 1.0}, {0.8, 5, 1.0}, {1.2, 0, 0.7}, {0.0, 0, 1.0}}) {
        options.draw = how;
        expect_the_cpus_tokens(drawing_lm(simt_cuda()), options);
    }
}

TEST(SimtTokenStream, EveryModelWrites) {
    const simt::InstalledDevice device(kTrainDevice);
    for (const Cell cell :
         {Cell::kLstm, Cell::kGru, Cell::kGruResetBefore, Cell::kRnnTanh, Cell::kRnnRelu}) {
        for (const std::int64_t embedding : {6, 0}) {
            SCOPED_TRACE(std::string(cell_name(cell)) + ", embedding " + std::to_string(embedding));
            train::LmConfig config = drawing_lm(simt_cuda(), DType::kF64);
            config.cell = cell;
            config.embedding_size = embedding;
            config.num_layers = embedding > 0 ? 3 : 1;
            expect_the_cpus_tokens(config, some_draws(20));
        }
    }
}

TEST(SimtTokenStream, PromptsOfAnyLengthCount) {
    const simt::InstalledDevice device(kTrainDevice);
    std::set<std::vector<std::int32_t>> all;
    // Where little is forgotten, what was read long ago shows.
    train::LmConfig config = drawing_lm(simt_cuda(), DType::kF64);
    config.cell = Cell::kRnnTanh;
    StreamOptions options = some_draws(24);
    const std::vector<std::int32_t> text = tiny_text(60);
    const std::vector<std::size_t> sizes = {1, 2, 16, 17, 18, 33, 60};
    for (const std::size_t size : sizes) {
        // Equal last tokens: what differs is what was read before.
        options.prompt.assign(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
        options.prompt.back() = 4;
        expect_the_cpus_tokens(config, options);
        all.insert(written(config, options));
    }
    EXPECT_EQ(all.size(), sizes.size());
}

TEST(SimtTokenStream, ReplaysGiveTheTokensOfPlainBatches) {
    const simt::InstalledDevice device(kTrainDevice);
    for (const DType dtype : {DType::kF32, DType::kTf32, DType::kBf16, DType::kF16}) {
        StreamOptions options = some_draws(75);
        const auto replayed = written(drawing_lm(simt_cuda(), dtype), options);
        options.graphs = false;
        EXPECT_EQ(written(drawing_lm(simt_cuda(), dtype), options), replayed) << dtype_name(dtype);
        options.length = 74;  // a shorter text is the beginning of a longer one
        const auto shorter = written(drawing_lm(simt_cuda(), dtype), options);
        EXPECT_EQ(std::vector<std::int32_t>(replayed.begin(), replayed.end() - 1), shorter);
        options.seed = 12;
        EXPECT_NE(written(drawing_lm(simt_cuda(), dtype), options), shorter);
    }
}

TEST(SimtTokenStream, ABatchIsOneReplayAndOneWait) {
    simt::InstalledDevice device(kTrainDevice);
    LmModel model(drawing_lm(simt_cuda()), 1, 1, nullptr);
    model.initialize();
    const auto stream = TokenStream::make(model, some_draws(10'000));
    const std::int64_t batch = stream->batch_size();
    EXPECT_GT(batch, 1);
    for (std::int64_t i = 0; i < 3 * batch; ++i) stream->next();
    device->reset_counts();
    for (std::int64_t i = 0; i < 4 * batch; ++i) stream->next();
    const simt::DeviceCounts counts = device->counts();
    EXPECT_EQ(counts.graph_launches, 4);
    EXPECT_EQ(counts.launches, 0);
    EXPECT_EQ(counts.products, 0);
    EXPECT_EQ(counts.copies, 4 * 2);  // the keys, the ids
    EXPECT_LE(counts.host_waits, 4);
    EXPECT_EQ(counts.allocations, 0);
}

TEST(SimtTokenStream, NothingIsComputedBeyondTheLength) {
    simt::InstalledDevice device(kTrainDevice);
    LmModel model(drawing_lm(simt_cuda()), 1, 1, nullptr);
    model.initialize();
    const auto draws = [&](std::int64_t length) {
        StreamOptions options = some_draws(length);
        options.graphs = false;
        const auto stream = TokenStream::make(model, options);
        device->reset_counts();
        for (std::int64_t i = 0; i < length; ++i) stream->next();
        const std::int64_t launches = device->counts().launches;
        if (length > 0) {
            expect_error(ErrorCode::kInvalidArgument, "handed out", [&] { stream->next(); });
        }
        return launches;
    };
    const std::int64_t one = draws(1);
    EXPECT_GT(one, 3);
    EXPECT_EQ(draws(16), 16 * one);
    EXPECT_EQ(draws(21), 21 * one);
    EXPECT_EQ(draws(0), 0);
}

TEST(SimtTokenStream, HasNoRacesUnderAnyOrderOfQueues) {
    for (const simt::Options& schedule : nn_schedules()) {
        simt::InstalledDevice device(kTrainDevice, {schedule, simt::QueueOrder::kRandom});
        expect_the_cpus_tokens(drawing_lm(simt_cuda()), some_draws(40));
        EXPECT_EQ(device->counts().races, 0U);
    }
}

TEST(SimtTokenStream, StreamsMayEndEarlyAndOutliveTheModel) {
    const simt::InstalledDevice device(kTrainDevice);
    const train::LmConfig config = drawing_lm(simt_cuda());
    auto model = std::make_unique<LmModel>(config, 1, 1, nullptr);
    model->initialize();
    // Each drops batches under way: their slots come back.
    for (int i = 0; i < 20; ++i) TokenStream::make(*model, some_draws(100))->next();
    const auto stream = TokenStream::make(*model, some_draws(40));
    model.reset();
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 40; ++i) tokens.push_back(stream->next());
    EXPECT_EQ(tokens, written(config, some_draws(40)));
}

TEST(SimtTokenStream, SaysWhatIsWrong) {
    const simt::InstalledDevice device(kTrainDevice);
    for (const Device where : {Device::cpu(), simt_cuda()}) {
        LmModel model(tiny_lm(where), 1, 1, nullptr);
        StreamOptions options = some_draws(1);
        options.prompt = {1, 20};
        expect_error(ErrorCode::kInvalidArgument, "prompt[1] is 20",
                     [&] { TokenStream::make(model, options); });
        options.prompt.clear();
        expect_error(ErrorCode::kInvalidArgument, "no token",
                     [&] { TokenStream::make(model, options); });
        options = some_draws(1);
        options.draw.top_p = 0.0;
        expect_error(ErrorCode::kInvalidArgument, "top-p",
                     [&] { TokenStream::make(model, options); });
    }
}

}  // namespace
}  // namespace carousel::test
