#include "carousel/tensor.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_api.hpp"

namespace carousel {

const char* dtype_name(DType dtype) noexcept {
    switch (dtype) {
        case DType::kF32:
            return "f32";
        case DType::kF64:
            return "f64";
        case DType::kTf32:
            return "tf32";
        case DType::kBf16:
            return "bf16";
        case DType::kF16:
            return "f16";
        case DType::kI32:
            return "i32";
        case DType::kI64:
            return "i64";
        case DType::kU8:
            return "u8";
    }
    return "?";
}

std::size_t dtype_bytes(DType dtype) noexcept {
    switch (dtype) {
        case DType::kF64:
        case DType::kI64:
            return 8;
        case DType::kF32:
        case DType::kTf32:
        case DType::kI32:
            return 4;
        case DType::kBf16:
        case DType::kF16:
            return 2;
        case DType::kU8:
            return 1;
    }
    return 0;
}

DType dtype_parse(const std::string& text) {
    for (DType dtype : {DType::kF32, DType::kF64, DType::kTf32, DType::kBf16, DType::kF16,
                        DType::kI32, DType::kI64, DType::kU8}) {
        if (text == dtype_name(dtype)) return dtype;
    }
    throw Error(ErrorCode::kInvalidArgument,
                "dtype is \"" + text + "\"; expected f32, f64, tf32, bf16, f16, i32, i64 or u8");
}

namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}

Buffer::Buffer(std::size_t bytes, Device device, const char* what)
    : bytes_(bytes), device_(device) {
    if (device.type == DeviceType::kCuda) {
        api_ = cuda::device_api(device.index);
        if (bytes > 0) data_ = api_->allocate(bytes, what);
        return;
    }
    if (bytes == 0) return;
    const auto fail = [&]() {
        throw Error(ErrorCode::kOutOfMemory,
                    "out of memory: " + std::to_string(bytes) + " bytes needed for " + what +
                        "; use smaller layers, a smaller batch or shorter sequences");
    };
    if (bytes >= kHugePage) {
        // Page faults of large temporaries cost as much as the work on them: huge pages, and a mapping
        // of its own so that the memory goes back when the owner goes.
        if (bytes > SIZE_MAX - 2 * kHugePage) fail();
        mapped_bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage + kHugePage;
        void* mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) {
            mapped_bytes_ = 0;
            fail();
        }
        // Trim to a huge-page boundary so that data_ is the start of the mapping.
        const auto address = reinterpret_cast<std::uintptr_t>(mapped);
        const std::uintptr_t aligned = (address + kHugePage - 1) / kHugePage * kHugePage;
        if (aligned != address) munmap(mapped, aligned - address);
        mapped_bytes_ -= aligned - address;
        data_ = reinterpret_cast<void*>(aligned);
        madvise(data_, mapped_bytes_, MADV_HUGEPAGE);
        return;
    }
    data_ = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (data_ == nullptr) fail();
}

Buffer::~Buffer() {
    if (api_ != nullptr) {
        api_->release(data_);
    } else if (mapped_bytes_ > 0) {
        munmap(data_, mapped_bytes_);
    } else {
        std::free(data_);
    }
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)),
      device_(other.device_),
      api_(std::move(other.api_)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    std::swap(device_, other.device_);
    std::swap(api_, other.api_);
    return *this;
}

void Buffer::zero() {
    if (bytes_ == 0) return;
    if (api_ == nullptr) {
        std::memset(data_, 0, bytes_);
        return;
    }
    const cuda::Queue queue = api_->default_queue();
    api_->zero(queue, data_, bytes_);
    api_->synchronize(queue);
}

static void check_copy(const void* to, const void* from, std::size_t bytes) {
    if (bytes == 0 || (to != nullptr && from != nullptr)) return;
    throw Error(ErrorCode::kInvalidArgument, std::string(to == nullptr ? "to" : "from") +
                                                 " is null, and " + std::to_string(bytes) +
                                                 " bytes were to be copied");
}

void copy_to_device(void* to, const void* from, std::size_t bytes, const Device& device) {
    check_copy(to, from, bytes);
    if (device.type == DeviceType::kCuda) {
        cuda::device_api(device.index)->copy_to_device(to, from, bytes);
    } else if (bytes > 0) {
        std::memcpy(to, from, bytes);
    }
}

void copy_to_host(void* to, const void* from, std::size_t bytes, const Device& device) {
    check_copy(to, from, bytes);
    if (device.type == DeviceType::kCuda) {
        cuda::device_api(device.index)->copy_to_host(to, from, bytes);
    } else if (bytes > 0) {
        std::memcpy(to, from, bytes);
    }
}

}  // namespace carousel
