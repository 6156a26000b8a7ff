#include "bench/core/grid.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "carousel/error.hpp"

namespace carousel::bench {
namespace {

std::vector<GridRow> grid() { return read_grid(CAROUSEL_SHAPES_DIR "/grid.txt"); }

const GridRow& row_of(const std::vector<GridRow>& rows, const std::string& id) {
    const auto found =
        std::find_if(rows.begin(), rows.end(), [&](const GridRow& r) { return r.id == id; });
    if (found == rows.end()) throw std::runtime_error("no row " + id);
    return *found;
}

TEST(BenchGrid, HasEveryRowOfEveryFamily) {
    std::map<std::string, int> families;
    for (const GridRow& row : grid()) {
        ++families[row.id.substr(0, row.id.find_first_of("0123456789"))];
    }
    const std::map<std::string, int> expected{{"DBT", 53}, {"DBI", 69}, {"FRH", 6}, {"FRB", 12},
                                              {"FRT", 6},  {"APL", 1},  {"SMH", 5}, {"RL", 4},
                                              {"DRM", 2},  {"NPH", 1},  {"NPS", 1}, {"LBT", 3},
                                              {"STK", 2},  {"BI", 1},   {"VAR", 1}, {"ODD", 1}};
    EXPECT_EQ(families, expected);
    EXPECT_EQ(grid().size(), 168u);
}

TEST(BenchGrid, NamedGridsHaveTheirRows) {
    const std::vector<GridRow> rows = grid();
    const auto count = [&](const std::string& name) {
        return std::count_if(rows.begin(), rows.end(),
                             [&](const GridRow& row) { return in_grid(row, name); });
    };
    EXPECT_EQ(count("all"), 168);
    EXPECT_EQ(count("headline"), 24);
    EXPECT_EQ(count("deepbench"), 122);
    EXPECT_EQ(count("flashrnn"), 24);
    EXPECT_THROW(count("headlines"), Error);
}

TEST(BenchGrid, RowsKeepInputHeadsDirectionsAndResets) {
    const std::vector<GridRow> rows = grid();
    EXPECT_EQ(row_of(rows, "DBT01").input, InputMode::kSkip);
    EXPECT_EQ(row_of(rows, "FRH3").input, InputMode::kPrecomputed);
    EXPECT_EQ(row_of(rows, "FRH3").heads, 12);
    EXPECT_EQ(row_of(rows, "DRM1").input, InputMode::kBlock);
    EXPECT_EQ(row_of(rows, "SMH3").input_size, 112);
    EXPECT_EQ(row_of(rows, "STK1").input_size, 512);
    EXPECT_TRUE(row_of(rows, "BI1").bidirectional);
    EXPECT_TRUE(row_of(rows, "NPH").alternating);
    EXPECT_DOUBLE_EQ(row_of(rows, "RL1").reset, 0.03);
    EXPECT_DOUBLE_EQ(row_of(rows, "VAR1").lengths_from, 0.25);
    EXPECT_EQ(row_of(rows, "RL4").batch_size, 65536);
}

// Every row either runs, in a form that is named where it is not the row's own, or says what is missing.
TEST(BenchGrid, EveryRowIsACaseOrSaysWhatIsMissing) {
    int missing = 0;
    for (const GridRow& row : grid()) {
        const GridCase c = make_case(row);
        if (!c.not_yet.empty()) {
            ++missing;
            EXPECT_EQ(c.not_yet.rfind("not yet: ", 0), 0u) << row.text;
            continue;
        }
        EXPECT_NO_THROW(validate(c.spec)) << row.text;
        const bool own_form = row.input == InputMode::kLinear && !row.alternating;
        EXPECT_EQ(c.forms.empty(), own_form) << row.text;
        EXPECT_GT(forward_flops(c), 0.0);
    }
    EXPECT_EQ(missing, 5 + 6 + 3 + 2);  // heads of FRH, FRB, FRT, DRM
    EXPECT_EQ(make_case(parse_grid_row("x", "slstm H4 N1 T1")).not_yet, "not yet: cell slstm");
    EXPECT_EQ(make_case(parse_grid_row("x", "lstm H4 N1 T1"), "", "fp8").not_yet,
              "not yet: dtype fp8");
}

TEST(BenchGrid, LengthsAndResetsAreOfTheirShare) {
    const GridCase varied = make_case(parse_grid_row("x", "lstm H4 N500 T100 lengths=0.25"));
    const auto lengths = case_lengths(varied);
    ASSERT_EQ(lengths.size(), 500u);
    EXPECT_GE(*std::min_element(lengths.begin(), lengths.end()), 25);
    EXPECT_LE(*std::max_element(lengths.begin(), lengths.end()), 100);
    double mean = 0.0;
    for (const std::int64_t length : lengths) mean += static_cast<double>(length) / 500.0;
    EXPECT_NEAR(mean, 62.5, 4.0);
    EXPECT_EQ(lengths, case_lengths(varied));

    const GridCase cut = make_case(parse_grid_row("x", "gru H4 N100 T200 reset=0.03"));
    const auto resets = case_resets(cut);
    ASSERT_EQ(resets.size(), 20'000u);
    EXPECT_NEAR(static_cast<double>(std::count(resets.begin(), resets.end(), 1)), 600.0, 100.0);
    EXPECT_TRUE(case_resets(varied).empty());
    EXPECT_TRUE(case_lengths(cut).empty());
}

TEST(BenchGrid, FlopsCountEveryProduct) {
    const GridCase c = make_case(parse_grid_row("x", "lstm H8 N3 T5 L2 I4 D2"));
    const double expected = 2.0 * 5 * 3 * 2 * 4 * 8 * ((4 + 8) + (16 + 8));
    EXPECT_DOUBLE_EQ(forward_flops(c), expected);
}

TEST(BenchGrid, BadLinesNameTheWord) {
    const auto message = [](const std::string& line) -> std::string {
        try {
            parse_grid_row("grid.txt:7", line);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    };
    for (const char* word :
         {"H0", "Hx", "Q7", "reset=2", "input=none", "pass=fast", "heads=", "D3", "colour=red"}) {
        const std::string text = message(std::string("lstm H8 N1 T1 ") + word);
        EXPECT_NE(text.find("grid.txt:7"), std::string::npos) << word;
    }
    EXPECT_NE(message("lstm H8 N1 T1 Q7").find("'Q7'"), std::string::npos);
    EXPECT_NE(message("lstm H8 N1").find("T"), std::string::npos);
}

}  // namespace
}  // namespace carousel::bench
