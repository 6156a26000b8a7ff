#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "src/backend/cuda/device_api.hpp"
#include "src/backend/graph_key.hpp"

namespace carousel::cuda {

/// Recorded work of one device, by key. Thread-compatible: calls come from one thread at a time.
///
/// The first run of a key enqueues as it is: kernels are loaded and algorithms chosen then, which must
/// not happen while recording. prepare() after it records; runs after that replay. A graph stays
/// until others that were used later need its memory.
///
/// Lengths, masks, learning rates, counters and random keys are read on the device and do not belong
/// in the key; a replay sees their present values.
class GraphCache {
public:
    using Enqueue = std::function<void(Queue)>;

    /// Device memory for graphs of one cache, if not said.
    static constexpr std::size_t kDefaultBytes = std::size_t{1} << 30;

    explicit GraphCache(std::shared_ptr<DeviceApi> api, std::size_t max_bytes = kDefaultBytes);
    ~GraphCache();
    GraphCache(const GraphCache&) = delete;
    GraphCache& operator=(const GraphCache&) = delete;

    /// Enqueues the work of `key` on `queue`: its graph if prepare() made one (then true), else by
    /// calling `enqueue`. Only enqueues: a caller may record it in a graph of its own.
    bool run(const std::string& key, Queue queue, const Enqueue& enqueue);

    /// Records what `enqueue` does with `queue`, without running it. `key` must have been run once.
    ///
    /// True if a graph is there now. False, with a reason in describe(), if the graph would have more
    /// than kMaxGraphNodes nodes or more bytes than the cache may hold, or if the device could not
    /// record it (a Cuda error, whether `enqueue` met it or the end of the recording); then run()
    /// goes on enqueuing. All else that `enqueue` throws ends the recording and is thrown on; so is a
    /// lost device.
    /// Errors: InvalidArgument: the key was not run before, or no longer known.
    bool prepare(const std::string& key, Queue queue, const Enqueue& enqueue);

    bool knows(const std::string& key) const;  ///< was run, and is not forgotten
    bool holds(const std::string& key) const;  ///< a graph is there
    std::size_t num_graphs() const noexcept { return num_graphs_; }
    std::size_t bytes() const noexcept { return bytes_; }
    /// Graphs and refusals, the latest used first, one line each.
    std::string describe() const;
    void clear() noexcept;

private:
    struct Entry {
        std::string key;
        void* graph = nullptr;
        std::size_t bytes = 0;
        std::int64_t nodes = 0;
        std::uint64_t replays = 0;
        std::string refused;  ///< why there is no graph, after a prepare()
    };
    using Entries = std::list<Entry>;

    Entry& touch(const std::string& key);
    void* record(Queue queue, const Enqueue& enqueue, std::string& refused);
    bool keep(Entry& entry, void* graph);
    void drop(Entries::iterator entry) noexcept;
    void make_room(std::size_t bytes, const Entry& for_entry);

    std::shared_ptr<DeviceApi> api_;
    std::size_t max_bytes_;
    std::size_t bytes_ = 0;
    std::size_t num_graphs_ = 0;
    Entries entries_;  ///< the latest used first
    std::unordered_map<std::string, Entries::iterator> by_key_;
};

}  // namespace carousel::cuda
