// What the race checker says: where in the program, which memory, who.

#include <string>

#include "simt/executor.hpp"
#include "simt/memory.hpp"
#include "simt/race.hpp"
#include "simt/symbols.hpp"

extern "C" const char __executable_start;  // the linker's

namespace carousel::simt {

namespace {

constexpr std::uint32_t kLocationSite = 0x80000000U;
std::vector<SourceLocation>& location_sites() {
    static auto* sites = new std::vector<SourceLocation>;
    return *sites;
}

constexpr std::size_t kMaxMessages = 20;

}  // namespace

void RaceChecker::report_race(const AccessRecord& before, bool before_writes,
                              const AccessRecord& now, bool now_writes, std::uintptr_t address) {
    ++report_.races;
    const std::uint64_t pair = (static_cast<std::uint64_t>(before.site) << 32) | now.site;
    if (!reported_.emplace(pair, true).second || report_.messages.size() >= kMaxMessages) {
        return;
    }
    const auto agent = [](const AccessRecord& record) {
        return std::string(record.agent >= kFirstTwin ? " by a copy of" : " by") + " block " +
               std::to_string(record.block) + " thread " +
               std::to_string(record.agent % kFirstTwin);
    };
    report_.messages.push_back(
        "race on " + describe_address(address) + ": " + (now.strong != 0 ? "strong " : "") +
        (now_writes ? "write" : "read") + " at " + site_text(now.site) + agent(now) +
        ", not ordered after the " + (before.strong != 0 ? "strong " : "") +
        (before_writes ? "write" : "read") + " at " + site_text(before.site) + agent(before));
}

void RaceChecker::report_uninitialised(const AccessRecord& now, std::uintptr_t address) {
    ++report_.uninitialised;
    if (!reported_.emplace(now.site, true).second || report_.messages.size() >= kMaxMessages) {
        return;
    }
    report_.messages.push_back("read at " + site_text(now.site) + " of " +
                               describe_address(address) + ", which nothing has written");
}

std::uint32_t RaceChecker::site_of(const void* caller) {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(caller) -
                                      reinterpret_cast<std::uintptr_t>(&__executable_start));
}

std::uint32_t RaceChecker::site_of(const SourceLocation& at) {
    std::vector<SourceLocation>& sites = location_sites();
    for (std::size_t i = 0; i < sites.size(); ++i) {
        if (sites[i].line() == at.line() && sites[i].file_name() == at.file_name()) {
            return kLocationSite | static_cast<std::uint32_t>(i);
        }
    }
    sites.push_back(at);
    return kLocationSite | static_cast<std::uint32_t>(sites.size() - 1);
}

std::string site_text(std::uint32_t site) {
    if ((site & kLocationSite) != 0) {
        return line_text(location_sites()[site & ~kLocationSite]);
    }
    return source_line(&__executable_start + site);
}

}  // namespace carousel::simt
