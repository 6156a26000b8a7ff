#include "simt/rnn_step_tensors.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace carousel::simt {
namespace {

template <class S>
double load_as(const std::uint8_t* from) {
    S value;
    std::memcpy(static_cast<void*>(&value), from, sizeof(S));
    if constexpr (std::is_same_v<S, __nv_bfloat16>) return __bfloat162float(value);
    if constexpr (std::is_same_v<S, __half>) return __half2float(value);
    return static_cast<double>(value);
}

template <class S>
void store_as(std::uint8_t* to, double value) {
    S stored;
    if constexpr (std::is_same_v<S, __nv_bfloat16>) {
        stored = __float2bfloat16_rn(static_cast<float>(value));
    } else if constexpr (std::is_same_v<S, __half>) {
        stored = __float2half_rn(static_cast<float>(value));
    } else {
        stored = static_cast<S>(value);
    }
    std::memcpy(to, &stored, sizeof(S));
}

double load(DType type, const std::uint8_t* from) {
    switch (type) {
        case DType::kF64:
            return load_as<double>(from);
        case DType::kBf16:
            return load_as<__nv_bfloat16>(from);
        case DType::kF16:
            return load_as<__half>(from);
        default:
            return load_as<float>(from);
    }
}

void store(DType type, std::uint8_t* to, double value) {
    switch (type) {
        case DType::kF64:
            return store_as<double>(to, value);
        case DType::kBf16:
            return store_as<__nv_bfloat16>(to, value);
        case DType::kF16:
            return store_as<__half>(to, value);
        default:
            return store_as<float>(to, value);
    }
}

}  // namespace

double round_to(DType type, double value) {
    std::uint8_t bytes[8];
    store(type, bytes, value);
    return load(type, bytes);
}

double tolerance(DType type) {
    switch (type) {
        case DType::kF64:
            return 1e-13;
        case DType::kBf16:
            return 0x1p-8;
        case DType::kF16:
            return 0x1p-11;
        default:
            return 4e-6;
    }
}

Rows::Rows(DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride,
           std::int64_t offset, const std::string& name)
    : type_(type),
      rows_(rows),
      columns_(columns),
      stride_(stride),
      offset_(offset),
      name_(name),
      buffer_(static_cast<std::size_t>(offset + (rows - 1) * stride + columns) * dtype_bytes(type),
              name.c_str()) {}

void* Rows::data() const { return buffer_.data() + at(0, 0); }

std::size_t Rows::at(std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>(offset_ + row * stride_ + column) * dtype_bytes(type_);
}

double Rows::get(std::int64_t row, std::int64_t column) const {
    return load(type_, buffer_.data() + at(row, column));
}

void Rows::set(std::int64_t row, std::int64_t column, double value) const {
    store(type_, buffer_.data() + at(row, column), value);
}

bool Rows::gaps_untouched() const {
    const auto untouched = [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            if (buffer_[i] != 0xFF) return false;
        return true;
    };
    bool all = untouched(0, at(0, 0));
    for (std::int64_t row = 0; row + 1 < rows_; ++row)
        all = all && untouched(at(row, columns_), at(row + 1, 0));
    return all;
}

Rows& Tensors::make(DType type, std::int64_t rows, std::int64_t columns, std::int64_t gap,
                    const std::string& name) {
    const bool late = layout_.late == Layout::kAll || layout_.late == count();
    return tensors_.emplace_back(type, rows, columns, columns + gap, late ? 1 : 0, name);
}

double Tensors::uniform(double low, double high) {
    return low + (high - low) * std::ldexp(static_cast<double>(random_() >> 11), -53);
}

std::int64_t Tensors::below(std::int64_t count) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(count));
}

Rows& Tensors::fill(Rows& tensor, double low, double high) {
    for (std::int64_t row = 0; row < tensor.rows(); ++row)
        for (std::int64_t column = 0; column < tensor.columns(); ++column)
            tensor.set(row, column, uniform(low, high));
    return tensor;
}

void Tensors::expect_gaps_untouched() const {
    for (const Rows& tensor : tensors_)
        EXPECT_TRUE(tensor.gaps_untouched()) << tensor.name() << ": written outside its elements";
}

void Expectation::operator()(std::int64_t row, std::int64_t column, double expected) {
    ++seen_;
    const double found = actual_.get(row, column);
    const double bound = scale_ * tolerance(actual_.type()) * (1.0 + std::abs(expected));
    if (std::abs(found - expected) <= bound) return;  // false for NaN
    if (wrong_++ == 0) {
        first_ = "[" + std::to_string(row) + "," + std::to_string(column) + "] is " +
                 std::to_string(found) + ", expected " + std::to_string(expected);
    }
}

Expectation::~Expectation() {
    EXPECT_EQ(wrong_, 0) << "of " << seen_ << " elements of " << actual_.name() << ": " << first_;
}

}  // namespace carousel::simt
