#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <utility>

#include "bench/tests/cudnn/fake_cudnn.hpp"
#include "tests/simt/memory.hpp"
#include "tests/simt/simt_device.hpp"

namespace carousel::bench {

/// State of the cuDNN that CAROUSEL_CUDNN names from now on; opens it.
inline test::FakeCudnn& fake_cudnn() {
    static test::FakeCudnn* const state = [] {
        setenv("CAROUSEL_CUDNN", CAROUSEL_FAKE_CUDNN, 1);
        void* library = dlopen(CAROUSEL_FAKE_CUDNN, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) throw std::runtime_error(dlerror());
        auto* find = reinterpret_cast<test::FakeCudnn* (*)()>(dlsym(library, "fake_cudnn_state"));
        return find();
    }();
    return *state;
}

/// The stand-in on a device of the SIMT executor: its streams and its memory.
class CudnnOnDevice {
public:
    explicit CudnnOnDevice(simt::Device& device) {
        state.violations.clear();
        state.calls.clear();
        state.ran.clear();
        state.has_compiler = true;
        state.enqueue = [&device](void* stream, std::function<void()> work) {
            device.push({stream}, std::move(work));
        };
        state.on_device = [](const void* data, std::size_t bytes) {
            return simt::in_arena(data) &&
                   simt::is_valid(reinterpret_cast<std::uintptr_t>(data), bytes);
        };
    }
    ~CudnnOnDevice() {
        state.enqueue = nullptr;
        state.on_device = nullptr;
    }
    CudnnOnDevice(const CudnnOnDevice&) = delete;
    CudnnOnDevice& operator=(const CudnnOnDevice&) = delete;

    test::FakeCudnn& state = fake_cudnn();
};

}  // namespace carousel::bench
