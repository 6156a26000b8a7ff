#include <stdexcept>
#include <string>

#include "tests/gpu/card.hpp"
#include "tests/gpu/cudnn_rnn.hpp"
#include "tests/support/device_pass.hpp"

// The same numbers as cuDNN, for what cuDNN can do. The weights reach it gate by gate, through
// cudnnGetRNNWeightParams: equal results confirm that its gates come in the order of ours.

namespace carousel::test {
namespace {

class GpuCudnn : public OnCard {};

#if defined(CAROUSEL_HAS_CUDNN_HEADERS)

const Cudnn& cudnn() {
    static const Cudnn once;
    return once;
}

/// Only the tensors that cuDNN gives.
NamedTensors those_of(const NamedTensors& all, const NamedTensors& some) {
    NamedTensors result;
    for (const auto& entry : some) {
        const auto found = all.find(entry.first);
        if (found != all.end()) result.insert(*found);
    }
    return result;
}

/// Data in which no ReLU unit is so near its kink that two programs' rounding may part them.
RnnData data_away_from_kinks(ShapeLine line) {
    for (int attempt = 0; attempt < 100; ++attempt, ++line.seed) {
        RnnData data = make_rnn_data(line);
        if (line.spec.cell != Cell::kRnnRelu) return data;
        if (reference::forward(data.problem).min_abs_preact > 2e-5) return data;
    }
    throw std::runtime_error("every seed puts some unit next to its kink");
}

void compare(const std::string& text) {
    SCOPED_TRACE(text);
    const ShapeLine line = parse_shape_line(text);
    const RnnData data = data_away_from_kinks(line);
    CudnnRnn theirs(cudnn(), line, data);
    const NamedTensors expected = theirs.training_and_backward();
    RnnRun ours(line, data, kCard);
    const NamedTensors results = ours.training_and_backward();
    // Each may be off the oracle by this much: cuDNN first, to know who is.
    const double limit = device_tolerance(line.spec.dtype, line.seq_len);
    {
        SCOPED_TRACE("cuDNN and the oracle");
        expect_close(expected, those_of(reference_all(data), expected), limit);
    }
    SCOPED_TRACE("Carousel and cuDNN");
    expect_close(those_of(results, expected), expected, 2.0 * limit);
}

TEST_F(GpuCudnn, ForwardAndBackwardAgree) {
    if (!cudnn().loaded.loaded()) GTEST_SKIP() << "no cuDNN: " << cudnn().loaded.reason();
    RecordProperty("cudnn", std::to_string(cudnn().version()));
    for (const char* cell : {"lstm", "gru", "rnn_tanh", "rnn_relu"}) {
        for (const char* rest :
             {" T1 N1 I1 H1 f32", " T9 N5 I6 H8 f32 seed2", " T7 N4 I5 H12 L3 f32 seed3",
              " T8 N3 I7 H16 D2 f32 seed4", " T6 N6 I10 H20 L2 D2 f32 seed5",
              " T9 N8 I32 H48 L2 no_states f32 seed6", " T20 N32 I64 H128 L2 f32 seed7"}) {
            // That many units leave no seed without one next to its kink.
            if (std::string(cell) == "rnn_relu" && std::string(rest).find("H128") < 20) continue;
            try {
                compare(std::string(cell) + rest);
            } catch (const std::exception& error) {
                ADD_FAILURE() << cell << rest << ": " << error.what();
            }
        }
    }
}

#else

TEST_F(GpuCudnn, ForwardAndBackwardAgree) {
    GTEST_SKIP() << "this program was compiled without cuDNN's headers";
}

#endif

}  // namespace
}  // namespace carousel::test
