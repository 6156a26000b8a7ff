#include "bench/core/environment.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>

namespace carousel::bench {

std::string output_of(const std::string& command) {
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
    std::string text;
    if (pipe == nullptr) return text;
    std::array<char, 512> chunk{};
    while (std::fgets(chunk.data(), chunk.size(), pipe.get()) != nullptr) text += chunk.data();
    return text;
}

std::string trimmed(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string source_commit() {
    if (const char* said = std::getenv("CAROUSEL_COMMIT"); said != nullptr && *said != '\0') {
        return said;
    }
    const std::string git = "git -C '" CAROUSEL_SOURCE_DIR "' ";
    const std::string commit = trimmed(output_of(git + "rev-parse --short=12 HEAD 2>/dev/null"));
    if (commit.empty()) return "unknown";
    return commit +
           (trimmed(output_of(git + "status --porcelain -uno 2>/dev/null")).empty() ? "" : "+");
}

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text.data();
}

std::string processor_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

}  // namespace carousel::bench
