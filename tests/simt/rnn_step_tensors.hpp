#pragma once

// Tensors of one recurrent step in the executor's device memory, of a type chosen at run time, with
// exact bounds, any first element and any row stride.

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "carousel/tensor.hpp"
#include "simt/simt.hpp"

namespace carousel::simt {

/// `value` as a tensor of `type` holds it.
double round_to(DType type, double value);

/// Largest error of a stored result, as a multiple of 1 + |value|: the rounding of the type, and for
/// f64 and f32 that of a few operations.
double tolerance(DType type);

/// A matrix with unit column stride. Elements that no (row, column) names stay as allocated, and
/// `gaps_untouched` tells whether they did.
class Rows {
public:
    Rows(DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride,
         std::int64_t offset, const std::string& name);

    void* data() const;
    DType type() const { return type_; }
    std::int64_t stride() const { return stride_; }
    std::int64_t rows() const { return rows_; }
    std::int64_t columns() const { return columns_; }
    const std::string& name() const { return name_; }
    double get(std::int64_t row, std::int64_t column) const;
    void set(std::int64_t row, std::int64_t column, double value) const;
    bool gaps_untouched() const;
    std::vector<std::uint8_t> bytes() const { return buffer_.read(); }

private:
    std::size_t at(std::int64_t row, std::int64_t column) const;

    DType type_;
    std::int64_t rows_, columns_, stride_, offset_;
    std::string name_;
    DeviceBuffer<std::uint8_t> buffer_;
};

/// Where tensors lie: which begin one element late, and what lies between rows that may have gaps.
struct Layout {
    static constexpr int kNone = -1, kAll = -2;
    int late = kNone;  ///< kNone, kAll, or the number of one tensor
    std::int64_t gap = 0;
};

/// All tensors of a test, numbered in the order in which they were made.
class Tensors {
public:
    Tensors(Layout layout, std::uint64_t seed) : layout_(layout), random_(seed) {}

    Rows& dense(DType type, std::int64_t rows, std::int64_t columns, const std::string& name) {
        return make(type, rows, columns, 0, name);
    }
    Rows& strided(DType type, std::int64_t rows, std::int64_t columns, const std::string& name) {
        return make(type, rows, columns, layout_.gap, name);
    }
    /// Uniform in [low, high), rounded to the tensor's type.
    Rows& fill(Rows& tensor, double low, double high);
    double uniform(double low, double high);
    std::int64_t below(std::int64_t count);
    int count() const { return static_cast<int>(tensors_.size()); }
    /// Fails the current test for each tensor whose gaps were written to.
    void expect_gaps_untouched() const;

private:
    Rows& make(DType type, std::int64_t rows, std::int64_t columns, std::int64_t gap,
               const std::string& name);

    Layout layout_;
    std::mt19937_64 random_;
    std::deque<Rows> tensors_;
};

/// Compares elements with an expectation and reports the first that is off, once per tensor.
class Expectation {
public:
    Expectation(const Rows& actual, double scale = 1.0) : actual_(actual), scale_(scale) {}
    ~Expectation();
    void operator()(std::int64_t row, std::int64_t column, double expected);

private:
    const Rows& actual_;
    double scale_;
    std::int64_t wrong_ = 0, seen_ = 0;
    std::string first_;
};

}  // namespace carousel::simt
