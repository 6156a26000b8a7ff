#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/backend/cuda/device_api.hpp"

// Batches, scalars and losses between the host and a device without host synchronisation: slots of
// page-locked memory, each with an event that says when its copy is done.

namespace carousel::cuda {

/// Page-locked slots with an event each, used in turn. Owner of its memory.
class PinnedSlots {
public:
    PinnedSlots(std::shared_ptr<DeviceApi> api, std::size_t slot_bytes, int num_slots,
                const char* what);
    /// Waits for copies under way; a lost device is tolerated.
    ~PinnedSlots();
    PinnedSlots(const PinnedSlots&) = delete;
    PinnedSlots& operator=(const PinnedSlots&) = delete;

    DeviceApi& api() const noexcept { return *api_; }
    std::size_t slot_bytes() const noexcept { return slot_bytes_; }
    std::size_t size() const noexcept { return slots_.size(); }
    void* memory(std::size_t slot) const noexcept { return slots_[slot].memory; }
    /// The slot's copy has just been enqueued on `queue`.
    void record(std::size_t slot, Queue queue);
    bool done(std::size_t slot);
    /// True if the host had to wait.
    bool wait(std::size_t slot);
    /// What follows on `queue` comes after the slot's copy; the host does not wait.
    void order_after(std::size_t slot, Queue queue);

private:
    struct Slot {
        void* memory = nullptr;
        Event event;
        bool pending = false;
    };
    void release() noexcept;

    std::shared_ptr<DeviceApi> api_;
    std::size_t slot_bytes_;
    std::vector<Slot> slots_;
};

/// Host to device. Calls come from one thread at a time.
class PinnedRing {
public:
    /// A call takes one slot per started `slot_bytes`; `num_slots` >= 2 of them are in flight before
    /// the host waits. Errors: OutOfMemory.
    PinnedRing(std::shared_ptr<DeviceApi> api, std::size_t slot_bytes, int num_slots = 8);

    /// Copies `bytes` of ordinary host memory into slots and enqueues their copies to device memory.
    /// `host_from` can be reused on return. Waits only while every slot is still in flight.
    ///
    /// Not inside a capture: a replay would copy what the slot holds by then. Upload to a fixed
    /// device address before the replay, which then reads it there.
    void upload(Queue queue, void* device_to, const void* host_from, std::size_t bytes);

    std::uint64_t num_waits() const noexcept {
        return num_waits_;
    }  ///< times a full ring made wait

private:
    PinnedSlots slots_;
    std::size_t next_ = 0;
    std::uint64_t num_waits_ = 0;
};

/// Device to host: losses, norms, sampled tokens. Calls come from one thread at a time.
class PinnedReadback {
public:
    using Ticket = std::uint64_t;

    PinnedReadback(std::shared_ptr<DeviceApi> api, std::size_t slot_bytes, int num_slots = 8);

    /// Enqueues a copy of `bytes` <= slot_bytes into a slot; never waits. Not inside a capture.
    /// Errors: InvalidArgument: every slot holds a result that was not collected.
    Ticket read(Queue queue, const void* device_from, std::size_t bytes);
    bool ready(Ticket ticket);  ///< the copy is done; does not wait
    /// Waits for the copy if need be, copies the result to `host_to` and frees the slot.
    void collect(Ticket ticket, void* host_to);
    /// Gives the slot back without the result; the copy may still be under way.
    void drop(Ticket ticket);
    bool full() const noexcept;  ///< read() would fail

private:
    std::size_t slot_of(Ticket ticket) const;

    struct Taken {
        Ticket ticket = 0;
        std::size_t bytes = 0;
        bool taken = false;
    };
    PinnedSlots slots_;
    std::vector<Taken> taken_;
    Ticket next_ = 0;
};

}  // namespace carousel::cuda
