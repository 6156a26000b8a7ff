#include <gtest/gtest.h>

#include "tests/golden/golden_file.hpp"
#include "tests/support/compare.hpp"

// Values that other programs computed, against the reference and against the library.

namespace carousel::test {
namespace {

std::vector<std::string> names_of(const NamedTensors& tensors) {
    std::vector<std::string> names;
    for (const auto& entry : tensors) names.push_back(entry.first);
    return names;
}

NamedTensors run_library(const GoldenCase& golden) {
    return RnnRun(golden.line, golden.data()).training_and_backward();
}

TEST(GoldenTorch, HasEveryCellAndWeight) {
    const std::vector<GoldenCase> cases = load_golden_file("golden_torch.txt");
    EXPECT_EQ(cases.size(), 14U);
    for (const GoldenCase& golden : cases) {
        const NamedTensors expected = golden.expected();
        for (const char* name : {"y", "hy", "dx", "d_weight_ih_l0", "d_weight_hh_l0"}) {
            EXPECT_EQ(expected.count(name), 1U) << golden.name << " lacks " << name;
        }
    }
}

TEST(GoldenTorch, ReferenceAgrees) {
    for (const GoldenCase& golden : load_golden_file("golden_torch.txt")) {
        SCOPED_TRACE(golden.name);
        const NamedTensors expected = golden.expected();
        expect_close(only(reference_all(golden.data()), names_of(expected)), expected,
                     tolerance(DType::kF64, golden.line.seq_len));
    }
}

TEST(GoldenTorch, LibraryAgrees) {
    for (const GoldenCase& golden : load_golden_file("golden_torch.txt")) {
        SCOPED_TRACE(golden.name);
        const NamedTensors expected = golden.expected();
        expect_close(only(run_library(golden), names_of(expected)), expected,
                     tolerance(DType::kF64, golden.line.seq_len));
    }
}

TEST(GoldenTorch, LibraryAgreesInF32) {
    for (GoldenCase golden : load_golden_file("golden_torch.txt")) {
        SCOPED_TRACE(golden.name);
        golden.line.spec.dtype = DType::kF32;
        const NamedTensors expected = golden.expected();
        expect_close(only(run_library(golden), names_of(expected)), expected,
                     tolerance(DType::kF32, golden.line.seq_len));
    }
}

TEST(GoldenOnnx, ReferenceAgrees) {
    for (const GoldenCase& golden : load_golden_file("golden_onnx.txt")) {
        SCOPED_TRACE(golden.name);
        const NamedTensors expected = golden.expected();
        expect_close(only(reference_forward(golden.data(), false), names_of(expected)), expected,
                     tolerance(DType::kF32, golden.line.seq_len));
    }
}

TEST(GoldenOnnx, LibraryAgrees) {
    for (const GoldenCase& golden : load_golden_file("golden_onnx.txt")) {
        SCOPED_TRACE(golden.name);
        RnnRun run(golden.line, golden.data());
        run.inference();
        const NamedTensors expected = golden.expected();
        expect_close(only(run.forward_results(), names_of(expected)), expected,
                     tolerance(DType::kF32, golden.line.seq_len));
    }
}

}  // namespace
}  // namespace carousel::test
