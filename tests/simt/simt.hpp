#pragma once

// Runs the real source of a CUDA kernel on the CPU: one fiber per thread, a schedule that is chosen,
// device memory with exact bounds, and on request a race checker. For tests only.
//
//   for (const simt::Options& options : simt::schedules(2)) {
//       simt::DeviceBuffer<float> x(values, "x"), y(n, "y");
//       const simt::Report report = simt::launch(cuda_simt::scale(x.data(), y.data(), n), options);
//       EXPECT_EQ(report.races, 0) << report.text();
//   }

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cuda/launch.hpp"
#include "simt/memory.hpp"

namespace carousel::simt {

/// Which runnable thread goes on whenever one stops.
enum class Policy {
    kAscending,       ///< lowest block and thread first
    kDescending,      ///< highest first
    kRandom,          ///< any, anew each time
    kThreadPriority,  ///< a random order of threads, fixed for the launch
    kWarpPriority,    ///< a random order of warps: one runs as far ahead as it can
    kBlockPriority,   ///< a random order of blocks
};

/// Defaults come from the environment, so that one build of the tests runs many ways:
/// CAROUSEL_SIMT_SCHEDULE (ascending, descending, random, thread, warp, block), CAROUSEL_SIMT_SEED,
/// CAROUSEL_SIMT_RACES=1.
struct Options {
    Options();
    explicit Options(Policy chosen, std::uint64_t chosen_seed = 1);

    Policy policy = Policy::kAscending;
    std::uint64_t seed = 1;
    /// Check every access against vector clocks; needs sources compiled with -fsanitize=thread.
    bool races = false;
    /// Throw KernelError on the first launch whose report is not clean; what CAROUSEL_SIMT_RACES=1
    /// sets, so that tests which do not look at their reports are checked, too.
    bool races_are_faults = false;
    /// Blocks of a plain launch that run at once: a card promises no more than one.
    unsigned resident_blocks = 2;
};

/// `count` schedules that differ: descending, random priority by warp, random, ascending, ...; the
/// other options are the default ones.
std::vector<Options> schedules(int count);

/// The first fault of a launch, with kernel, block, thread and line. The launch was given up.
class KernelError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct Report {
    std::uint64_t threads = 0;          ///< that ran
    std::uint64_t races = 0;            ///< conflicting accesses that nothing orders
    std::uint64_t uninitialised = 0;    ///< reads of shared memory that nothing had written
    std::vector<std::string> messages;  ///< the first few of either, one per pair of lines
    std::string text() const;
};

/// Runs all threads of `launch`. Throws KernelError.
Report launch(const cuda::Launch& launch, const Options& options = {});

/// Whether this build can check for races.
bool can_check_races();

/// Bytes of device memory of exactly the asked-for size, all ones at first.
template <class T>
class DeviceBuffer {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    DeviceBuffer(std::size_t count, const char* name)
        : data_(static_cast<T*>(allocate(count * sizeof(T), name))), count_(count) {}
    DeviceBuffer(std::span<const T> values, const char* name) : DeviceBuffer(values.size(), name) {
        write(values);
    }
    DeviceBuffer(const std::vector<T>& values, const char* name)
        : DeviceBuffer(std::span<const T>(values), name) {}
    DeviceBuffer(DeviceBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(count_, other.count_);
        return *this;
    }
    ~DeviceBuffer() { release(data_); }

    T* data() const { return data_; }
    T* get() const { return data_; }
    std::size_t size() const { return count_; }
    T& operator[](std::size_t i) const { return data_[i]; }
    std::vector<T> read() const { return std::vector<T>(data_, data_ + count_); }
    void write(std::span<const T> values) const {
        if (values.size() != count_) {
            throw std::invalid_argument("DeviceBuffer: as many values as elements are needed");
        }
        for (std::size_t i = 0; i < count_; ++i) {
            data_[i] = values[i];
        }
    }
    /// Writes of kernels to this buffer become faults.
    void read_only(bool on = true) const { set_read_only(data_, on); }

private:
    T* data_ = nullptr;
    std::size_t count_ = 0;
};

}  // namespace carousel::simt

namespace simt = carousel::simt;  // NOLINT: tests name it from the global namespace, too
