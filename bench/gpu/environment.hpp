#pragma once

#include <string>

#include <nlohmann/json.hpp>

// What a result of a card depends on, beside what core/environment.hpp tells.

namespace carousel::bench {

/// Name, driver, clocks (MHz), power (W) and temperature of a GPU as nvidia-smi tells them now;
/// {"error": ...} where it is absent or says something else.
nlohmann::ordered_json smi_report(int index);
/// Of one line of nvidia-smi's answer to the query of smi_report, without headings or units.
nlohmann::ordered_json parse_smi_line(const std::string& line);

/// "13.0" of 13000.
std::string cuda_version_text(int version);

}  // namespace carousel::bench
