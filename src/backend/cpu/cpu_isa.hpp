#pragma once

namespace carousel::cpu {

/// Instruction sets for which the CPU kernels are compiled, ascending.
enum class CpuIsa : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

const char* isa_name(CpuIsa isa) noexcept;  ///< "baseline", "avx2", "avx512"

/// The best instruction set this processor has and this build contains.
CpuIsa best_isa() noexcept;

/// The one in use: best_isa(), or what the environment variable CAROUSEL_CPU_ISA asked for when the
/// library was first used. InvalidArgument if it names an unknown set or one the processor lacks.
CpuIsa current_isa();

}  // namespace carousel::cpu
