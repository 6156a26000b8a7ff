#include "src/backend/cuda/pinned_ring.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "carousel/error.hpp"

namespace carousel::cuda {

PinnedSlots::PinnedSlots(std::shared_ptr<DeviceApi> api, std::size_t slot_bytes, int num_slots,
                         const char* what)
    : api_(std::move(api)), slot_bytes_(slot_bytes) {
    if (slot_bytes == 0 || num_slots < 2) {
        throw Error(ErrorCode::kInternal,
                    std::string(what) + ": a ring of " + std::to_string(num_slots) + " slots of " +
                        std::to_string(slot_bytes) + " bytes; expected at least 2 of 1 byte");
    }
    slots_.resize(static_cast<std::size_t>(num_slots));
    try {
        for (Slot& slot : slots_) {
            slot.memory = api_->allocate_pinned(slot_bytes, what);
            slot.event = api_->make_event();
        }
    } catch (...) {
        release();
        throw;
    }
}

PinnedSlots::~PinnedSlots() { release(); }

void PinnedSlots::release() noexcept {
    for (Slot& slot : slots_) {
        if (slot.pending) {
            try {
                api_->wait_on_host(slot.event);
            } catch (...) {  // NOLINT(bugprone-empty-catch)
                // The device is lost, and with it the copy.
            }
        }
        if (slot.event.native != nullptr) api_->release_event(slot.event);
        if (slot.memory != nullptr) api_->release_pinned(slot.memory);
    }
    slots_.clear();
}

void PinnedSlots::record(std::size_t slot, Queue queue) {
    // Set first: if recording fails, the copy before it is under way all the same.
    slots_[slot].pending = true;
    api_->record(queue, slots_[slot].event);
}

bool PinnedSlots::done(std::size_t slot) {
    if (slots_[slot].pending && api_->done(slots_[slot].event)) slots_[slot].pending = false;
    return !slots_[slot].pending;
}

bool PinnedSlots::wait(std::size_t slot) {
    if (done(slot)) return false;
    api_->wait_on_host(slots_[slot].event);
    slots_[slot].pending = false;
    return true;
}

void PinnedSlots::order_after(std::size_t slot, Queue queue) {
    if (!done(slot)) api_->wait(queue, slots_[slot].event);
}

PinnedRing::PinnedRing(std::shared_ptr<DeviceApi> api, std::size_t slot_bytes, int num_slots)
    : slots_(std::move(api), slot_bytes, num_slots, "page-locked upload slots") {}

void PinnedRing::upload(Queue queue, void* device_to, const void* host_from, std::size_t bytes) {
    auto* to = static_cast<std::byte*>(device_to);
    const auto* from = static_cast<const std::byte*>(host_from);
    while (bytes > 0) {
        const std::size_t part = std::min(bytes, slots_.slot_bytes());
        if (slots_.wait(next_)) ++num_waits_;
        std::memcpy(slots_.memory(next_), from, part);
        slots_.api().copy(queue, to, slots_.memory(next_), part);
        slots_.record(next_, queue);
        next_ = (next_ + 1) % slots_.size();
        to += part;
        from += part;
        bytes -= part;
    }
}

PinnedReadback::PinnedReadback(std::shared_ptr<DeviceApi> api, std::size_t slot_bytes,
                               int num_slots)
    : slots_(std::move(api), slot_bytes, num_slots, "page-locked read-back slots"),
      taken_(slots_.size()) {}

bool PinnedReadback::full() const noexcept { return taken_[next_ % taken_.size()].taken; }

PinnedReadback::Ticket PinnedReadback::read(Queue queue, const void* device_from,
                                            std::size_t bytes) {
    if (bytes > slots_.slot_bytes()) {
        throw Error(ErrorCode::kInvalidArgument, "read-back of " + std::to_string(bytes) +
                                                     " bytes; its slots hold " +
                                                     std::to_string(slots_.slot_bytes()));
    }
    if (full()) {
        throw Error(ErrorCode::kInvalidArgument,
                    "each of the " + std::to_string(slots_.size()) +
                        " read-back slots holds a result; collect or drop the oldest first");
    }
    const std::size_t slot = next_ % slots_.size();
    slots_.order_after(slot, queue);
    slots_.api().copy(queue, slots_.memory(slot), device_from, bytes);
    slots_.record(slot, queue);
    taken_[slot] = {next_, bytes, true};
    return next_++;
}

std::size_t PinnedReadback::slot_of(Ticket ticket) const {
    const std::size_t slot = ticket % taken_.size();
    if (!taken_[slot].taken || taken_[slot].ticket != ticket) {
        throw Error(ErrorCode::kInvalidArgument,
                    "read-back " + std::to_string(ticket) +
                        " is not under way; a result can be collected or dropped once");
    }
    return slot;
}

bool PinnedReadback::ready(Ticket ticket) { return slots_.done(slot_of(ticket)); }

void PinnedReadback::collect(Ticket ticket, void* host_to) {
    const std::size_t slot = slot_of(ticket);
    slots_.wait(slot);
    std::memcpy(host_to, slots_.memory(slot), taken_[slot].bytes);
    taken_[slot].taken = false;
}

void PinnedReadback::drop(Ticket ticket) { taken_[slot_of(ticket)].taken = false; }

}  // namespace carousel::cuda
