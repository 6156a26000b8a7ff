// Shared memory: a window of addresses per resident block, dynamic first, then the static arrays with
// red zones between them.

#include <algorithm>
#include <cstring>

#include "simt/executor.hpp"

namespace carousel::simt {

namespace {

constexpr std::size_t kMaxStaticBytes = 48 << 10;  // that ptxas accepts

/// Windows of shared memory, kept from launch to launch.
std::vector<Allocation*>& idle_windows() {
    static auto* windows = new std::vector<Allocation*>;
    return *windows;
}

}  // namespace

/// The memory has a new block: what was recorded of it is over.
void Executor::forget_races(Block* block) {
    if (block->window != nullptr && block->window->races != nullptr) {
        block->window->races->launch = 0;
    }
}

void Executor::give_back_window(Block* block) {
    if (block->window != nullptr) {
        set_valid(block->window->begin, block->window->bytes, false);
        idle_windows().push_back(block->window);
        block->window = nullptr;
    }
}

void Executor::make_window(Block* block) {
    if (block->window != nullptr) {
        return;
    }
    if (idle_windows().empty()) {
        constexpr std::size_t kArrays = 256;  // red zones between static arrays
        idle_windows().push_back(
            allocate_window(kMaxSharedBytes + kMaxStaticBytes + kArrays * kRedZoneBytes));
    }
    block->window = idle_windows().back();
    idle_windows().pop_back();
    block->window->owner = block->slot;
    forget_races(block);
}

void* Executor::static_shared(const void* key, std::size_t bytes, std::size_t align,
                              const char* name) {
    Block* block = current_->block;
    std::size_t i = 0;
    while (i < statics_.size() && statics_[i].key != key) {
        ++i;
    }
    if (i == statics_.size()) {
        const std::size_t end = statics_.empty() ? (launch_.shared_bytes + 127) / 128 * 128
                                                 : statics_.back().offset + statics_.back().bytes;
        const std::size_t step = std::max<std::size_t>(align, 128);
        statics_.push_back({key, (end + kRedZoneBytes + step - 1) / step * step, bytes, name});
        static_bytes_ += bytes;
        if (static_bytes_ > kMaxStaticBytes ||
            static_bytes_ + launch_.shared_bytes > kMaxSharedBytes) {
            fail("shared array '" + std::string(name) + "' brings the block to " +
                     std::to_string(static_bytes_) + " static bytes",
                 "");
        }
    }
    make_window(block);
    auto* data = reinterpret_cast<std::byte*>(block->window->begin + statics_[i].offset);
    if (block->static_ready.size() <= i) {
        block->static_ready.resize(i + 1);
    }
    if (block->static_ready[i] == 0) {
        block->static_ready[i] = 1;
        set_valid(block->window->begin + statics_[i].offset, bytes, true);
        std::memset(data, 0xFF, bytes);
    }
    return data;
}

void* Executor::dynamic_shared() {
    if (launch_.shared_bytes == 0) {
        fail("uses dynamic shared memory; the launch gives it none", "");
    }
    return reinterpret_cast<void*>(current_->block->window->begin);
}

}  // namespace carousel::simt
