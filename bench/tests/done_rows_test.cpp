#include "bench/core/done_rows.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "bench/core/report.hpp"
#include "bench/tests/temp_file.hpp"

namespace carousel::bench {
namespace {

GridCase grid_case(const std::string& line, const std::string& dtype = "") {
    return make_case(parse_grid_row("x", line), "", dtype);
}

TEST(BenchDoneRows, RowsWithLinesAreDone) {
    const std::string line = "lstm H8 N2 T3 dtypes=bf16,f16 id=A";
    const GridCase timed = grid_case(line), other = grid_case(line, "f16");
    const GridCase failed = grid_case("gru H8 N2 T3 id=B");
    const TempFile results("results.jsonl");
    const std::string& path = results.path();
    EXPECT_FALSE(DoneRows({path}).has(timed, false)) << "no file";
    RowResult result;
    result.passes.resize(1);
    result.passes[0].grid_case = timed;
    result.passes[0].l2_flushed = true;
    result.passes[0].verdict.ours.turns_ms = {1.0};
    ReportOptions options;
    options.bench = "gpu";
    options.bound = [](const PassResult&) { return LowerBound{}; };
    {
        std::ofstream file(path);
        file << R"({"bench":"gpu","about":"machine","gpu":"H200"})"
             << "\nnot JSON\n";
        for (const auto& json : json_lines(result, options)) file << json.dump() << '\n';
        file << json_of_missing(failed, "wrong result", "gpu").dump() << '\n';
        file << json_of_missing(other, "x", "gpu").dump().substr(0, 40);
    }
    const DoneRows done({"/nowhere", path});
    EXPECT_TRUE(done.has(timed, true));
    EXPECT_FALSE(done.has(timed, false));
    EXPECT_FALSE(done.has(other, true)) << "its line was cut off";
    EXPECT_TRUE(done.has(failed, false) && done.has(failed, true));
    EXPECT_FALSE(done.has(grid_case("gru H16 N2 T3 id=B"), false)) << "another row of that name";
}

}  // namespace
}  // namespace carousel::bench
