#include "src/train/window_inputs.hpp"

#include <algorithm>
#include <cstring>

#include "src/backend/ops.hpp"

namespace carousel::train {

namespace {

constexpr std::size_t kAlignBytes = 64;
constexpr std::size_t kKeyBytes = kAlignBytes;  // two numbers, and what keeps the ids aligned

std::size_t aligned(std::size_t bytes) {
    return (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
}

}  // namespace

WindowInputs::WindowInputs(const ModuleContext& context, std::int64_t max_rows)
    : context_(context),
      max_rows_(max_rows),
      ids_bytes_(aligned(static_cast<std::size_t>(max_rows) * sizeof(std::int32_t))),
      chunk_bytes_(kKeyBytes + 2 * ids_bytes_) {}

void WindowInputs::reserve(std::size_t num_chunks) {
    if (num_chunks <= tokens_.size()) return;
    // Doubled: segments of random length soon move it no more.
    const std::size_t room = std::max(num_chunks, 2 * tokens_.size());
    host_.resize(room * chunk_bytes_);
    device_ = Buffer(host_.size(), context_.device(), "token ids of a window");
    tokens_.clear();
    targets_.clear();
    for (std::size_t chunk = 0; chunk < room; ++chunk) {
        std::byte* ids = device_.as<std::byte>() + chunk * chunk_bytes_ + kKeyBytes;
        tokens_.emplace_back(context_, reinterpret_cast<std::int32_t*>(ids), max_rows_);
        targets_.emplace_back(context_, reinterpret_cast<std::int32_t*>(ids + ids_bytes_),
                              max_rows_);
    }
}

void WindowInputs::write(std::size_t chunk, const std::int32_t* tokens, const std::int32_t* targets,
                         std::int64_t rows, std::uint64_t seed, std::uint64_t dropout_step) {
    std::byte* to = host_.data() + chunk * chunk_bytes_;
    const std::uint64_t key[2] = {seed, dropout_step};
    const std::size_t bytes = static_cast<std::size_t>(rows) * sizeof(std::int32_t);
    std::memcpy(to, key, sizeof key);
    std::memcpy(to + kKeyBytes, tokens, bytes);
    if (targets != nullptr) std::memcpy(to + kKeyBytes + ids_bytes_, targets, bytes);
}

void WindowInputs::upload(std::size_t num_chunks) {
    context_.ops().upload(device_.data(), host_.data(), num_chunks * chunk_bytes_);
}

const std::uint64_t* WindowInputs::dropout_key(std::size_t chunk) const {
    return reinterpret_cast<const std::uint64_t*>(device_.as<std::byte>() + chunk * chunk_bytes_);
}

}  // namespace carousel::train
