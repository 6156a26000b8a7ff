#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "carousel/rnn.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

RnnSpec legal_spec() {
    RnnSpec spec;
    spec.input_size = 4;
    spec.hidden_size = 6;
    return spec;
}

RnnPlanOptions legal_options() {
    RnnPlanOptions options;
    options.seq_len = 5;
    options.batch_size = 3;
    options.num_threads = 1;
    return options;
}

TEST(RnnSpec, RulesAreStatedByField) {
    const struct {
        const char* field;
        std::function<void(RnnSpec&)> make_mistake;
    } rules[] = {
        {"input_size", [](RnnSpec& s) { s.input_size = 0; }},
        {"input_size", [](RnnSpec& s) { s.input_size = -4; }},
        {"hidden_size", [](RnnSpec& s) { s.hidden_size = 0; }},
        {"hidden_size", [](RnnSpec& s) { s.hidden_size = -1; }},
        {"num_layers", [](RnnSpec& s) { s.num_layers = 0; }},
        {"proj_size", [](RnnSpec& s) { s.proj_size = -1; }},
        {"proj_size", [](RnnSpec& s) { s.proj_size = 6; }},
        {"proj_size", [](RnnSpec& s) { s.proj_size = 7; }},
        {"proj_size", [](RnnSpec& s) { s.cell = Cell::kGru, s.proj_size = 2; }},
        {"dropout", [](RnnSpec& s) { s.dropout = -0.1; }},
        {"dropout", [](RnnSpec& s) { s.dropout = 1.0; }},
        {"dropout", [](RnnSpec& s) { s.dropout = std::numeric_limits<double>::quiet_NaN(); }},
        {"dtype", [](RnnSpec& s) { s.dtype = DType::kI64; }},
        {"dtype", [](RnnSpec& s) { s.dtype = DType::kU8; }},
        {"cell", [](RnnSpec& s) { s.cell = static_cast<Cell>(99); }},
        {"bias", [](RnnSpec& s) { s.bias = static_cast<BiasMode>(7); }},
    };
    for (const auto& rule : rules) {
        RnnSpec spec = legal_spec();
        EXPECT_NO_THROW(validate(spec));
        rule.make_mistake(spec);
        expect_error(ErrorCode::kInvalidArgument, rule.field, [&] { validate(spec); });
        expect_error(ErrorCode::kInvalidArgument, rule.field,
                     [&] { RnnPlan::create(spec, legal_options()); });
        expect_error(ErrorCode::kInvalidArgument, rule.field, [&] { param_layout(spec); });
    }
}

TEST(RnnSpec, EveryLegalCombinationPlans) {
    for (int cell = 0; cell < 5; ++cell) {
        for (int bias = 0; bias < 3; ++bias) {
            for (const DType dtype : {DType::kF32, DType::kF64}) {
                RnnSpec spec = legal_spec();
                spec.cell = static_cast<Cell>(cell);
                spec.bias = static_cast<BiasMode>(bias);
                spec.dtype = dtype;
                spec.num_layers = 3;
                spec.bidirectional = true;
                spec.dropout = 0.2;
                const RnnPlan plan = RnnPlan::create(spec, legal_options());
                EXPECT_GT(plan.workspace_bytes(), 0U);
                EXPECT_GT(plan.reserve_bytes(), 0U);
            }
        }
    }
}

TEST(RnnSpec, NarrowTypesAreLegalButNotSupportedOnTheCpu) {
    for (const DType dtype : {DType::kTf32, DType::kBf16, DType::kF16}) {
        RnnSpec spec = legal_spec();
        spec.dtype = dtype;
        EXPECT_NO_THROW(validate(spec));
        expect_error(ErrorCode::kUnsupported, dtype_name(dtype),
                     [&] { RnnPlan::create(spec, legal_options()); });
    }
}

TEST(RnnSpec, RulesOfPlanOptions) {
    const struct {
        const char* field;
        std::function<void(RnnPlanOptions&)> make_mistake;
    } rules[] = {
        {"seq_len", [](RnnPlanOptions& o) { o.seq_len = 0; }},
        {"seq_len", [](RnnPlanOptions& o) { o.seq_len = -5; }},
        {"batch_size", [](RnnPlanOptions& o) { o.batch_size = 0; }},
        {"num_threads", [](RnnPlanOptions& o) { o.num_threads = -1; }},
    };
    for (const auto& rule : rules) {
        RnnPlanOptions options = legal_options();
        rule.make_mistake(options);
        expect_error(ErrorCode::kInvalidArgument, rule.field,
                     [&] { RnnPlan::create(legal_spec(), options); });
    }
}

TEST(RnnSpec, AlgorithmsOfOtherDevicesAreUnsupportedOnTheCpu) {
    for (const Algorithm algorithm :
         {Algorithm::kCluster, Algorithm::kGrid, Algorithm::kWavefront}) {
        RnnPlanOptions options = legal_options();
        options.algorithm = algorithm;
        expect_error(ErrorCode::kUnsupported, algorithm_name(algorithm),
                     [&] { RnnPlan::create(legal_spec(), options); });
    }
}

TEST(RnnSpec, UnusableDeviceIsUnsupported) {
    std::string why;
    if (device_usable(Device::cuda(), &why)) GTEST_SKIP() << "this machine has a CUDA device";
    EXPECT_FALSE(why.empty());
    RnnPlanOptions options = legal_options();
    options.device = Device::cuda();
    expect_error(ErrorCode::kUnsupported, "cuda", [&] { RnnPlan::create(legal_spec(), options); });
}

/// Extents whose bytes overflow 64 bits are an error, not a small plan.
TEST(RnnSpec, OverflowingSizesAreRefused) {
    RnnPlanOptions options = legal_options();
    options.seq_len = std::int64_t{1} << 40;
    options.batch_size = std::int64_t{1} << 40;
    EXPECT_THROW(RnnPlan::create(legal_spec(), options), Error);
    RnnSpec spec = legal_spec();
    spec.hidden_size = std::int64_t{1} << 40;
    EXPECT_THROW(RnnPlan::create(spec, legal_options()), Error);
    EXPECT_THROW(param_count(spec), Error);
}

TEST(RnnSpec, MemoryThatCannotBeHadIsAnErrorWithTheNumberOfBytes) {
    const std::size_t bytes = std::size_t{1} << 52;
    const std::string sentence = expect_error(ErrorCode::kOutOfMemory, "reserve", [&] {
        Buffer buffer(bytes, Device::cpu(), "reserve");
    });
    EXPECT_NE(sentence.find(std::to_string(bytes)), std::string::npos) << sentence;
}

}  // namespace
}  // namespace carousel::test
