#pragma once

#include <cstdint>

// The 16-bit floating-point formats as stored in files. Widening is exact; narrowing rounds to
// nearest, ties to even, from f64, so that no value is rounded twice.

namespace carousel::io {

double f16_to_f64(std::uint16_t bits) noexcept;
double bf16_to_f64(std::uint16_t bits) noexcept;
std::uint16_t f64_to_f16(double value) noexcept;
std::uint16_t f64_to_bf16(double value) noexcept;

}  // namespace carousel::io
