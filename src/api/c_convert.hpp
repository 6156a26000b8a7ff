#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "carousel/carousel.h"
#include "carousel/error.hpp"
#include "carousel/rnn.hpp"

// From the structs of the C interface to those of the C++ API. No rule of the computation is
// checked here.

struct carousel_thread_pool {
    std::shared_ptr<carousel::ThreadPool> pool;
};
struct carousel_buffer {
    carousel::Buffer buffer;
};
struct carousel_rnn_plan {
    carousel::RnnPlan plan;
};
struct carousel_packed_weights {
    carousel::PackedWeights weights;
};

namespace carousel::c_api {

/// Keeps the sentence for carousel_last_error on this thread; cut to fit, allocates nothing.
void remember(const char* sentence) noexcept;
const char* remembered() noexcept;

/// Runs the body of a C function; no exception leaves it.
template <class Body>
carousel_status guarded(Body body) noexcept {
    try {
        body();
        return CAROUSEL_OK;
    } catch (const Error& e) {
        remember(e.what());
        return static_cast<carousel_status>(e.code());
    } catch (const std::bad_alloc&) {
        remember("out of memory.");
        return CAROUSEL_OUT_OF_MEMORY;
    } catch (const std::exception& e) {
        remember(e.what());
        return CAROUSEL_INTERNAL;
    } catch (...) {
        remember("an unknown exception.");
        return CAROUSEL_INTERNAL;
    }
}

[[noreturn]] void invalid(const std::string& sentence);

void need(const void* pointer, const char* name);

/// Copies a struct of a caller that may be older or newer than this library. Fields that an older
/// caller does not have are zero; a newer caller's extra fields must be zero, because they ask for
/// something that is not known here.
template <class Struct>
Struct versioned(const Struct* given, std::size_t first_version_bytes, const char* name) {
    need(given, name);
    std::size_t bytes = 0;
    std::memcpy(&bytes, given, sizeof bytes);  // struct_size is the first field
    if (bytes < first_version_bytes || bytes > 65536) {
        invalid(std::string(name) + "->struct_size is " + std::to_string(bytes) +
                ", expected at least " + std::to_string(first_version_bytes) +
                "; make the struct with its _default() function.");
    }
    const auto* raw = reinterpret_cast<const unsigned char*>(given);
    for (std::size_t i = sizeof(Struct); i < bytes; ++i) {
        if (raw[i] != 0) {
            throw Error(ErrorCode::kUnsupported,
                        std::string(name) + " uses a field that this version of the library (" +
                            carousel_version() + ") does not have.");
        }
    }
    Struct copy;
    std::memset(&copy, 0, sizeof copy);
    std::memcpy(&copy, given, std::min(bytes, sizeof copy));
    return copy;
}

template <class Enum>
Enum checked_enum(std::int32_t value, Enum last, const char* name) {
    if (value < 0 || value > static_cast<std::int32_t>(last)) {
        invalid(std::string(name) + " is " + std::to_string(value) + ", expected 0 to " +
                std::to_string(static_cast<std::int32_t>(last)) + ".");
    }
    return static_cast<Enum>(value);
}

Device device_of(const carousel_device& device);

TensorView view_of(const carousel_tensor& t, const char* name);

carousel_tensor c_tensor(const TensorView& view);

RnnSpec spec_of(const carousel_rnn_spec* given);

void check_entries(const carousel_rnn_layer* layers, std::int64_t count, std::int64_t expected,
                   const char* name);

void fill_params(RnnParams& params, const carousel_rnn_layer* layers, std::int64_t count,
                 const RnnSpec& spec);

void fill_grads(RnnGrads& grads, const carousel_rnn_layer* layers, std::int64_t count,
                const RnnSpec& spec);

}  // namespace carousel::c_api
