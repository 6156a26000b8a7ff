#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "carousel/tensor.hpp"

namespace carousel::test {

/// `value` rounded to what a float of `dtype` can hold, to nearest, ties to even.
double round_to(DType dtype, double value);

/// A tensor of f32 (also for tf32), f64, bf16, f16, i64 or u8 values in ordinary memory of exactly its size (so that the
/// address sanitizer sees any access beyond it), read and written as doubles in logical order.
class HostTensor {
public:
    HostTensor() = default;
    /// `swap01`: dimensions 0 and 1 are exchanged in memory (batch-first), not in the view.
    HostTensor(DType dtype, std::vector<std::int64_t> shape, bool swap01 = false);

    bool defined() const { return !bytes_.empty(); }
    std::int64_t numel() const;
    /// Logical view; undefined for a default-constructed tensor.
    TensorView view();

    void set(const std::vector<double>& values);
    std::vector<double> get() const;
    void set_element(std::int64_t index, double value);
    double element(std::int64_t index) const;
    void fill(double value);

    const std::vector<std::byte>& bytes() const { return bytes_; }
    std::vector<std::byte>& bytes() { return bytes_; }
    const std::vector<std::int64_t>& shape() const { return shape_; }

private:
    std::int64_t position(std::int64_t index) const;

    DType dtype_ = DType::kF32;
    std::vector<std::int64_t> shape_;
    bool swap01_ = false;
    std::vector<std::byte> bytes_;
};

/// Memory aligned to 64 bytes, filled with 0xFF (a NaN in f32 and f64), so that scratch content
/// which a run reads without having written it shows in the results.
class AlignedBytes {
public:
    AlignedBytes() = default;
    explicit AlignedBytes(std::size_t size);
    void* data() const { return buffer_.data(); }
    std::size_t size() const { return size_; }
    void poison();
    std::vector<std::byte> copy() const;

private:
    Buffer buffer_;
    std::size_t size_ = 0;
};

}  // namespace carousel::test
