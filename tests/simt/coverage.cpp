#include "simt/coverage.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>

extern "C" const char __executable_start;  // the linker's

namespace carousel::simt {

void record_launch(const cuda::Launch& launch) {
    static const char* const path = std::getenv("CAROUSEL_SIMT_COVERAGE");
    if (path == nullptr) {
        return;
    }
    static std::set<const void*> seen;
    if (!seen.insert(launch.function).second) {
        return;
    }
    // One short line per append, so that processes that run side by side may share the file.
    if (std::FILE* file = std::fopen(path, "a")) {
        const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(launch.function) -
                                      reinterpret_cast<std::uintptr_t>(&__executable_start);
        std::fprintf(file, "%zx %s\n", static_cast<std::size_t>(offset), launch.kernel);
        std::fclose(file);
    }
}

}  // namespace carousel::simt
