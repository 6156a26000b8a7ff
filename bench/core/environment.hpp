#pragma once

#include <string>

// What a result depends on and is worth nothing without.

namespace carousel::bench {

/// What CAROUSEL_COMMIT says, for trees without their git folder; else the commit of the source tree
/// that this was built in, with "+" if files differ from it; "unknown" where git is absent.
std::string source_commit();

/// "2026-11-21T04:20:00Z".
std::string utc_now();

/// Of /proc/cpuinfo; "unknown" where it does not say.
std::string processor_name();

/// What a command printed; empty if it failed.
std::string output_of(const std::string& command);
/// Without spaces at both ends.
std::string trimmed(const std::string& text);

}  // namespace carousel::bench
