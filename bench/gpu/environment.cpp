#include "bench/gpu/environment.hpp"

#include <array>
#include <cstdlib>
#include <sstream>
#include <vector>

#include "bench/core/environment.hpp"

namespace carousel::bench {

namespace {

constexpr const char* kQuery =
    "name,uuid,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu";
constexpr std::array<const char*, 8> kNames{"gpu",        "uuid",       "driver",  "sm_mhz",
                                            "memory_mhz", "max_sm_mhz", "power_w", "celsius"};
constexpr std::size_t kFirstNumber = 3;

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

std::string cuda_version_text(int version) {
    return version <= 0
               ? "none"
               : std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace carousel::bench
