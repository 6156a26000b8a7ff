#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_caps.hpp"
#include "src/backend/cuda/rnn_backend.hpp"
#include "src/plan/cuda_order.hpp"

// Plans for CUDA devices: plain values, made and proven without a device.

namespace carousel {
namespace {

struct Case {
    RnnSpec spec;
    std::int64_t seq_len, batch_size;
    bool training;
    Algorithm algorithm;
};

RnnSpec make_spec(Cell cell, std::int64_t layers, bool bidirectional, std::int64_t proj = 0) {
    RnnSpec spec;
    spec.cell = cell;
    spec.input_size = 6;
    spec.hidden_size = 8;
    spec.proj_size = proj;
    spec.num_layers = layers;
    spec.bidirectional = bidirectional;
    spec.dropout = layers > 1 ? 0.25 : 0.0;
    return spec;
}

std::vector<Case> cases() {
    std::vector<Case> all;
    for (const Cell cell : {Cell::kLstm, Cell::kGru, Cell::kGruResetBefore, Cell::kRnnTanh}) {
        for (const std::int64_t layers : {1, 2, 4}) {
            for (const bool bidirectional : {false, true}) {
                for (const std::int64_t T : {1, 7, 40}) {
                    for (const Algorithm algorithm :
                         {Algorithm::kStepwise, Algorithm::kWavefront}) {
                        const std::int64_t proj = cell == Cell::kLstm && layers == 2 ? 5 : 0;
                        const RnnSpec spec = make_spec(cell, layers, bidirectional, proj);
                        if (spec.num_states() == 1 && algorithm == Algorithm::kWavefront) continue;
                        all.push_back({spec, T, 64, true, algorithm});
                    }
                }
            }
        }
    }
    return all;
}

CudaRnnConfig config_of(const Case& c) {
    RnnPlanOptions options;
    options.seq_len = c.seq_len;
    options.batch_size = c.batch_size;
    options.training = c.training;
    options.algorithm = c.algorithm;
    std::vector<Rejection> rejections;
    CudaRnnConfig config =
        choose_cuda_config(c.spec, options, cuda::known_device("h200"), 1 << 20, rejections);
    config.norm_steps = 3;
    return config;
}

/// The three walks of a plan; `training` of each.
struct Walked {
    std::vector<CudaStep> steps;
    bool training;
};
std::vector<Walked> walks(const Case& c, const CudaRnnConfig& config) {
    std::vector<Walked> all(3);
    const bool packs = config.algorithm == Algorithm::kWavefront;
    for (int i = 0; i < 3; ++i) {
        Walked& walked = all[static_cast<std::size_t>(i)];
        walked.training = i > 0;
        const auto sink = [&](const CudaStep& step) { walked.steps.push_back(step); };
        if (i < 2) {
            walk_forward(c.spec, config, c.seq_len, walked.training, packs, sink);
        } else {
            CudaBackwardWants wants;
            wants.norms = true;
            walk_backward(c.spec, config, c.seq_len, wants, packs, sink);
        }
    }
    return all;
}

std::string name_of(const Case& c) {
    return to_string(c.spec) + " T" + std::to_string(c.seq_len) + " " + algorithm_name(c.algorithm);
}

TEST(CudaOrder, EveryConflictIsOrdered) {
    for (const Case& c : cases()) {
        for (const std::int64_t ring : {0, 3}) {
            CudaRnnConfig config = config_of(c);
            // A short ring: inputs of a sweep come in several products.
            if (ring > 0) {
                config.ring_steps = config.fronts_of_layers ? config.lag : ring;
            }
            for (const Walked& walked : walks(c, config)) {
                EXPECT_EQ(find_unordered(c.spec, config, c.seq_len, walked.training, walked.steps),
                          "")
                    << name_of(c) << " ring " << config.ring_steps;
            }
        }
    }
}

// Some wait may be covered by another one; a walk in which none at all is needed would mean that the
// proof sees nothing.
TEST(CudaOrder, LeavingOutAnEventIsFound) {
    int tried = 0, found = 0;
    for (const Case& c : cases()) {
        const CudaRnnConfig config = config_of(c);
        for (const Walked& walked : walks(c, config)) {
            for (std::size_t i = 0; i < walked.steps.size(); ++i) {
                if (walked.steps[i].kind != CudaStepKind::kWait) continue;
                std::vector<CudaStep> fewer = walked.steps;
                fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
                ++tried;
                const std::string why =
                    find_unordered(c.spec, config, c.seq_len, walked.training, fewer);
                if (!why.empty()) ++found;
                EXPECT_NE(why, "") << name_of(c) << ": wait " << i << " of " << walked.steps.size()
                                   << " is not needed";
            }
        }
    }
    EXPECT_GT(tried, 100);
    EXPECT_EQ(found, tried);
}

TEST(CudaWalk, EveryStepOfEveryStateRunsOnceInItsOrder) {
    for (const Case& c : cases()) {
        const CudaRnnConfig config = config_of(c);
        for (const Walked& walked : walks(c, config)) {
            std::vector<std::int64_t> done(static_cast<std::size_t>(c.spec.num_states()), 0);
            for (const CudaStep& step : walked.steps) {
                const bool forward_cell = step.kind == CudaStepKind::kCellForward;
                if (!forward_cell && step.kind != CudaStepKind::kCellBackward) continue;
                for (std::int64_t i = 0; i < step.num_states; ++i) {
                    std::int64_t& next = done[static_cast<std::size_t>(step.first_state + i)];
                    const std::int64_t walk = step.walk - i * step.lag;
                    EXPECT_EQ(walk, forward_cell ? next : c.seq_len - 1 - next) << name_of(c);
                    ++next;
                }
            }
            for (const std::int64_t steps : done) EXPECT_EQ(steps, c.seq_len) << name_of(c);
        }
    }
}

TEST(CudaWalk, DiagonalsTakeFarFewerLaunchesThanLayersInTurn) {
    Case c{make_spec(Cell::kLstm, 4, false), 100, 64, true, Algorithm::kWavefront};
    const auto cells = [&](Algorithm algorithm) {
        c.algorithm = algorithm;
        std::int64_t count = 0;
        const std::vector<Walked> all = walks(c, config_of(c));
        for (const CudaStep& step : all[1].steps)
            count += step.kind == CudaStepKind::kCellForward ? 1 : 0;
        return count;
    };
    EXPECT_EQ(cells(Algorithm::kStepwise), 400);
    EXPECT_LE(cells(Algorithm::kWavefront), 130);
}

TEST(CudaPlan, ExplainsItselfWithoutADevice) {
    RnnPlanOptions options;
    options.seq_len = 100;
    options.batch_size = 64;
    options.device = Device::cuda(0);
    const std::string stack =
        cuda::explain_rnn(make_spec(Cell::kLstm, 4, false), options, cuda::known_device("h200"))
            .text;
    EXPECT_NE(stack.find("algorithm: wavefront"), std::string::npos) << stack;
    EXPECT_NE(stack.find("not cluster: "), std::string::npos);
    EXPECT_NE(stack.find("reserve: "), std::string::npos);
    const std::string single =
        cuda::explain_rnn(make_spec(Cell::kLstm, 1, false), options, cuda::known_device("a100"))
            .text;
    EXPECT_NE(single.find("algorithm: stepwise"), std::string::npos) << single;
    EXPECT_NE(single.find("nothing to overlap"), std::string::npos);
}

TEST(CudaPlan, RefusesAnAlgorithmByNameWithTheReason) {
    RnnPlanOptions options;
    options.seq_len = 10;
    options.batch_size = 4;
    options.algorithm = Algorithm::kWavefront;
    try {
        cuda::explain_rnn(make_spec(Cell::kLstm, 1, false), options, cuda::known_device("h200"));
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
        EXPECT_NE(std::string(error.what()).find("nothing to overlap"), std::string::npos);
    }
}

TEST(CudaPlan, LargeStepsGainNothingFromDiagonals) {
    RnnPlanOptions options;
    options.seq_len = 10;
    options.batch_size = 1024;
    RnnSpec spec = make_spec(Cell::kLstm, 4, false);
    spec.hidden_size = 2048;
    const std::string text = cuda::explain_rnn(spec, options, cuda::known_device("h200")).text;
    EXPECT_NE(text.find("algorithm: stepwise"), std::string::npos);
    EXPECT_NE(text.find("already fills"), std::string::npos);
}

TEST(CudaPlan, SizesBeyondSixtyThreeBitsAreRefused) {
    RnnPlanOptions options;
    options.seq_len = std::int64_t{1} << 40;
    options.batch_size = std::int64_t{1} << 40;
    for (const bool bidirectional : {false, true}) {
        try {
            cuda::explain_rnn(make_spec(Cell::kLstm, 3, bidirectional), options,
                              cuda::known_device("h200"));
            FAIL() << "no error";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
            EXPECT_NE(std::string(error.what()).find("64-bit"), std::string::npos);
        }
    }
}

TEST(CudaPlan, SlicesAreDisjointAndAligned) {
    for (const Case& c : cases()) {
        RnnPlanOptions options;
        options.seq_len = c.seq_len;
        options.batch_size = c.batch_size;
        const CudaRnnSchedule schedule = build_cuda_schedule(c.spec, options, config_of(c));
        for (const SliceLayout* layout : {&schedule.reserve, &schedule.inference.slices,
                                          &schedule.training.slices, &schedule.grads.slices}) {
            std::size_t end = 0;
            for (const Slice& slice : layout->slices()) {
                EXPECT_GE(slice.offset, end) << slice.name;
                // What vector loads, bulk copies and the fast kernels of cuBLAS ask for.
                const std::size_t align = slice.name == "dropout key, stamp" ? 64 : 256;
                EXPECT_EQ(slice.offset % align, 0U) << slice.name;
                end = slice.offset + slice.bytes;
            }
            EXPECT_LE(end, layout->bytes());
        }
    }
}

}  // namespace
}  // namespace carousel
