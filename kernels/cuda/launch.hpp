#pragma once

// A kernel launch as a plain value: what the launchers of kernels/cuda return and what a device
// enqueues. The same launcher sources are compiled twice, by nvcc for a card and by the C++ compiler
// for the executor of tests/simt, so nothing here may include a CUDA header.

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

namespace carousel::cuda {

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};

/// Bytes of arguments that every CUDA version and architecture takes by value.
inline constexpr std::size_t kMaxArgBytes = 4096;

struct Launch {
    const char* kernel = "";         ///< name for messages and profiler ranges
    const void* function = nullptr;  ///< kernel: a stub for the CUDA runtime, or a host function
    /// Runs the body of one thread; set where the kernel was compiled by the C++ compiler.
    void (*run)(const void* function, const void* args) = nullptr;
    Dim3 grid, block;
    unsigned shared_bytes = 0;  ///< dynamic shared memory
    unsigned cluster = 1;       ///< blocks per cluster, along x
    bool cooperative = false;
    std::size_t args_bytes = 0;
    alignas(16) std::byte args[kMaxArgBytes];  ///< one struct, passed by value
};

/// A launch of `kernel`, which takes one struct of arguments.
template <class Args>
Launch make_launch(const char* name, void (*kernel)(Args), const Args& args, Dim3 grid, Dim3 block,
                   unsigned shared_bytes = 0) {
    static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= kMaxArgBytes);
    Launch launch;
    launch.kernel = name;
    launch.function = reinterpret_cast<const void*>(kernel);
#if defined(CAROUSEL_SIMT)
    launch.run = [](const void* function, const void* bytes) {
        reinterpret_cast<void (*)(Args)>(const_cast<void*>(function))(
            *static_cast<const Args*>(bytes));
    };
#endif
    launch.grid = grid;
    launch.block = block;
    launch.shared_bytes = shared_bytes;
    launch.args_bytes = sizeof(Args);
    new (launch.args) Args(args);
    return launch;
}

}  // namespace carousel::cuda
