#pragma once

// The conformance kernels (kernels/cuda/conformance.hpp) as a text file: fixed inputs in, results of
// every case out. Independent of GoogleTest and of the SIMT executor, so that a program on a card
// writes the golden file with the launches that nvcc compiled:
//
//   ConformanceDevice device{.allocate = ..., .upload = ..., .run = ..., .download = ...};
//   dump_conformance(cuda::conformance_cases(), device, sm, file);

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/conformance.hpp"

namespace carousel::simt {

/// What a device must be able to do; each call returns when it is done.
struct ConformanceDevice {
    std::function<void*(std::size_t bytes)> allocate;
    std::function<void(void* data)> release;
    std::function<void(void* to, const void* from, std::size_t bytes)> upload;
    std::function<void(void* to, const void* from, std::size_t bytes)> download;
    std::function<void(const cuda::Launch& launch)> run;
};

/// Input of a case: the same words everywhere.
std::vector<std::uint32_t> conformance_input(const cuda::ConformanceCase& test);

/// Runs one case and returns its words.
std::vector<std::uint32_t> run_conformance(const cuda::ConformanceCase& test,
                                           const ConformanceDevice& device);

/// Results by name of case.
using ConformanceResults = std::map<std::string, std::vector<std::uint32_t>>;

/// Runs the cases that a card of compute capability `sm` (80, 90, ...) has, and writes their results.
void dump_conformance(std::span<const cuda::ConformanceCase> cases, const ConformanceDevice& device,
                      int sm, std::ostream& out);

/// Throws std::runtime_error on a file that dump_conformance has not written.
ConformanceResults read_conformance(std::istream& in);

/// Empty if `found` is what `expected` says: equal words, or for sums in floating point, as near as
/// two orders of rounding allow. Otherwise the first difference.
std::string compare_conformance(const cuda::ConformanceCase& test,
                                const std::vector<std::uint32_t>& found,
                                const std::vector<std::uint32_t>& expected);

}  // namespace carousel::simt
