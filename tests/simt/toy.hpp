#pragma once

// Toy kernels with one fault each: how they are run and judged.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/cuda/ptx.cuh"
#include "simt/simt.hpp"

namespace carousel::simt {
using cuda::Launch;
using cuda::make_launch;
using testing::HasSubstr;
namespace ptx = cuda_simt::ptx;

struct Args {
    float* x = nullptr;
    float* y = nullptr;
    unsigned* flags = nullptr;
    int n = 0;
};

inline constexpr unsigned kAll = 0xFFFFFFFFU;
inline constexpr int kThreads = 64;

struct Shape {
    cuda::Dim3 grid{1}, block{kThreads};
    unsigned shared_bytes = 0, cluster = 1;
    bool cooperative = false;
};

/// Outcome of one launch: the text of its fault, or the text of its report if that is not clean.
struct Outcome {
    std::string fault;
    Report report;
};

inline Outcome run(void (*kernel)(Args), const Shape& shape, const Options& options) {
    DeviceBuffer<float> x(std::size_t{4096}, "x"), y(std::size_t{4096}, "y");
    std::vector<float> values(4096);
    std::iota(values.begin(), values.end(), 1.0F);
    x.write(values);
    DeviceBuffer<unsigned> flags(std::vector<unsigned>(64), "flags");
    Launch toy = make_launch("toy", kernel, Args{x.data(), y.data(), flags.data(), kThreads},
                             shape.grid, shape.block, shape.shared_bytes);
    toy.cluster = shape.cluster;
    toy.cooperative = shape.cooperative;
    Outcome outcome;
    try {
        outcome.report = launch(toy, options);
    } catch (const KernelError& error) {
        outcome.fault = error.what();
    }
    return outcome;
}

inline Options checked(Policy policy) {
    Options options(policy);
    options.races = true;
    options.races_are_faults = false;
    return options;
}

inline constexpr Policy kPolicies[] = {Policy::kAscending,    Policy::kDescending,
                                       Policy::kRandom,       Policy::kThreadPriority,
                                       Policy::kWarpPriority, Policy::kBlockPriority};

/// Clean under every schedule.
inline void expect_clean(void (*kernel)(Args), const Shape& shape = {}) {
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(kernel, shape, checked(policy));
        EXPECT_EQ(outcome.fault, "") << static_cast<int>(policy);
        EXPECT_EQ(outcome.report.races, 0U) << outcome.report.text();
        EXPECT_EQ(outcome.report.uninitialised, 0U) << outcome.report.text();
    }
}

/// A race under every schedule: what the clocks see does not depend on luck.
inline void expect_race(void (*kernel)(Args), const Shape& shape = {}) {
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(kernel, shape, checked(policy));
        EXPECT_EQ(outcome.fault, "");
        EXPECT_GT(outcome.report.races, 0U) << static_cast<int>(policy);
    }
}

inline void expect_fault(void (*kernel)(Args), const char* text, const Shape& shape = {}) {
    for (const Policy policy : kPolicies) {
        const Outcome outcome = run(kernel, shape, checked(policy));
        EXPECT_THAT(outcome.fault, HasSubstr(text)) << static_cast<int>(policy);
    }
}

#define CAROUSEL_REQUIRE_RACES()                                         \
    if (!can_check_races()) {                                            \
        GTEST_SKIP() << "this build's sanitizers take the hooks' place"; \
    }

}  // namespace carousel::simt
