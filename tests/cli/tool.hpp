#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

// Runs the built command-line tool as a user would.

namespace carousel::testing_tool {

struct ToolResult {
    int exit_code = -1;  ///< -signal if a signal ended it
    std::string out;     ///< what it wrote to stdout
    std::string err;
    /// The lines of `out`, each parsed as JSON; a line that is not JSON fails the test.
    std::vector<nlohmann::json> json_lines() const;
};

struct ToolOptions {
    std::string stdout_path{};       ///< stdout goes there instead of into `out`
    std::size_t max_file_bytes = 0;  ///< > 0: files that grow over this fail, as on a full disk
    std::vector<std::string> environment{};  ///< "NAME=value", added
    std::string folder{};                    ///< working folder; "" = that of the test
};

/// Runs the tool to its end.
ToolResult run_tool(const std::vector<std::string>& args, const ToolOptions& options = {});

/// An empty folder, removed with its content at the end.
class TempFolder {
public:
    TempFolder();
    ~TempFolder();
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;
    std::string file(const std::string& name) const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

}  // namespace carousel::testing_tool
