#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "carousel/device.hpp"
#include "carousel/export.hpp"

namespace carousel {

namespace cuda {
class DeviceApi;
}

/// Element type of a tensor, and (the first five) the arithmetic of a plan. kTf32 is stored as f32
/// and names the TensorFloat-32 arithmetic; it is never chosen silently.
enum class DType : int {
    kF32 = 0,
    kF64 = 1,
    kTf32 = 2,
    kBf16 = 3,
    kF16 = 4,
    kI32 = 5,
    kI64 = 6,
    kU8 = 7,
};

CAROUSEL_API const char* dtype_name(DType dtype) noexcept;   ///< "f32", "f64", "tf32", …
CAROUSEL_API std::size_t dtype_bytes(DType dtype) noexcept;  ///< bytes of one stored element
CAROUSEL_API DType dtype_parse(const std::string& text);     ///< InvalidArgument if unknown

inline constexpr int kMaxDims = 4;

/// A borrowed view of a tensor: address, element type, shape and strides in elements. Copyable;
/// owns nothing. The last dimension must have stride 1 wherever the API takes one.
template <class Void>
struct BasicTensorView {
    Void* data = nullptr;
    DType dtype = DType::kF32;
    Device device{};
    int ndim = 0;
    std::array<std::int64_t, kMaxDims> shape{};
    std::array<std::int64_t, kMaxDims> strides{};

    BasicTensorView() = default;
    /// Row-major contiguous view.
    BasicTensorView(Void* data_, DType dtype_, std::initializer_list<std::int64_t> shape_,
                    Device device_ = {})
        : data(data_), dtype(dtype_), device(device_) {
        for (std::int64_t s : shape_) {
            if (ndim < kMaxDims) shape[static_cast<std::size_t>(ndim++)] = s;
        }
        std::int64_t stride = 1;
        for (int d = ndim - 1; d >= 0; --d) {
            strides[static_cast<std::size_t>(d)] = stride;
            stride *= shape[static_cast<std::size_t>(d)];
        }
    }
    /// A mutable view is a const view.
    template <class Other>
    BasicTensorView(const BasicTensorView<Other>& other)  // NOLINT(google-explicit-constructor)
        : data(other.data),
          dtype(other.dtype),
          device(other.device),
          ndim(other.ndim),
          shape(other.shape),
          strides(other.strides) {}

    bool defined() const noexcept { return data != nullptr; }
    std::int64_t numel() const noexcept {
        std::int64_t n = 1;
        for (int d = 0; d < ndim; ++d) n *= shape[static_cast<std::size_t>(d)];
        return n;
    }
    /// The same memory with dimensions 0 and 1 exchanged: batch-first data as a stride.
    BasicTensorView transposed01() const {
        BasicTensorView v = *this;
        std::swap(v.shape[0], v.shape[1]);
        std::swap(v.strides[0], v.strides[1]);
        return v;
    }
};
using TensorView = BasicTensorView<void>;
using ConstTensorView = BasicTensorView<const void>;

/// Owner of a block of device memory; move-only. CPU blocks are 64-byte aligned, and backed by huge
/// pages when large; CUDA blocks are 256-byte aligned, come from a pool of the library's own, and
/// keep the device alive. Content is uninitialised unless said.
///
/// Destroying a CUDA buffer does not wait: its memory is used again after the work that the library
/// has enqueued on streams of its own. Work on a stream of the caller's must be done by then.
class CAROUSEL_API Buffer {
public:
    Buffer() = default;
    /// Errors: OutOfMemory, with the number of bytes and `what` it was for; Unsupported: the device
    /// cannot be used, with the reason that device_usable gives.
    Buffer(std::size_t bytes, Device device = {}, const char* what = "buffer");
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;

    void* data() const noexcept { return data_; }
    template <class T>
    T* as() const noexcept {
        return static_cast<T*>(data_);
    }
    std::size_t bytes() const noexcept { return bytes_; }
    Device device() const noexcept { return device_; }
    /// Fills with zero bytes; done on return, after what the library's own stream was given before.
    void zero();

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t mapped_bytes_ = 0;
    Device device_{};
    std::shared_ptr<cuda::DeviceApi> api_;  ///< of CUDA blocks
};

/// Copies `bytes` between ordinary host memory and memory of `device`, so that a program fills and
/// reads tensors without CUDA's headers. On the CPU a plain copy.
///
/// Stream   on the library's own stream of the device, after what it was given before; done on return.
/// Errors   Unsupported: the device cannot be used; Cuda; DeviceLost. InvalidArgument: that stream is
///          being recorded into a graph; a null address.
CAROUSEL_API void copy_to_device(void* to, const void* from, std::size_t bytes,
                                 const Device& device);
CAROUSEL_API void copy_to_host(void* to, const void* from, std::size_t bytes, const Device& device);

}  // namespace carousel
