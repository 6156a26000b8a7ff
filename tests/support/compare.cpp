#include "tests/support/compare.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace carousel::test {

double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (actual.size() != expected.size()) return kInfinity;
    double difference = 0.0;
    double norm = 0.0;
    for (std::size_t e = 0; e < expected.size(); ++e) {
        difference += (actual[e] - expected[e]) * (actual[e] - expected[e]);
        norm += expected[e] * expected[e];
    }
    if (difference == 0.0 && std::isfinite(norm)) return 0.0;
    const double error = std::sqrt(difference / norm);
    return std::isfinite(error) ? error : kInfinity;
}

double tolerance(DType dtype, std::int64_t seq_len) {
    const double unit = dtype == DType::kF64 ? 1e-12 : 1e-5;
    return unit * std::sqrt(std::max(1.0, static_cast<double>(seq_len) / 100.0));
}

void expect_close(const NamedTensors& actual, const NamedTensors& expected, double limit) {
    for (const auto& [name, values] : expected) {
        const auto found = actual.find(name);
        if (found == actual.end()) {
            ADD_FAILURE() << name << " is missing";
            continue;
        }
        EXPECT_LE(relative_error(found->second, values), limit) << "tensor " << name;
    }
    for (const auto& entry : actual) {
        EXPECT_EQ(expected.count(entry.first), 1U) << entry.first << " is not expected";
    }
}

void expect_same_bits(const NamedTensors& actual, const NamedTensors& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (const auto& [name, values] : expected) {
        const auto found = actual.find(name);
        ASSERT_NE(found, actual.end()) << name << " is missing";
        ASSERT_EQ(found->second.size(), values.size()) << name;
        EXPECT_EQ(std::memcmp(found->second.data(), values.data(), values.size() * sizeof(double)),
                  0)
            << "tensor " << name << " differs in some bit";
    }
}

NamedTensors only(const NamedTensors& all, const std::vector<std::string>& names) {
    NamedTensors some;
    for (const std::string& name : names) {
        const auto found = all.find(name);
        if (found != all.end()) some.insert(*found);
    }
    return some;
}

}  // namespace carousel::test
