#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

// A cuDNN without a card, so that the comparator runs in tests: a library of its own, opened
// through CAROUSEL_CUDNN as the real one would be. It refuses what cuDNN's documentation refuses,
// and computes the rest in double precision, with weights, layouts and order of gates as cuDNN
// defines them.
//
// What real cuDNN would not notice, and answer with wrong numbers, stands in `violations`, and the
// results are NaN: a reserve that backward has changed already, inputs that are not those of
// forward.

namespace carousel::test {

struct FakeCudnn {
    /// Puts work where the kernels of a stream go. Set before any call that enqueues.
    std::function<void(void* stream, std::function<void()> work)> enqueue;
    /// Whether all of these bytes are memory of the device. Set before any call that takes memory.
    std::function<bool(const void* data, std::size_t bytes)> on_device;
    bool has_compiler = true;  ///< NVRTC, which PERSIST_DYNAMIC is built with

    std::vector<std::string> violations;
    std::map<std::string, int> calls;  ///< by function
    std::map<std::string, int> ran;    ///< work that was done, by function
    int live_objects = 0;              ///< handles and descriptors
    std::string last_error;
};

}  // namespace carousel::test
