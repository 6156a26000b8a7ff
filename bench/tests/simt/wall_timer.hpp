#pragma once

#include <chrono>
#include <vector>

#include "bench/gpu/gpu_venue.hpp"
#include "tests/simt/simt_device.hpp"

namespace carousel::bench {

/// Time of the CPU that executes the kernels.
class WallTimer final : public QueueTimer {
public:
    explicit WallTimer(simt::Device& device) : device_(device) {}
    void mark(cuda::Queue queue, int i) override {
        device_.synchronize(queue);
        if (points_.size() <= static_cast<std::size_t>(i)) {
            points_.resize(static_cast<std::size_t>(i) + 1);
        }
        points_[static_cast<std::size_t>(i)] = std::chrono::steady_clock::now();
    }
    double between_ms(int from, int to) override {
        return std::chrono::duration<double, std::milli>(points_[static_cast<std::size_t>(to)] -
                                                         points_[static_cast<std::size_t>(from)])
            .count();
    }

private:
    simt::Device& device_;
    std::vector<std::chrono::steady_clock::time_point> points_;
};

}  // namespace carousel::bench
