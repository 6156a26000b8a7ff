#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "tests/support/compare.hpp"

// The library against the independent reference, over the lines of tests/shapes.

namespace carousel::test {
namespace {

void check_line(const ShapeLine& line) {
    SCOPED_TRACE(rerun_command(line));
    const RnnData data = make_rnn_data_with_dropout(line);
    const double limit = tolerance(line.spec.dtype, line.seq_len);

    RnnRun trained(line, data);
    expect_close(trained.training_and_backward(), reference_all(data), limit);

    RnnRun inferred(line, data);
    inferred.inference();
    expect_close(inferred.forward_results(), reference_forward(data, false), limit);
}

void check_file(const std::string& name) {
    if (std::getenv("CAROUSEL_SHAPE") != nullptr) GTEST_SKIP() << "CAROUSEL_SHAPE names one line";
    for (const ShapeLine& line : load_shape_file(name)) {
        try {
            check_line(line);
        } catch (const std::exception& error) {
            ADD_FAILURE() << error.what() << "\n" << rerun_command(line);
        }
    }
}

TEST(RnnParity, EveryCellWithEveryOption) { check_file("rnn_options.txt"); }

TEST(RnnParity, Sizes) { check_file("rnn_sizes.txt"); }

TEST(RnnParity, LineOfEnvironment) {
    const char* text = std::getenv("CAROUSEL_SHAPE");
    if (text == nullptr) GTEST_SKIP() << "set CAROUSEL_SHAPE to a shape line to run it alone";
    check_line(parse_shape_line(text));
}

TEST(RnnParity, ShapeFilesCoverEveryCell) {
    std::set<Cell> cells;
    for (const ShapeLine& line : load_shape_file("rnn_options.txt")) cells.insert(line.spec.cell);
    EXPECT_EQ(cells.size(), 5U);
}

TEST(ShapeLine, ReadsEveryWord) {
    const ShapeLine line = parse_shape_line(
        "lstm L2 T100 N64 I512 H256 D2 P20 bias=single lengths reset dropout=0.3 seed7 batch_first "
        "f32 threads=3 planned=T120,N70 packed accumulate no_states  # remark");
    EXPECT_EQ(line.spec.cell, Cell::kLstm);
    EXPECT_EQ(line.spec.num_layers, 2);
    EXPECT_EQ(line.seq_len, 100);
    EXPECT_EQ(line.batch_size, 64);
    EXPECT_EQ(line.spec.input_size, 512);
    EXPECT_EQ(line.spec.hidden_size, 256);
    EXPECT_EQ(line.spec.proj_size, 20);
    EXPECT_TRUE(line.spec.bidirectional);
    EXPECT_EQ(line.spec.bias, BiasMode::kSingle);
    EXPECT_EQ(line.spec.dtype, DType::kF32);
    EXPECT_DOUBLE_EQ(line.spec.dropout, 0.3);
    EXPECT_TRUE(line.lengths && line.reset && line.batch_first && line.packed && line.accumulate);
    EXPECT_FALSE(line.states);
    EXPECT_EQ(line.threads, 3);
    EXPECT_EQ(line.planned_seq_len, 120);
    EXPECT_EQ(line.planned_batch_size, 70);
    EXPECT_EQ(line.seed, 7U);
    EXPECT_EQ(line.text.find('#'), std::string::npos);
}

TEST(ShapeLine, RejectsWhatItDoesNotUnderstand) {
    for (const char* text :
         {"lstm T3 N2 I4 H5 X7", "lstm T3 N2 I4", "lstm T3 N2 I4 H5 bias=some", "lstm T3 N2 I4 Hx",
          "lstm T3 N2 I4 H5 planned=4", "elman T3 N2 I4 H5"}) {
        EXPECT_THROW(parse_shape_line(text), std::runtime_error) << text;
    }
}

}  // namespace
}  // namespace carousel::test
