#include "src/plan/slices.hpp"

#include <ostream>

#include <limits>
#include <utility>

#include "carousel/error.hpp"

namespace carousel {

std::size_t SliceLayout::add(std::string name, std::int64_t count, std::size_t element_bytes) {
    const auto limit = static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max());
    std::size_t bytes = 0;
    if (__builtin_mul_overflow(static_cast<std::size_t>(count), element_bytes, &bytes) ||
        bytes > limit - 64 - bytes_) {
        throw Error(ErrorCode::kInvalidArgument,
                    "slice " + name + " of " + std::to_string(count) + " x " +
                        std::to_string(element_bytes) +
                        " bytes leaves 64-bit sizes; plan a shorter sequence or a smaller batch");
    }
    slices_.push_back({std::move(name), bytes_, bytes});
    bytes_ += (bytes + 63) / 64 * 64;
    return slices_.size() - 1;
}

void print_slices(std::ostream& out, const char* title, const SliceLayout& layout) {
    out << title << ": " << layout.bytes() << " bytes\n";
    for (const Slice& slice : layout.slices()) {
        out << "  " << slice.offset << " " << slice.name << ": " << slice.bytes << " bytes\n";
    }
}

}  // namespace carousel
