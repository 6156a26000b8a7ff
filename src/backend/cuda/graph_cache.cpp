#include "src/backend/cuda/graph_cache.hpp"

#include <cstring>
#include <iterator>
#include <utility>

#include "carousel/error.hpp"

namespace carousel::cuda {

namespace {

// Keys that were run and have no graph. They cost some hundred bytes each; a caller with more shapes
// than this in turn gets no graph for the oldest.
constexpr std::size_t kMaxPlainKeys = 1024;

}  // namespace

GraphCache::GraphCache(std::shared_ptr<DeviceApi> api, std::size_t max_bytes)
    : api_(std::move(api)), max_bytes_(max_bytes) {}

GraphCache::~GraphCache() { clear(); }

void GraphCache::clear() noexcept {
    while (!entries_.empty()) drop(entries_.begin());
}

void GraphCache::drop(Entries::iterator entry) noexcept {
    if (entry->graph != nullptr) {
        api_->release_graph(entry->graph);
        bytes_ -= entry->bytes;
        --num_graphs_;
    }
    by_key_.erase(entry->key);
    entries_.erase(entry);
}

// The entry of a key, made if need be, at the front.
GraphCache::Entry& GraphCache::touch(const std::string& key) {
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
        entries_.splice(entries_.begin(), entries_, found->second);
        return entries_.front();
    }
    entries_.push_front({});
    entries_.front().key = key;
    try {
        by_key_.emplace(key, entries_.begin());
    } catch (...) {
        entries_.pop_front();
        throw;
    }
    if (entries_.size() - num_graphs_ > kMaxPlainKeys) {
        auto oldest = std::prev(entries_.end());
        while (oldest->graph != nullptr) --oldest;
        drop(oldest);
    }
    return entries_.front();
}

bool GraphCache::run(const std::string& key, Queue queue, const Enqueue& enqueue) {
    if (const auto found = by_key_.find(key);
        found != by_key_.end() && found->second->graph != nullptr) {
        Entry& entry = touch(key);
        api_->launch_graph(queue, entry.graph);
        ++entry.replays;
        return true;
    }
    enqueue(queue);
    // Only now: a key whose first run failed has not been warmed up.
    touch(key);
    return false;
}

// Ends the recording on every path. Null and a reason if the device could not record.
void* GraphCache::record(Queue queue, const Enqueue& enqueue, std::string& refused) {
    api_->begin_capture(queue);
    try {
        enqueue(queue);
    } catch (...) {
        try {
            api_->end_capture(queue, false);
        } catch (...) {  // NOLINT(bugprone-empty-catch)
            // What `enqueue` threw says more.
        }
        try {
            throw;
        } catch (const Error& error) {
            // The same work was enqueued plainly before: it is recording that CUDA refuses.
            if (error.code() != ErrorCode::kCuda) throw;
            refused = error.what();
            return nullptr;
        }
    }
    try {
        void* graph = api_->end_capture(queue, true);
        if (graph == nullptr) refused = "the device could not record it";
        return graph;
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kDeviceLost) throw;
        refused = error.what();
        return nullptr;
    }
}

void GraphCache::make_room(std::size_t bytes, const Entry& for_entry) {
    for (auto entry = entries_.end(); entry != entries_.begin() && bytes_ + bytes > max_bytes_;) {
        --entry;
        if (entry->graph == nullptr || &*entry == &for_entry) continue;
        const auto dropped = entry++;
        drop(dropped);
    }
}

bool GraphCache::keep(Entry& entry, void* graph) {
    const std::int64_t nodes = api_->graph_nodes(graph);
    const std::size_t bytes = api_->graph_bytes(graph);
    if (nodes > kMaxGraphNodes) {
        entry.refused =
            std::to_string(nodes) + " nodes; graphs have up to " + std::to_string(kMaxGraphNodes);
    } else if (bytes > max_bytes_) {
        entry.refused =
            std::to_string(bytes) + " bytes; this cache holds up to " + std::to_string(max_bytes_);
    }
    if (!entry.refused.empty()) {
        api_->release_graph(graph);
        return false;
    }
    make_room(bytes, entry);
    entry.graph = graph;
    entry.nodes = nodes;
    entry.bytes = bytes;
    bytes_ += bytes;
    ++num_graphs_;
    return true;
}

bool GraphCache::prepare(const std::string& key, Queue queue, const Enqueue& enqueue) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) {
        throw Error(ErrorCode::kInvalidArgument,
                    "a graph is prepared for work that was not run before, or so long ago that it "
                    "is forgotten; run it once first");
    }
    Entry& entry = touch(key);
    if (entry.graph != nullptr) return true;
    // Sizes do not change with a second try.
    if (!entry.refused.empty()) return false;
    void* graph = record(queue, enqueue, entry.refused);
    return graph != nullptr && keep(entry, graph);
}

bool GraphCache::knows(const std::string& key) const { return by_key_.count(key) > 0; }

bool GraphCache::holds(const std::string& key) const {
    const auto found = by_key_.find(key);
    return found != by_key_.end() && found->second->graph != nullptr;
}

std::string GraphCache::describe() const {
    std::string text = std::to_string(num_graphs_) + " graphs, " + std::to_string(bytes_) + " of " +
                       std::to_string(max_bytes_) + " bytes\n";
    for (const Entry& entry : entries_) {
        // The key is bytes; its hash tells one from another.
        const std::string name = "  key " + std::to_string(std::hash<std::string>{}(entry.key));
        if (entry.graph != nullptr) {
            text += name + ": " + std::to_string(entry.nodes) + " nodes, " +
                    std::to_string(entry.bytes) + " bytes, replayed " +
                    std::to_string(entry.replays) + " times\n";
        } else if (!entry.refused.empty()) {
            text += name + ": no graph: " + entry.refused + "\n";
        }
    }
    return text;
}

}  // namespace carousel::cuda
