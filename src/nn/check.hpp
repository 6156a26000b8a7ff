#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <string>

#include "carousel/error.hpp"

namespace carousel::nn {

/// A number as people write it: 2, not 2.000000.
inline std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
}

/// InvalidArgument unless every id lies in [0, limit), or is `also_allowed`; names the first position.
inline void check_ids(const char* what, const std::int32_t* ids, std::int64_t n, std::int64_t limit,
                      std::int32_t also_allowed) {
    for (std::int64_t i = 0; i < n; ++i) {
        if ((ids[i] >= 0 && ids[i] < limit) || ids[i] == also_allowed) continue;
        throw Error(ErrorCode::kInvalidArgument,
                    std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                        "; ids must lie in [0, " + std::to_string(limit) + ")");
    }
}
inline void check_ids(const char* what, const std::int32_t* ids, std::int64_t n,
                      std::int64_t limit) {
    check_ids(what, ids, n, limit, 0);
}

/// A tensor of a call, by its name there.
struct Given {
    const char* name;
    const void* data;
};

/// InvalidArgument for a negative count (named as in the call), and for a tensor without memory where
/// it is positive.
inline void check_given(const char* count, std::int64_t n, std::initializer_list<Given> tensors) {
    if (n < 0) {
        throw Error(ErrorCode::kInvalidArgument,
                    std::string(count) + " is " + std::to_string(n) + "; it must be at least 0");
    }
    for (const Given& tensor : tensors) {
        if (n == 0 || tensor.data != nullptr) continue;
        throw Error(ErrorCode::kInvalidArgument, std::string(tensor.name) + " is null, and " +
                                                     count + " is " + std::to_string(n));
    }
}

/// InvalidArgument while a ParameterSet has no memory; `flat_values` is its.
inline void check_allocated(const void* flat_values) {
    if (flat_values != nullptr) return;
    throw Error(ErrorCode::kInvalidArgument,
                "the parameters have no memory yet; call ParameterSet::allocate() once, after all "
                "modules are made and before anything uses them");
}

/// What kernels met in device memory, from the bits of kernels/cuda's StatusBit.
inline std::string status_text(std::uint32_t status) {
    std::string text;
    const auto add = [&](std::uint32_t bit, const char* sentence) {
        if ((status & bit) == 0) return;
        text += (text.empty() ? "" : "; ") + std::string(sentence);
    };
    add(1U << 0, "a sequence length was outside [0, seq_len] and was clamped");
    add(1U << 1, "a token id was outside the vocabulary and was left out");
    add(1U << 2, "a target was outside the vocabulary and not -1, and was left out");
    add(1U << 3, "backward got a reserve that no forward pass of its sizes filled");
    return "bad data on the device: " + text + "; check the batches";
}

/// Calls `allocate`, which fills host memory of `bytes` bytes for `what`; OutOfMemory says both.
template <class F>
void allocate_or_fail(const std::string& what, double bytes, F&& allocate) {
    try {
        allocate();
    } catch (const std::exception&) {  // bad_alloc, or length_error beyond the address space
        char number[32];
        std::snprintf(number, sizeof number, "%.0f", bytes);
        throw Error(ErrorCode::kOutOfMemory,
                    "out of memory: " + std::string(number) + " bytes needed for " + what);
    }
}

inline void check_positive(const char* what, std::int64_t value) {
    if (value > 0) return;
    throw Error(ErrorCode::kInvalidArgument,
                std::string(what) + " is " + std::to_string(value) + "; it must be at least 1");
}

}  // namespace carousel::nn
