#pragma once

#include <functional>
#include <memory>
#include <string>

#include "bench/core/driver.hpp"
#include "bench/gpu/gpu_side.hpp"
#include "src/backend/cuda/graph_cache.hpp"

// Sides of a card's comparison as contenders of the driver: what a turn is, and what goes untimed.

namespace carousel::bench {

/// Measures between points of a queue.
class QueueTimer {
public:
    virtual ~QueueTimer() = default;
    /// Marks where the queue is now as point `i`, counted from 0.
    virtual void mark(cuda::Queue queue, int i) = 0;
    /// Waits for point `to`; milliseconds from point `from`.
    virtual double between_ms(int from, int to) = 0;
};

/// Where comparisons run.
struct GpuBench {
    std::shared_ptr<cuda::DeviceApi> api;
    cuda::Queue queue;
    QueueTimer* timer = nullptr;
    double turn_ms = 20.0;    ///< of one turn, as near as whole repetitions allow
    int min_repetitions = 4;  ///< of a turn, if one takes less than turn_ms
    std::size_t flush_bytes =
        0;  ///< before each repetition this much is written; 0 = L2 stays warm
    void* flush_memory = nullptr;
};

enum class Replay { kStream, kGraph };
const char* replay_name(Replay replay) noexcept;

/// One side, pass and way of enqueuing.
///
/// Before a backward pass alone, forward runs untimed at the start of each turn, and what it saved is
/// brought back, untimed too, before each repetition of a side whose backward changes it. Repetitions
/// with nothing untimed between them are timed as one.
class GpuContender {
public:
    GpuContender(const GpuBench& bench, GpuSide& side, GpuArena& arena, Pass pass, Replay replay);

    std::string name() const;
    /// Runs twice, records the graph, and finds how many repetitions make a turn. Errors:
    /// Unsupported: the work cannot be recorded, with the reason.
    void warm_up();
    double turn_ms();
    /// As the driver takes it. `check` gives the error of the side's results.
    Contender contender(std::function<double()> check);

private:
    bool backward_alone() const { return pass_ == Pass::kBackward || pass_ == Pass::kBackwardData; }
    void begin_turn();
    void prepare();
    void run();
    double timed_ms(int repetitions);

    GpuBench bench_;
    GpuSide& side_;
    GpuArena& arena_;
    Pass pass_;
    Replay replay_;
    std::shared_ptr<cuda::GraphCache> graphs_;
    std::string key_;
    int repetitions_ = 1;
};

}  // namespace carousel::bench
