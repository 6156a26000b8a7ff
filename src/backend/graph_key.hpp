#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace carousel::cuda {

/// Bytes of a graph's key: the shape, and every address that the enqueued work reads or writes.
/// Whoever enqueues appends both, so that moved buffers never meet a graph with their old addresses.
class GraphKey {
public:
    GraphKey& add(std::int64_t value);
    GraphKey& add(double value);
    GraphKey& add(const void* address);
    GraphKey& add(const std::string& text);
    const std::string& bytes() const noexcept { return bytes_; }

private:
    void append(const void* data, std::size_t size);

    std::string bytes_;
};

}  // namespace carousel::cuda
