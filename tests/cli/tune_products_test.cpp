#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/tool.hpp"
#include "src/io/file.hpp"

namespace carousel::testing_tool {
namespace {

using ::testing::HasSubstr;

// The CPU's products have no choice: said before anything is timed or written.
TEST(ToolTuneProducts, CpuIsRefused) {
    const TempFolder folder;
    const std::string file = folder.file("choices.txt");
    const std::vector<std::string> command{"bench",    "rnn", "--device",        "cpu",
                                           "--hidden", "8",   "--tune-products", file};
    const ToolResult without = run_tool(command);
    EXPECT_EQ(without.exit_code, 1);
    EXPECT_EQ(without.out, "");
    EXPECT_THAT(without.err, HasSubstr("products on cpu have no choice of algorithms"));
    EXPECT_FALSE(std::filesystem::exists(file));
    io::write_file_atomic(file, "kept as it is\n");
    EXPECT_EQ(run_tool(command).exit_code, 1);
    EXPECT_EQ(io::read_file(file), "kept as it is\n");
}

}  // namespace
}  // namespace carousel::testing_tool
