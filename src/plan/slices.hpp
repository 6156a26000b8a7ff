#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace carousel {

/// A named piece of workspace, reserve or packed weights.
struct Slice {
    std::string name;
    std::size_t offset = 0;  ///< bytes from the start, a multiple of 64
    std::size_t bytes = 0;
};

/// Counts and places slices: the same call does both, so the size asked for and the addresses used
/// cannot disagree.
class SliceLayout {
public:
    /// Errors: InvalidArgument naming the slice if the total leaves 63 bits.
    std::size_t add(std::string name, std::int64_t count, std::size_t element_bytes);
    std::size_t bytes() const noexcept { return bytes_; }
    const std::vector<Slice>& slices() const noexcept { return slices_; }
    const Slice& operator[](std::size_t index) const { return slices_[index]; }

    template <class T>
    T* at(void* base, std::size_t index) const noexcept {
        return reinterpret_cast<T*>(static_cast<char*>(base) + slices_[index].offset);
    }
    template <class T>
    const T* at(const void* base, std::size_t index) const noexcept {
        return reinterpret_cast<const T*>(static_cast<const char*>(base) + slices_[index].offset);
    }

private:
    std::vector<Slice> slices_;
    std::size_t bytes_ = 0;
};

/// One line per slice: offset, name, bytes.
void print_slices(std::ostream& out, const char* title, const SliceLayout& layout);

/// Marks a slice that a plan does not have.
inline constexpr std::size_t kNoSlice = static_cast<std::size_t>(-1);

}  // namespace carousel
