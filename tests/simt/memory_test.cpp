#include <gtest/gtest.h>

#include <string>

#include "carousel/error.hpp"
#include "carousel/module.hpp"
#include "simt/simt_device.hpp"
#include "src/backend/largest_batch.hpp"

namespace carousel::test {
namespace {

constexpr int kDevice = 64;

TEST(SimtMemory, OutOfMemoryNamesTheLargestBatchThatFits) {
    simt::InstalledDevice device(kDevice);
    RnnSpec spec;
    spec.input_size = 16;
    spec.hidden_size = 32;
    spec.num_layers = 2;
    RnnPlanOptions options;
    options.seq_len = 50;
    options.batch_size = 40;
    options.device = device.device();
    const auto needs = [&](std::int64_t batch_size) {
        RnnPlanOptions smaller = options;
        smaller.batch_size = batch_size;
        const RnnPlan plan = RnnPlan::create(spec, smaller);
        return plan.workspace_bytes() + plan.reserve_bytes();
    };
    for (const std::int64_t batch : {1, 7, 39}) {
        EXPECT_EQ(largest_batch_size(spec, options, needs(batch)), batch);
    }
    EXPECT_EQ(largest_batch_size(spec, options, 1000), 0);

    device->limit_memory(std::size_t{1} << 20);
    ParameterSet params(ModuleContext(DType::kF32, device.device()));
    try {
        Rnn rnn(params, "rnn", spec, 50, 4000);
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
        EXPECT_NE(std::string(error.what()).find("batch"), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("N = 4000"), std::string::npos) << error.what();
    }
}

}  // namespace
}  // namespace carousel::test
