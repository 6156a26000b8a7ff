// The entry points that -fsanitize=thread compiles into the kernels and their tests. The program is
// linked without that sanitizer; these take its place, and look at what kernel threads do to device
// memory. Host code passes through at the price of a call.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simt/access.hpp"

using carousel::simt::in_arena;
using carousel::simt::note_access;
using carousel::simt::running_executor;

namespace {

inline void plain(const void* address, std::size_t size, bool write, const void* caller) {
    if (running_executor != nullptr && in_arena(address)) {
        note_access(reinterpret_cast<std::uintptr_t>(address), size, write, caller);
    }
}

inline void volatile_access(const void* address, std::size_t size, bool write, const void* caller) {
    if (running_executor != nullptr && in_arena(address)) {
        carousel::simt::note_volatile(reinterpret_cast<std::uintptr_t>(address), size, write,
                                      caller);
    }
}

}  // namespace

#define CAROUSEL_CALLER __builtin_return_address(0)
#define CAROUSEL_ACCESSES(bytes)                                                            \
    void __tsan_read##bytes(void* p) { plain(p, bytes, false, CAROUSEL_CALLER); }           \
    void __tsan_write##bytes(void* p) { plain(p, bytes, true, CAROUSEL_CALLER); }           \
    void __tsan_unaligned_read##bytes(void* p) { plain(p, bytes, false, CAROUSEL_CALLER); } \
    void __tsan_unaligned_write##bytes(void* p) { plain(p, bytes, true, CAROUSEL_CALLER); } \
    void __tsan_volatile_read##bytes(void* p) {                                             \
        volatile_access(p, bytes, false, CAROUSEL_CALLER);                                  \
    }                                                                                       \
    void __tsan_volatile_write##bytes(void* p) {                                            \
        volatile_access(p, bytes, true, CAROUSEL_CALLER);                                   \
    }                                                                                       \
    void __tsan_unaligned_volatile_read##bytes(void* p) {                                   \
        volatile_access(p, bytes, false, CAROUSEL_CALLER);                                  \
    }                                                                                       \
    void __tsan_unaligned_volatile_write##bytes(void* p) {                                  \
        volatile_access(p, bytes, true, CAROUSEL_CALLER);                                   \
    }

// Host code's own atomics keep their meaning; kernels reach device memory through the wrappers.
#define CAROUSEL_ATOMICS(bits, type)                                                               \
    type __tsan_atomic##bits##_load(const volatile type* p, int) {                                 \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                               \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile type* p, type v, int) {                              \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                  \
    }                                                                                              \
    type __tsan_atomic##bits##_exchange(volatile type* p, type v, int) {                           \
        return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                        \
    }                                                                                              \
    type __tsan_atomic##bits##_fetch_add(volatile type* p, type v, int) {                          \
        return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    type __tsan_atomic##bits##_fetch_sub(volatile type* p, type v, int) {                          \
        return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    type __tsan_atomic##bits##_fetch_and(volatile type* p, type v, int) {                          \
        return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    type __tsan_atomic##bits##_fetch_or(volatile type* p, type v, int) {                           \
        return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                          \
    }                                                                                              \
    type __tsan_atomic##bits##_fetch_xor(volatile type* p, type v, int) {                          \
        return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    type __tsan_atomic##bits##_fetch_nand(volatile type* p, type v, int) {                         \
        return __atomic_fetch_nand(p, v, __ATOMIC_SEQ_CST);                                        \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile type* p, type* expected, type v,    \
                                                      int, int) {                                  \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST,                \
                                           __ATOMIC_SEQ_CST);                                      \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile type* p, type* expected, type v, int, \
                                                    int) {                                         \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST,                \
                                           __ATOMIC_SEQ_CST);                                      \
    }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) { std::atomic_thread_fence(std::memory_order_seq_cst); }
void __tsan_atomic_signal_fence(int) {}

CAROUSEL_ACCESSES(1)
CAROUSEL_ACCESSES(2)
CAROUSEL_ACCESSES(4)
CAROUSEL_ACCESSES(8)
CAROUSEL_ACCESSES(16)

void __tsan_read_range(void* p, std::size_t size) { plain(p, size, false, CAROUSEL_CALLER); }
void __tsan_write_range(void* p, std::size_t size) { plain(p, size, true, CAROUSEL_CALLER); }

CAROUSEL_ATOMICS(8, std::uint8_t)
CAROUSEL_ATOMICS(16, std::uint16_t)
CAROUSEL_ATOMICS(32, std::uint32_t)
CAROUSEL_ATOMICS(64, std::uint64_t)

void* __tsan_memcpy(void* to, const void* from, std::size_t size) {
    return std::memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, std::size_t size) {
    return std::memmove(to, from, size);
}
void* __tsan_memset(void* to, int value, std::size_t size) { return std::memset(to, value, size); }

}  // extern "C"
