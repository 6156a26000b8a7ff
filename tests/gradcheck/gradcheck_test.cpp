#include <gtest/gtest.h>

#include "tests/gradcheck/gradcheck.hpp"
#include "tests/support/compare.hpp"

namespace carousel::test {
namespace {

constexpr double kLimit = 1e-7;  // ||difference|| / ||gradient|| per tensor

/// The library's backward against differences of the library's own forward_training.
void check_library(ShapeLine line) {
    SCOPED_TRACE(line.text);
    RnnData data = make_smooth_data(line);
    RnnRun run(line, data);
    run.training();
    run.backward();
    const NamedTensors gradients = run.backward_results();

    // One plan and one set of tensors serve all differences.
    std::vector<HostTensor*> memory = {&run.x, &run.hx, &run.cx};
    for (LayerTensors& w : run.weights) {
        memory.insert(memory.end(), {&w.w_ih, &w.w_hh, &w.b_ih, &w.b_hh, &w.w_hr});
    }
    std::erase_if(memory, [](const HostTensor* tensor) { return !tensor->defined(); });
    const auto tensors = differentiable(data);
    ASSERT_EQ(memory.size(), tensors.size());
    for (std::size_t k = 0; k < tensors.size(); ++k) {
        const auto& [name, values] = tensors[k];
        const auto loss = [&, target = memory[k], source = values] {
            target->set(*source);
            run.training();
            return scalar_loss(data, run.forward_results());
        };
        const std::vector<double> differences = central_differences(*values, loss);
        memory[k]->set(*values);
        EXPECT_LE(relative_error(gradients.at(name), differences), kLimit) << name;
    }
}

/// The reference's own backward, so that an error of its formulas cannot hide either.
void check_reference(ShapeLine line) {
    SCOPED_TRACE(line.text);
    line.spec.dropout = 0.0;
    RnnData data = make_smooth_data(line);
    const NamedTensors gradients = reference_all(data);
    for (const auto& [name, values] : differentiable(data)) {
        const auto loss = [&] { return scalar_loss(data, reference_forward(data, true)); };
        const std::vector<double> differences = central_differences(*values, loss);
        EXPECT_LE(relative_error(gradients.at(name), differences), kLimit) << name;
    }
}

class Gradcheck : public testing::TestWithParam<const char*> {};

TEST_P(Gradcheck, LibraryMatchesCentralDifferences) {
    for (const ShapeLine& line : load_shape_file("gradcheck.txt")) {
        if (line.spec.cell == cell_parse(GetParam())) check_library(line);
    }
}

TEST_P(Gradcheck, ReferenceMatchesCentralDifferences) {
    for (const ShapeLine& line : load_shape_file("gradcheck.txt")) {
        if (line.spec.cell == cell_parse(GetParam())) check_reference(line);
    }
}

INSTANTIATE_TEST_SUITE_P(Cells, Gradcheck,
                         testing::Values("rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace carousel::test
