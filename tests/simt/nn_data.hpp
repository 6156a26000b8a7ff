#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/kernel_table.hpp"
#include "kernels/cuda/rnn_args.hpp"
#include "simt/simt.hpp"

// What the tests of the training layer's kernels share: tensors of any dtype in the executor's device
// memory, and the runs that every kernel goes through.

namespace carousel::test {

inline const std::vector<DType> kNnDtypes = {DType::kF64, DType::kF32, DType::kBf16, DType::kF16};

inline const cuda::NnLaunchers& nn() { return cuda_simt::nn_launchers(); }

/// x as a tensor of `dtype` holds it.
double rounded(double x, DType dtype);
std::vector<double> rounded(std::vector<double> x, DType dtype);
/// Half a unit in the last place of a number near 1, for tolerances; 2^-24 and 2^-53 for f32 and f64.
double unit_roundoff(DType dtype);
/// f64 for f64, else f32.
DType wide_dtype(DType dtype);

/// A tensor of exactly its size in device memory, `offset` elements behind an aligned address.
class NnTensor {
public:
    NnTensor(DType dtype, std::size_t numel, const char* name, std::size_t offset = 0);
    NnTensor(DType dtype, const std::vector<double>& values, const char* name,
             std::size_t offset = 0);
    void* data() const { return memory_.data() + offset_ * dtype_bytes(dtype_); }
    std::vector<double> read() const;
    void write(const std::vector<double>& values) const;

private:
    DType dtype_;
    std::size_t numel_, offset_;
    simt::DeviceBuffer<std::byte> memory_;
};

/// Three schedules that differ; the last is race-checked where this build can.
std::vector<simt::Options> nn_schedules();
/// Runs a launch; fails on a race or a read of memory that nothing wrote.
void run(const cuda::Launch& launch, const simt::Options& options);

/// `count` numbers in [-scale, scale) that repeat no short pattern, a function of the seed.
std::vector<double> numbers(std::size_t count, std::uint64_t seed, double scale = 1.0);
std::vector<std::int32_t> ids(std::size_t count, std::int64_t limit, std::uint64_t seed);

/// |actual - expected| <= limit * max(1, |expected|), element by element; NaN equals NaN.
void expect_near(const std::vector<double>& actual, const std::vector<double>& expected,
                 double limit, const std::string& what);
void expect_equal(const std::vector<double>& actual, const std::vector<double>& expected,
                  const std::string& what);

/// Runs body(dtype, offset, options) for every dtype, aligned and offset by one element, and for
/// every schedule, under a trace that names them.
template <class Body>
void for_every_case(Body&& body) {
    for (const DType dtype : kNnDtypes) {
        for (const std::size_t offset : {std::size_t{0}, std::size_t{1}}) {
            int schedule = 0;
            for (const simt::Options& options : nn_schedules()) {
                SCOPED_TRACE(std::string(dtype_name(dtype)) + ", offset " + std::to_string(offset) +
                             ", schedule " + std::to_string(schedule++));
                body(dtype, offset, options);
            }
        }
    }
}

}  // namespace carousel::test
