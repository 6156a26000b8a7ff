#include "simt/fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
/// Fibers of a launch that was given up never return, and what their frames own is not freed.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
    return "leak:carousel::simt::Executor::run_threads_here\n";
}
#endif

namespace carousel::simt {

namespace {

namespace context = boost::context::detail;

// One mapping per slab, not per stack: a guard page each would meet vm.max_map_count. A pattern at
// the end of each stack shows an overflow after the fact.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 256 << 10;  // its frames are several times as large
#else
constexpr std::size_t kStackBytes = 64 << 10;
#endif
constexpr std::size_t kStacksPerSlab = 64;
constexpr std::uint64_t kGuard = 0x5354'4143'4B45'4E44;

std::uint64_t* guard_of(const Fiber& fiber) {
    return reinterpret_cast<std::uint64_t*>(fiber.stack);
}

/// First thing a fiber does after another has switched to it.
void arrive(Fiber* self, context::transfer_t transfer) {
    Fiber* from = static_cast<Fiber*>(transfer.data);
    from->context = transfer.fctx;
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &bytes);
    if (from->stack == nullptr) {
        from->host_stack = bottom;
        from->host_stack_bytes = bytes;
    }
#else
    static_cast<void>(self);
#endif
}

Fiber* starting = nullptr;  // handed to a fiber's first instruction

}  // namespace

Fiber* FiberPool::take() {
    if (idle_.empty()) {
        add_slab();
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return fiber;
}

void FiberPool::add_slab() {
    void* memory = mmap(nullptr, kStackBytes * kStacksPerSlab, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        throw std::bad_alloc();
    }
    for (std::size_t i = 0; i < kStacksPerSlab; ++i) {
        auto* fiber = new Fiber;
        fiber->stack = static_cast<std::byte*>(memory) + i * kStackBytes;
        make(fiber);
        all_.push_back(fiber);
        idle_.push_back(fiber);
    }
}

void FiberPool::make(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(fiber->stack, kStackBytes);
#endif
    *guard_of(*fiber) = kGuard;
    fiber->context = context::make_fcontext(fiber->stack + kStackBytes, kStackBytes, &start);
    fiber->entry = entry_;
    fiber->thread = nullptr;
    fiber->fake_stack = nullptr;
}

void FiberPool::abandon_all() {
    idle_.clear();
    for (Fiber* fiber : all_) {
        make(fiber);
        idle_.push_back(fiber);
    }
}

void FiberPool::switch_to(Fiber* from, Fiber* to) {
#if defined(__SANITIZE_ADDRESS__)
    const bool host = to->stack == nullptr;
    __sanitizer_start_switch_fiber(&from->fake_stack, host ? to->host_stack : to->stack,
                                   host ? to->host_stack_bytes : kStackBytes);
#endif
    starting = to;
    arrive(from, context::jump_fcontext(to->context, from));
}

void FiberPool::start(context::transfer_t transfer) {
    Fiber* self = starting;
    arrive(self, transfer);
    self->entry(self);
}

bool FiberPool::overflowed(const Fiber& fiber) {
    return fiber.stack != nullptr && *guard_of(fiber) != kGuard;
}

}  // namespace carousel::simt
