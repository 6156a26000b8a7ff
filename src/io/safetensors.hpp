#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "carousel/tensor.hpp"

namespace carousel::io {

/// Element types that a safetensors file may hold. More than DType has: all are listed and checked,
/// those without a DType can be inspected but not computed with.
enum class StoredType : int {
    kBool,
    kU8,
    kI8,
    kF8E5M2,
    kF8E4M3,
    kI16,
    kU16,
    kF16,
    kBf16,
    kI32,
    kU32,
    kF32,
    kF64,
    kI64,
    kU64
};
const char* stored_type_name(StoredType type) noexcept;  ///< "F32", "BF16", … as in the file
std::size_t stored_type_bytes(StoredType type) noexcept;
bool stored_type_is_float(StoredType type) noexcept;
StoredType stored_type_of(DType dtype) noexcept;  ///< kTf32 is stored as F32

/// A tensor inside a file.
struct StoredTensor {
    std::string name;
    StoredType type = StoredType::kF32;
    std::vector<std::int64_t> shape;  ///< [] is a scalar
    /// Not necessarily aligned; null if only the header was read.
    const std::uint8_t* data = nullptr;
    std::size_t bytes = 0;

    std::int64_t numel() const noexcept;
    std::string shape_text() const;  ///< "[3,4]"
};

/// A safetensors file (https://github.com/huggingface/safetensors, "Format"), every rule checked:
///   u64 little-endian n <= 100,000,000; n bytes of UTF-8 JSON beginning with '{' (trailing spaces
///   allowed); then the bytes. data_offsets count from the first byte after the header, cover it
///   from 0 to the end of the file without hole or overlap; END - BEGIN = product(shape) * element
///   size;
///   __metadata__ maps strings to strings; no key twice.
/// Errors   Io: names the file, the tensor, and the rule that is broken.
class SafetensorsFile {
public:
    enum class Content { kAll, kHeader };
    static SafetensorsFile open(const std::string& path, Content content = Content::kAll);

    const std::string& path() const noexcept { return path_; }
    /// In order of name.
    const std::vector<StoredTensor>& tensors() const noexcept { return tensors_; }
    const StoredTensor* find(const std::string& name) const noexcept;  ///< null if there is none
    const StoredTensor& get(const std::string& name) const;            ///< Io if there is none
    const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

private:
    friend SafetensorsFile parse_safetensors(const std::uint8_t*, std::size_t, const std::string&);
    std::string path_;
    std::shared_ptr<std::uint8_t> content_;  ///< bytes after the header, 64-byte aligned
    std::vector<StoredTensor> tensors_;
    std::map<std::string, std::string> metadata_;
};

/// The same for a file in memory, which must outlive the result. `name` stands in the sentences.
SafetensorsFile parse_safetensors(const std::uint8_t* data, std::size_t bytes,
                                  const std::string& name);

/// Copies a tensor's elements to `out` as `dtype`. Floating-point types convert to one another
/// (narrowing rounds to nearest even); integers convert to a type that holds every stored value.
/// Errors   Io: no such conversion, or a value does not fit; names file and tensor.
void convert_to(const StoredTensor& tensor, DType dtype, void* out, const std::string& path);

/// A tensor to be written; `data` is contiguous and row-major.
struct TensorToWrite {
    std::string name;
    StoredType type = StoredType::kF32;
    std::vector<std::int64_t> shape;
    const void* data = nullptr;

    TensorToWrite() = default;
    TensorToWrite(std::string name_, DType dtype, std::vector<std::int64_t> shape_,
                  const void* data_)
        : name(std::move(name_)),
          type(stored_type_of(dtype)),
          shape(std::move(shape_)),
          data(data_) {}
};

/// Writes a file atomically (see AtomicFile). The same tensors and metadata give the same bytes:
/// tensors are sorted by alignment (largest first), then by name, the header is padded with spaces
/// to a multiple of 8 bytes, and nothing else goes in.
/// Errors   InvalidArgument: a name twice, the name "__metadata__", a negative size; Io: the disk.
void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace carousel::io
