#include "src/io/convert.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "carousel/error.hpp"
#include "src/io/safetensors.hpp"

namespace carousel::io {

namespace {

/// A binary floating-point format of 16 bits: sign, exponent, fraction.
struct Format {
    int exponent_bits;
    int fraction_bits;
    int min_exponent() const { return 2 - (1 << (exponent_bits - 1)); }
    int infinity() const { return ((1 << exponent_bits) - 1) << fraction_bits; }
};
constexpr Format kFormatF16{5, 10};
constexpr Format kFormatBf16{8, 7};

std::uint16_t narrow(double value, const Format& format) noexcept {
    const int sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value)) {
        return static_cast<std::uint16_t>(sign | format.infinity() |
                                          (1 << (format.fraction_bits - 1)));
    }
    if (std::isinf(value)) return static_cast<std::uint16_t>(sign | format.infinity());
    if (value == 0.0) return static_cast<std::uint16_t>(sign);
    int exponent = 0;
    std::frexp(value, &exponent);  // |value| = m * 2^exponent, m in [0.5, 1)
    // Below the smallest normal number the spacing stays that of the smallest normal ones.
    const int scale = std::max(exponent - 1, format.min_exponent());
    const double units = std::nearbyint(std::ldexp(std::fabs(value), format.fraction_bits - scale));
    // The leading one of `units` (if it has one) adds 1 to the exponent field, a carry out of the
    // fraction another: the sum is right in all cases, up to infinity.
    const std::int64_t bits =
        (static_cast<std::int64_t>(scale - format.min_exponent()) << format.fraction_bits) +
        static_cast<std::int64_t>(units);
    return static_cast<std::uint16_t>(
        sign | static_cast<int>(std::min<std::int64_t>(bits, format.infinity())));
}

double widen(std::uint16_t bits, const Format& format) noexcept {
    const int fraction = bits & ((1 << format.fraction_bits) - 1);
    const int exponent = (bits & 0x7fff) >> format.fraction_bits;
    double value = 0.0;
    if (exponent == (1 << format.exponent_bits) - 1) {
        value = fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                              : std::numeric_limits<double>::infinity();
    } else if (exponent == 0) {
        value = std::ldexp(fraction, format.min_exponent() - format.fraction_bits);
    } else {
        value = std::ldexp(fraction + (1 << format.fraction_bits),
                           exponent - 1 + format.min_exponent() - format.fraction_bits);
    }
    return (bits & 0x8000) != 0 ? -value : value;
}

template <class T>
T load(const std::uint8_t* data, std::int64_t i) {
    T value;
    std::memcpy(&value, data + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    return value;
}

double load_float(const StoredTensor& t, std::int64_t i) {
    switch (t.type) {
        case StoredType::kF64:
            return load<double>(t.data, i);
        case StoredType::kF32:
            return static_cast<double>(load<float>(t.data, i));
        case StoredType::kF16:
            return f16_to_f64(load<std::uint16_t>(t.data, i));
        default:
            return bf16_to_f64(load<std::uint16_t>(t.data, i));
    }
}

[[noreturn]] void fail(const StoredTensor& t, const std::string& path, const std::string& what) {
    throw Error(ErrorCode::kIo, "'" + path + "': tensor '" + t.name + "' " + what);
}

void convert_floats(const StoredTensor& t, DType dtype, void* out) {
    const std::int64_t n = t.numel();
    switch (dtype) {
        case DType::kF64:
            for (std::int64_t i = 0; i < n; ++i) static_cast<double*>(out)[i] = load_float(t, i);
            break;
        case DType::kBf16:
            for (std::int64_t i = 0; i < n; ++i) {
                static_cast<std::uint16_t*>(out)[i] = f64_to_bf16(load_float(t, i));
            }
            break;
        case DType::kF16:
            for (std::int64_t i = 0; i < n; ++i) {
                static_cast<std::uint16_t*>(out)[i] = f64_to_f16(load_float(t, i));
            }
            break;
        default:
            for (std::int64_t i = 0; i < n; ++i) {
                static_cast<float*>(out)[i] = static_cast<float>(load_float(t, i));
            }
            break;
    }
}

template <class From, class To>
void convert_integers(const StoredTensor& t, void* out, const std::string& path) {
    for (std::int64_t i = 0; i < t.numel(); ++i) {
        const From value = load<From>(t.data, i);
        const To converted = static_cast<To>(value);
        if (static_cast<From>(converted) != value || (converted < To{}) != (value < From{})) {
            fail(t, path,
                 "holds " + std::to_string(value) + " at element " + std::to_string(i) +
                     ", outside the range " + std::to_string(std::numeric_limits<To>::min()) +
                     " to " + std::to_string(std::numeric_limits<To>::max()) + " wanted here.");
        }
        static_cast<To*>(out)[i] = converted;
    }
}

template <class To>
void integers_to(const StoredTensor& t, void* out, const std::string& path) {
    switch (t.type) {
        case StoredType::kBool:
        case StoredType::kU8:
            return convert_integers<std::uint8_t, To>(t, out, path);
        case StoredType::kI8:
            return convert_integers<std::int8_t, To>(t, out, path);
        case StoredType::kI16:
            return convert_integers<std::int16_t, To>(t, out, path);
        case StoredType::kU16:
            return convert_integers<std::uint16_t, To>(t, out, path);
        case StoredType::kI32:
            return convert_integers<std::int32_t, To>(t, out, path);
        case StoredType::kU32:
            return convert_integers<std::uint32_t, To>(t, out, path);
        case StoredType::kU64:
            return convert_integers<std::uint64_t, To>(t, out, path);
        default:
            return convert_integers<std::int64_t, To>(t, out, path);
    }
}

}  // namespace

double f16_to_f64(std::uint16_t bits) noexcept { return widen(bits, kFormatF16); }
double bf16_to_f64(std::uint16_t bits) noexcept { return widen(bits, kFormatBf16); }
std::uint16_t f64_to_f16(double value) noexcept { return narrow(value, kFormatF16); }
std::uint16_t f64_to_bf16(double value) noexcept { return narrow(value, kFormatBf16); }

void convert_to(const StoredTensor& tensor, DType dtype, void* out, const std::string& path) {
    if (tensor.numel() == 0) return;
    if (tensor.data == nullptr) {
        throw Error(ErrorCode::kInternal,
                    "convert_to: only the header of '" + path + "' was read.");
    }
    if (tensor.type == stored_type_of(dtype)) {
        std::memcpy(out, tensor.data, tensor.bytes);
        return;
    }
    const bool wants_integer = dtype == DType::kI32 || dtype == DType::kI64 || dtype == DType::kU8;
    const bool is_f8 = tensor.type == StoredType::kF8E5M2 || tensor.type == StoredType::kF8E4M3;
    if (stored_type_is_float(tensor.type) == wants_integer || is_f8) {
        fail(tensor, path,
             std::string("is of type ") + stored_type_name(tensor.type) +
                 ", which does not convert to " + dtype_name(dtype) + ".");
    }
    if (!wants_integer) {
        convert_floats(tensor, dtype, out);
    } else if (dtype == DType::kI64) {
        integers_to<std::int64_t>(tensor, out, path);
    } else if (dtype == DType::kI32) {
        integers_to<std::int32_t>(tensor, out, path);
    } else {
        integers_to<std::uint8_t>(tensor, out, path);
    }
}

}  // namespace carousel::io
