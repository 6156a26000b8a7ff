#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/support/compare.hpp"

// A run allocates nothing: operator new is counted while one is under way. Not with sanitizers,
// which bring operators of their own, and not for the GEMM library's malloc, which is documented.

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {
std::atomic<bool> counting{false};
std::atomic<long> allocations{0};

void* allocate(std::size_t size, std::size_t alignment) {
    if (counting.load(std::memory_order_relaxed)) ++allocations;
    const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

/// Out of line, or GCC pairs the `free` with the `operator new` of a caller and warns.
__attribute__((noinline)) void release(void* memory) noexcept { std::free(memory); }
}  // namespace

void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new[](std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
    return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace carousel::test {
namespace {

TEST(RnnAllocation, ARunAllocatesNothing) {
    for (const char* text :
         {"lstm L2 D2 T6 N5 I20 H40 lengths reset dropout=0.3 f32 threads=2",
          "lstm L2 D2 T6 N5 I20 H40 P9 lengths reset f64 threads=3",
          "gru L2 D2 T6 N5 I20 H40 lengths reset packed f32 threads=2",
          "gru_reset_before L3 T6 N33 I20 H70 f32 threads=2",
          "rnn_tanh L2 T6 N64 I64 H64 batch_first f32", "rnn_relu D2 T6 N1 I5 H8 f64"}) {
        SCOPED_TRACE(text);
        const ShapeLine line = parse_shape_line(text);
        RnnRun run(line, make_rnn_data(line));
        // The GEMM library compiles kernels when it first meets a size, and keeps them.
        run.training();
        run.backward();
        allocations = 0;
        counting = true;
        run.training();
        run.backward();
        run.inference();
        counting = false;
        EXPECT_EQ(allocations.load(), 0);
    }
}

TEST(RnnAllocation, TheCounterCounts) {
    allocations = 0;
    counting = true;
    std::vector<int>* memory = new std::vector<int>(100);
    counting = false;
    EXPECT_EQ(allocations.load(), 2);
    delete memory;
}

}  // namespace
}  // namespace carousel::test

#endif
