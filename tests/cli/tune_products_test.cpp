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
    const std::string run = folder.file("run");
    for (std::vector<std::string> command : {std::vector<std::string>{"bench", "rnn"},
                                             {"bench", "lm"},
                                             {"bench", "sample"},
                                             {"train", "--steps", "1", "--out", run}}) {
        SCOPED_TRACE(command[0] + " " + command[1]);
        for (const char* word : {"--device", "cpu", "--hidden", "8", "--tune-products"}) {
            command.emplace_back(word);
        }
        command.push_back(file);
        const ToolResult without = run_tool(command);
        EXPECT_EQ(without.exit_code, 1);
        EXPECT_EQ(without.out, "");
        EXPECT_THAT(without.err, HasSubstr("products on cpu have no choice of algorithms"));
        EXPECT_FALSE(std::filesystem::exists(file));
        EXPECT_FALSE(std::filesystem::exists(run));
        io::write_file_atomic(file, "kept as it is\n");
        EXPECT_EQ(run_tool(command).exit_code, 1);
        EXPECT_EQ(io::read_file(file), "kept as it is\n");
        std::filesystem::remove(file);
    }
}

}  // namespace
}  // namespace carousel::testing_tool
