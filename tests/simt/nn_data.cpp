#include "simt/nn_data.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>

namespace carousel::test {

namespace {

template <class T>
void put(std::byte* to, T value) {
    std::memcpy(to, &value, sizeof value);
}
template <class T>
T get(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

void put_number(std::byte* to, DType dtype, double x) {
    switch (dtype) {
        case DType::kF64:
            return put(to, x);
        case DType::kBf16:
            return put(to, __float2bfloat16_rn(static_cast<float>(x)));
        case DType::kF16:
            return put(to, __float2half_rn(static_cast<float>(x)));
        default:
            return put(to, static_cast<float>(x));
    }
}

double get_number(const std::byte* from, DType dtype) {
    switch (dtype) {
        case DType::kF64:
            return get<double>(from);
        case DType::kBf16:
            return static_cast<double>(__bfloat162float(get<__nv_bfloat16>(from)));
        case DType::kF16:
            return static_cast<double>(__half2float(get<__half>(from)));
        default:
            return static_cast<double>(get<float>(from));
    }
}

std::uint64_t next_random(std::uint64_t& state) {
    state += 0x9E3779B97F4A7C15ULL;  // splitmix64
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

}  // namespace

double rounded(double x, DType dtype) {
    std::byte bytes[8];
    put_number(bytes, dtype, x);
    return get_number(bytes, dtype);
}

std::vector<double> rounded(std::vector<double> x, DType dtype) {
    for (double& value : x) value = rounded(value, dtype);
    return x;
}

double unit_roundoff(DType dtype) {
    switch (dtype) {
        case DType::kF64:
            return std::ldexp(1.0, -53);
        case DType::kBf16:
            return std::ldexp(1.0, -9);
        case DType::kF16:
            return std::ldexp(1.0, -12);
        default:
            return std::ldexp(1.0, -24);
    }
}

DType wide_dtype(DType dtype) { return dtype == DType::kF64 ? DType::kF64 : DType::kF32; }

NnTensor::NnTensor(DType dtype, std::size_t numel, const char* name, std::size_t offset)
    : dtype_(dtype),
      numel_(numel),
      offset_(offset),
      memory_((numel + offset) * dtype_bytes(dtype), name) {}

NnTensor::NnTensor(DType dtype, const std::vector<double>& values, const char* name,
                   std::size_t offset)
    : NnTensor(dtype, values.size(), name, offset) {
    write(values);
}

void NnTensor::write(const std::vector<double>& values) const {
    auto* bytes = static_cast<std::byte*>(data());
    const std::size_t element = dtype_bytes(dtype_);
    for (std::size_t i = 0; i < values.size(); ++i) {
        put_number(bytes + i * element, dtype_, values[i]);
    }
}

std::vector<double> NnTensor::read() const {
    const auto* bytes = static_cast<const std::byte*>(data());
    std::vector<double> values(numel_);
    for (std::size_t i = 0; i < numel_; ++i) {
        values[i] = get_number(bytes + i * dtype_bytes(dtype_), dtype_);
    }
    return values;
}

std::vector<simt::Options> nn_schedules() {
    std::vector<simt::Options> all = simt::schedules(3);
    all.back().races = simt::can_check_races();
    return all;
}

void run(const cuda::Launch& launch, const simt::Options& options) {
    const simt::Report report = simt::launch(launch, options);
    EXPECT_EQ(report.races, 0U) << launch.kernel << ": " << report.text();
    EXPECT_EQ(report.uninitialised, 0U) << launch.kernel << ": " << report.text();
}

std::vector<double> numbers(std::size_t count, std::uint64_t seed, double scale) {
    std::vector<double> values(count);
    std::uint64_t state = seed;
    for (double& value : values) {
        value = (static_cast<double>(next_random(state) >> 11) * 0x1.0p-52 - 1.0) * scale;
    }
    return values;
}

std::vector<std::int32_t> ids(std::size_t count, std::int64_t limit, std::uint64_t seed) {
    std::vector<std::int32_t> values(count);
    std::uint64_t state = seed;
    for (std::int32_t& value : values) {
        value = static_cast<std::int32_t>(next_random(state) % static_cast<std::uint64_t>(limit));
    }
    return values;
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected,
                 double limit, const std::string& what) {
    ASSERT_EQ(actual.size(), expected.size()) << what;
    for (std::size_t i = 0; i < actual.size(); ++i) {
        if (std::isnan(actual[i]) && std::isnan(expected[i])) continue;
        const double error = std::abs(actual[i] - expected[i]);
        ASSERT_LE(error, limit * std::max(1.0, std::abs(expected[i])))
            << what << "[" << i << "] is " << actual[i] << ", not " << expected[i];
    }
}

void expect_equal(const std::vector<double>& actual, const std::vector<double>& expected,
                  const std::string& what) {
    expect_near(actual, expected, 0.0, what);
}

}  // namespace carousel::test
