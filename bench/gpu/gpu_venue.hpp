#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/core/venue.hpp"
#include "src/backend/cuda/device_api.hpp"

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

enum class Replay { kStream, kGraph };
const char* replay_name(Replay replay) noexcept;

/// A queue of a card. Each side runs as a replayed graph and as plain launches.
///
/// Before a backward pass alone, forward runs untimed at the start of each turn, and what it saved is
/// brought back, untimed too, before each repetition of a side whose backward changes it. Repetitions
/// with nothing untimed between them are timed as one.
class GpuVenue final : public Venue {
public:
    std::shared_ptr<cuda::DeviceApi> api;
    cuda::Queue queue;
    QueueTimer* timer = nullptr;
    double turn_ms = 20.0;        ///< of one turn, as near as whole repetitions allow
    int min_repetitions = 4;      ///< of a turn, if one takes less than turn_ms
    std::size_t flush_bytes = 0;  ///< written before each repetition; 0 = L2 stays warm
    void* flush_memory = nullptr;

    Device device() const override { return api->device(); }
    StreamRef stream() const override { return {queue.native}; }
    void wait() override { api->synchronize(queue); }
    /// Graph, then stream. Errors of the graph's warm_up: Unsupported: the work cannot be recorded,
    /// with the reason.
    std::vector<Contender> contenders(Side& side, Arena& arena, Pass pass) override;
    /// As a graph, where the work can be recorded: plain launches say how fast the host is.
    double trial_ms(Side& side, Arena& arena, Pass pass) override;
    bool replays() const override { return true; }
    bool flushes_caches() const override { return flush_bytes > 0; }
};

}  // namespace carousel::bench
