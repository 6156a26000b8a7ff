#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "carousel/module.hpp"

namespace carousel::train {

/// What differs from window to window and must be where kernels read it: token ids, targets and
/// dropout keys of each chunk. They lie side by side in one block of device memory, at addresses that
/// stay, and go there in one copy.
class WindowInputs {
public:
    /// Chunks of up to `max_rows` ids.
    WindowInputs(const ModuleContext& context, std::int64_t max_rows);

    /// Makes room for `num_chunks` chunks; moves the block if there was less.
    void reserve(std::size_t num_chunks);
    /// Puts a chunk in its place in host memory; `targets` null = none. `rows` up to max_rows.
    void write(std::size_t chunk, const std::int32_t* tokens, const std::int32_t* targets,
               std::int64_t rows, std::uint64_t seed, std::uint64_t dropout_step);
    /// Enqueues the copy of the first `num_chunks` chunks to the device.
    void upload(std::size_t num_chunks);

    const IdBuffer& tokens(std::size_t chunk) const { return tokens_[chunk]; }
    const IdBuffer& targets(std::size_t chunk) const { return targets_[chunk]; }
    /// Seed and step [2], in device memory.
    const std::uint64_t* dropout_key(std::size_t chunk) const;
    const void* data() const noexcept { return device_.data(); }

private:
    ModuleContext context_;
    std::int64_t max_rows_;
    std::size_t ids_bytes_, chunk_bytes_;
    Buffer device_;
    std::vector<std::byte> host_;
    std::vector<IdBuffer> tokens_, targets_;  ///< views into device_
};

}  // namespace carousel::train
