#include "tests/support/host_tensor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace carousel::test {

namespace {

/// Mantissa bits without the leading one, smallest normal exponent, and the exponent's bias.
struct Float16Format {
    int mantissa, min_exponent, bias;
};
Float16Format format_of(DType dtype) {
    return dtype == DType::kBf16 ? Float16Format{7, -126, 127} : Float16Format{10, -14, 15};
}

/// To a multiple of the spacing of floats near `value`; infinities and NaN stay.
double round_mantissa(double value, int mantissa, int min_exponent) {
    if (value == 0.0 || !std::isfinite(value)) return value;
    const int exponent = std::max(std::ilogb(value), min_exponent);
    const double spacing = std::ldexp(1.0, exponent - mantissa);
    return std::nearbyint(value / spacing) * spacing;
}

std::uint16_t to_bits16(DType dtype, double value) {
    const Float16Format format = format_of(dtype);
    const unsigned exponent_ones = dtype == DType::kBf16 ? 0xFFU : 0x1FU;
    const unsigned sign = std::signbit(value) ? 0x8000U : 0U;
    const unsigned infinity = exponent_ones << format.mantissa;
    if (std::isnan(value))
        return static_cast<std::uint16_t>(infinity | 1U << (format.mantissa - 1));
    const double rounded = std::fabs(round_to(dtype, value));
    if (std::isinf(rounded)) return static_cast<std::uint16_t>(sign | infinity);
    if (rounded == 0.0) return static_cast<std::uint16_t>(sign);
    const int exponent = std::ilogb(rounded);
    unsigned bits = 0;
    if (exponent < format.min_exponent) {
        bits = static_cast<unsigned>(std::ldexp(rounded, format.mantissa - format.min_exponent));
    } else {
        const double fraction = std::ldexp(rounded, format.mantissa - exponent);
        bits = static_cast<unsigned>(exponent + format.bias) << format.mantissa;
        bits |= static_cast<unsigned>(fraction) & ((1U << format.mantissa) - 1U);
    }
    return static_cast<std::uint16_t>(sign | bits);
}

double from_bits16(DType dtype, std::uint16_t bits) {
    const Float16Format format = format_of(dtype);
    const unsigned exponent_ones = dtype == DType::kBf16 ? 0xFFU : 0x1FU;
    const unsigned fraction = bits & ((1U << format.mantissa) - 1U);
    const unsigned exponent = (bits & 0x7FFFU) >> format.mantissa;
    double value = 0.0;
    if (exponent == exponent_ones) {
        value = fraction == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
    } else if (exponent == 0) {
        value = std::ldexp(static_cast<double>(fraction), format.min_exponent - format.mantissa);
    } else {
        value = std::ldexp(static_cast<double>(fraction | 1U << format.mantissa),
                           static_cast<int>(exponent) - format.bias - format.mantissa);
    }
    return (bits & 0x8000U) != 0 ? -value : value;
}

}  // namespace

double round_to(DType dtype, double value) {
    switch (dtype) {
        case DType::kF32:
            return static_cast<double>(static_cast<float>(value));
        case DType::kTf32:
            return round_mantissa(static_cast<double>(static_cast<float>(value)), 10, -126);
        case DType::kBf16:
        case DType::kF16: {
            const Float16Format format = format_of(dtype);
            const double rounded = round_mantissa(value, format.mantissa, format.min_exponent);
            const double beyond = std::ldexp(1.0, format.bias + 1);
            return std::isnan(rounded) || std::fabs(rounded) < beyond
                       ? rounded
                       : std::copysign(std::numeric_limits<double>::infinity(), rounded);
        }
        default:
            return value;
    }
}

HostTensor::HostTensor(DType dtype, std::vector<std::int64_t> shape, bool swap01)
    : dtype_(dtype == DType::kTf32 ? DType::kF32 : dtype),
      shape_(std::move(shape)),
      swap01_(swap01) {
    bytes_.resize(static_cast<std::size_t>(numel()) * dtype_bytes(dtype_));
}

std::int64_t HostTensor::numel() const {
    std::int64_t n = 1;
    for (const std::int64_t size : shape_) n *= size;
    return n;
}

TensorView HostTensor::view() {
    TensorView v;
    if (!defined()) return v;
    v.data = bytes_.data();
    v.dtype = dtype_;
    v.ndim = static_cast<int>(shape_.size());
    std::int64_t stride = 1;
    for (std::size_t d = shape_.size(); d-- > 0;) {
        v.shape[d] = shape_[d];
        v.strides[d] = stride;
        stride *= shape_[d];
    }
    if (swap01_) {  // memory is [shape1, shape0, rest]
        v.strides[0] = stride / (shape_[0] * shape_[1]);
        v.strides[1] = v.strides[0] * shape_[0];
    }
    return v;
}

std::int64_t HostTensor::position(std::int64_t index) const {
    if (!swap01_) return index;
    const std::int64_t inner = numel() / (shape_[0] * shape_[1]);
    const std::int64_t row = index / inner;
    const std::int64_t i0 = row / shape_[1];
    const std::int64_t i1 = row % shape_[1];
    return (i1 * shape_[0] + i0) * inner + index % inner;
}

void HostTensor::set_element(std::int64_t index, double value) {
    std::byte* at = bytes_.data() + static_cast<std::size_t>(position(index)) * dtype_bytes(dtype_);
    if (dtype_ == DType::kF64) {
        std::memcpy(at, &value, sizeof value);
    } else if (dtype_ == DType::kF32) {
        const float narrow = static_cast<float>(value);
        std::memcpy(at, &narrow, sizeof narrow);
    } else if (dtype_ == DType::kI64) {
        const std::int64_t integer = static_cast<std::int64_t>(value);
        std::memcpy(at, &integer, sizeof integer);
    } else if (dtype_ == DType::kU8) {
        *at = static_cast<std::byte>(value);
    } else if (dtype_ == DType::kBf16 || dtype_ == DType::kF16) {
        const std::uint16_t bits = to_bits16(dtype_, value);
        std::memcpy(at, &bits, sizeof bits);
    } else {
        throw std::runtime_error("HostTensor does not hold this dtype");
    }
}

double HostTensor::element(std::int64_t index) const {
    const std::byte* at =
        bytes_.data() + static_cast<std::size_t>(position(index)) * dtype_bytes(dtype_);
    if (dtype_ == DType::kF64) {
        double value = 0.0;
        std::memcpy(&value, at, sizeof value);
        return value;
    }
    if (dtype_ == DType::kF32) {
        float value = 0.0F;
        std::memcpy(&value, at, sizeof value);
        return static_cast<double>(value);
    }
    if (dtype_ == DType::kBf16 || dtype_ == DType::kF16) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, at, sizeof bits);
        return from_bits16(dtype_, bits);
    }
    throw std::runtime_error("HostTensor reads floating-point values only");
}

void HostTensor::set(const std::vector<double>& values) {
    if (static_cast<std::int64_t>(values.size()) != numel()) {
        throw std::runtime_error("HostTensor::set: " + std::to_string(values.size()) +
                                 " values for " + std::to_string(numel()) + " elements");
    }
    for (std::int64_t e = 0; e < numel(); ++e) set_element(e, values[static_cast<std::size_t>(e)]);
}

std::vector<double> HostTensor::get() const {
    std::vector<double> values;
    if (!defined()) return values;
    values.resize(static_cast<std::size_t>(numel()));
    for (std::int64_t e = 0; e < numel(); ++e) values[static_cast<std::size_t>(e)] = element(e);
    return values;
}

void HostTensor::fill(double value) {
    for (std::int64_t e = 0; e < numel() && defined(); ++e) set_element(e, value);
}

AlignedBytes::AlignedBytes(std::size_t size)
    : buffer_(size > 0 ? size : 1, Device::cpu(), "test scratch"), size_(size) {
    poison();
}

void AlignedBytes::poison() {
    if (size_ > 0) std::memset(buffer_.data(), 0xFF, size_);
}

std::vector<std::byte> AlignedBytes::copy() const {
    const std::byte* first = static_cast<const std::byte*>(buffer_.data());
    return std::vector<std::byte>(first, first + size_);
}

}  // namespace carousel::test
