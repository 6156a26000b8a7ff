#include "cli/tool.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace carousel::testing_tool {

namespace {

[[noreturn]] void become_tool(const std::vector<std::string>& args, const ToolOptions& options,
                              int out, int err) {
    ::dup2(out, 1);
    ::dup2(err, 2);
    ::signal(SIGPIPE, SIG_DFL);
    ::signal(SIGINT, SIG_DFL);
    if (!options.folder.empty() && ::chdir(options.folder.c_str()) != 0) ::_exit(121);
    if (options.max_file_bytes > 0) {
        const rlimit limit{options.max_file_bytes, options.max_file_bytes};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    for (const std::string& variable : options.environment) {
        const std::size_t equals = variable.find('=');
        ::setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
    }
    std::vector<std::string> words{CAROUSEL_TOOL};
    words.insert(words.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(120);
}

/// Reads both pipes to their ends; one after the other could block the child.
void drain(int out, int err, ToolResult& result) {
    std::array<pollfd, 2> fds{pollfd{out, POLLIN, 0}, pollfd{err, POLLIN, 0}};
    std::array<std::string*, 2> sinks{&result.out, &result.err};
    std::array<char, 65536> block{};
    int open = 2;
    while (open > 0) {
        ::poll(fds.data(), fds.size(), -1);
        for (std::size_t i = 0; i < fds.size(); ++i) {
            if (fds[i].fd < 0 || fds[i].revents == 0) continue;
            const ssize_t n = ::read(fds[i].fd, block.data(), block.size());
            if (n > 0) {
                sinks[i]->append(block.data(), static_cast<std::size_t>(n));
            } else if (n == 0) {
                fds[i].fd = -1;
                --open;
            }
        }
    }
}

}  // namespace

std::vector<nlohmann::json> ToolResult::json_lines() const {
    std::vector<nlohmann::json> lines;
    std::istringstream stream(out);
    std::string line;
    while (std::getline(stream, line)) {
        lines.push_back(nlohmann::json::parse(line, nullptr, false));
        EXPECT_FALSE(lines.back().is_discarded()) << "not JSON: " << line;
    }
    return lines;
}

ToolResult run_tool(const std::vector<std::string>& args, const ToolOptions& options) {
    std::array<int, 2> out{};
    std::array<int, 2> err{};
    EXPECT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(err.data(), O_CLOEXEC), 0);
    int stdout_fd = out[1];
    if (!options.stdout_path.empty()) {
        stdout_fd = ::open(options.stdout_path.c_str(), O_WRONLY | O_CLOEXEC);
        EXPECT_GE(stdout_fd, 0) << options.stdout_path;
    }
    const pid_t child = ::fork();
    if (child == 0) become_tool(args, options, stdout_fd, err[1]);
    if (stdout_fd != out[1]) ::close(stdout_fd);
    ::close(out[1]);
    ::close(err[1]);
    ToolResult result;
    drain(out[0], err[0], result);
    ::close(out[0]);
    ::close(err[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return result;
}

TempFolder::TempFolder() {
    std::string name = ::testing::TempDir() + "/carousel_tool_XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no temporary folder";
    path_ = name;
}

TempFolder::~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

}  // namespace carousel::testing_tool
