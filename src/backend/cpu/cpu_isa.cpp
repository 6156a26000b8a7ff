#include "src/backend/cpu/cpu_isa.hpp"

#include <cstdlib>
#include <string>

#include "carousel/error.hpp"

namespace carousel::cpu {

const char* isa_name(CpuIsa isa) noexcept {
    switch (isa) {
        case CpuIsa::kBaseline:
            return "baseline";
        case CpuIsa::kAvx2:
            return "avx2";
        case CpuIsa::kAvx512:
            return "avx512";
    }
    return "?";
}

CpuIsa best_isa() noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        return CpuIsa::kAvx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CpuIsa::kAvx2;
#endif
    return CpuIsa::kBaseline;
}

namespace {

CpuIsa choose_isa() {
    const char* asked = std::getenv("CAROUSEL_CPU_ISA");
    const CpuIsa best = best_isa();
    if (asked == nullptr || *asked == '\0') return best;
    for (CpuIsa isa : {CpuIsa::kBaseline, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
        if (std::string(asked) != isa_name(isa)) continue;
        if (static_cast<int>(isa) > static_cast<int>(best)) {
            throw Error(ErrorCode::kInvalidArgument,
                        std::string("CAROUSEL_CPU_ISA=") + asked +
                            ": this processor or build offers at most " + isa_name(best) +
                            "; unset the variable or name a lower set");
        }
        return isa;
    }
    throw Error(ErrorCode::kInvalidArgument,
                std::string("CAROUSEL_CPU_ISA=") + asked + ": expected baseline, avx2 or avx512");
}

}  // namespace

CpuIsa current_isa() {
    static const CpuIsa isa = choose_isa();
    return isa;
}

}  // namespace carousel::cpu
