#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "carousel/export.hpp"

namespace carousel {

enum class DeviceType : int { kCpu = 0, kCuda = 1 };

/// Where tensors live and work runs. A plain value.
struct CAROUSEL_API Device {
    DeviceType type = DeviceType::kCpu;
    int index = 0;

    static Device cpu() noexcept { return {}; }
    static Device cuda(int index = 0) noexcept { return {DeviceType::kCuda, index}; }
    /// The first CUDA device that plans of this build can run on, else the CPU.
    static Device best();
    /// Parses "cpu", "cuda", "cuda:1" or "auto" (= best()). InvalidArgument on anything else.
    static Device parse(const std::string& text);
    std::string name() const;

    friend bool operator==(const Device& a, const Device& b) noexcept {
        return a.type == b.type && a.index == b.index;
    }
    friend bool operator!=(const Device& a, const Device& b) noexcept { return !(a == b); }
};

/// True if a plan for `device` can run in this process; else `*why` (if given) gets a sentence.
CAROUSEL_API bool device_usable(const Device& device, std::string* why = nullptr);

/// Waits for all that was enqueued on the library's own stream of `device`, then asks what the kernels
/// met in data that only they can see. CPU calls have done their work when they return.
///
/// Errors   InvalidArgument: a length outside [0, T], a token id or a target outside the vocabulary was
///          in device memory since the last call; the kernels clamped or ignored it, and the report is
///          cleared. Unsupported: the device cannot be used. DeviceLost.
CAROUSEL_API void synchronize(const Device& device);

/// A fixed team of CPU threads. The calling thread is member 0; the others spin briefly for work,
/// then yield, then sleep. Plans and modules that share one pool take turns on it; different pools
/// run concurrently.
class CAROUSEL_API ThreadPool {
public:
    /// `num_threads` >= 1, the caller included; 0 means one per usable core.
    explicit ThreadPool(int num_threads = 0);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int num_threads() const noexcept;

    struct Impl;
    Impl& impl() noexcept { return *impl_; }

private:
    std::unique_ptr<Impl> impl_;
};

/// View of the queue that work is enqueued on: a `cudaStream_t` for CUDA devices (null = the
/// library's own stream), ignored on the CPU, where every call returns when its work is done.
struct StreamRef {
    void* native = nullptr;
};

}  // namespace carousel
