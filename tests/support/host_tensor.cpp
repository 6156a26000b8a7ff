#include "tests/support/host_tensor.hpp"

#include <cstring>
#include <stdexcept>

namespace carousel::test {

HostTensor::HostTensor(DType dtype, std::vector<std::int64_t> shape, bool swap01)
    : dtype_(dtype), shape_(std::move(shape)), swap01_(swap01) {
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
    } else {
        throw std::runtime_error("HostTensor holds f32, f64, i64 and u8 only");
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
    throw std::runtime_error("HostTensor reads f32 and f64 only");
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

void AlignedBytes::poison() { std::memset(buffer_.data(), 0xFF, size_); }

std::vector<std::byte> AlignedBytes::copy() const {
    const std::byte* first = static_cast<const std::byte*>(buffer_.data());
    return std::vector<std::byte>(first, first + size_);
}

}  // namespace carousel::test
