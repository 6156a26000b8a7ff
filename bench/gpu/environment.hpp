#pragma once

#include <string>

#include <nlohmann/json.hpp>

// What a result depends on and is worth nothing without.

namespace carousel::bench {

/// Name, driver, clocks (MHz), power (W) and temperature of a GPU as nvidia-smi tells them now;
/// {"error": ...} where it is absent or says something else.
nlohmann::ordered_json smi_report(int index);
/// Of one line of nvidia-smi's answer to the query of smi_report, without headings or units.
nlohmann::ordered_json parse_smi_line(const std::string& line);

/// What CAROUSEL_COMMIT says, for trees without their git folder; else the commit of the source tree
/// that this was built in, with "+" if files differ from it; "unknown" where git is absent.
std::string source_commit();

/// "2026-11-21T04:20:00Z".
std::string utc_now();

/// "13.0" of 13000.
std::string cuda_version_text(int version);

}  // namespace carousel::bench
