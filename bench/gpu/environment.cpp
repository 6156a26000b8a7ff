#include "bench/gpu/environment.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <sstream>
#include <vector>

namespace carousel::bench {

namespace {

constexpr const char* kQuery =
    "name,uuid,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu";
constexpr std::array<const char*, 8> kNames{"gpu",        "uuid",       "driver",  "sm_mhz",
                                            "memory_mhz", "max_sm_mhz", "power_w", "celsius"};
constexpr std::size_t kFirstNumber = 3;

/// What a command printed; empty if it failed.
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

}  // namespace

nlohmann::ordered_json parse_smi_line(const std::string& line) {
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, ',');) fields.push_back(trimmed(field));
    if (fields.size() != kNames.size()) {
        return {{"error", "nvidia-smi says '" + trimmed(line) + "'"}};
    }
    nlohmann::ordered_json report;
    for (std::size_t i = 0; i < fields.size(); ++i) {
        char* end = nullptr;
        const double number = std::strtod(fields[i].c_str(), &end);
        if (i >= kFirstNumber && end != fields[i].c_str() && *end == '\0') {
            report[kNames[i]] = number;
        } else {
            report[kNames[i]] = fields[i];  // "[N/A]" where a card does not tell
        }
    }
    return report;
}

nlohmann::ordered_json smi_report(int index) {
    const std::string answer =
        output_of("nvidia-smi -i " + std::to_string(index) + " --query-gpu=" + kQuery +
                  " --format=csv,noheader,nounits 2>/dev/null");
    if (trimmed(answer).empty()) return {{"error", "nvidia-smi is absent or knows no such GPU"}};
    return parse_smi_line(answer.substr(0, answer.find('\n')));
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

std::string cuda_version_text(int version) {
    return version <= 0
               ? "none"
               : std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace carousel::bench
