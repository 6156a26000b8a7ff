#include "src/io/safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>

#include "carousel/error.hpp"
#include "src/io/json.hpp"

namespace carousel::io {

namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own reader

struct TypeInfo {
    const char* name;
    std::size_t bytes;
    bool is_float;
};
constexpr std::array<TypeInfo, 15> kTypes{{
    {"BOOL", 1, false},
    {"U8", 1, false},
    {"I8", 1, false},
    {"F8_E5M2", 1, true},
    {"F8_E4M3", 1, true},
    {"I16", 2, false},
    {"U16", 2, false},
    {"F16", 2, true},
    {"BF16", 2, true},
    {"I32", 4, false},
    {"U32", 4, false},
    {"F32", 4, true},
    {"F64", 8, true},
    {"I64", 8, false},
    {"U64", 8, false},
}};
const TypeInfo& info_of(StoredType type) noexcept { return kTypes[static_cast<std::size_t>(type)]; }

[[noreturn]] void fail(const std::string& file, const std::string& what) {
    throw Error(ErrorCode::kIo, "'" + file + "' is not a valid safetensors file: " + what + ".");
}

/// A tensor name as it may stand in a sentence: quoted, control characters escaped, not endless.
std::string quoted(const std::string& name) {
    std::string text = nlohmann::json(name.size() <= 200 ? name : name.substr(0, 200) + "...")
                           .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return "'" + text.substr(1, text.size() - 2) + "'";
}

std::uint64_t header_length(const std::uint8_t* first8, std::uint64_t file_bytes,
                            const std::string& file) {
    if (file_bytes < 8) {
        fail(file, "it has " + std::to_string(file_bytes) +
                       " bytes, and the header length alone takes 8");
    }
    std::uint64_t n = 0;
    for (int i = 7; i >= 0; --i) n = (n << 8) | first8[i];
    if (n > kMaxHeaderBytes) {
        fail(file, "its first 8 bytes give a header of " + std::to_string(n) +
                       " bytes, more than the format's limit of 100000000");
    }
    if (n > file_bytes - 8) {
        fail(file, "its header should have " + std::to_string(n) + " bytes, but only " +
                       std::to_string(file_bytes - 8) +
                       " follow the length; the file is truncated");
    }
    return n;
}

std::int64_t non_negative(const nlohmann::json& value, const std::string& file,
                          const std::string& tensor, const char* what) {
    const bool fits = value.is_number_unsigned() &&
                      value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
    if (!fits) {
        fail(file, "tensor " + tensor + ": " + what + " holds " +
                       value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                           .substr(0, 100) +
                       ", and must hold whole numbers from 0 to 2^63 - 1");
    }
    return value.get<std::int64_t>();
}

struct ParsedTensor {
    StoredTensor tensor;
    std::int64_t begin = 0;
    std::int64_t end = 0;
};

ParsedTensor parse_tensor(const std::string& name, const nlohmann::json& entry,
                          const std::string& file) {
    const std::string label = quoted(name);
    if (!entry.is_object()) fail(file, "tensor " + label + ": its entry is not an object");
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
        if (!entry.contains(key)) fail(file, "tensor " + label + ": '" + key + "' is missing");
    }
    ParsedTensor parsed;
    parsed.tensor.name = name;

    const auto& dtype = entry["dtype"];
    if (!dtype.is_string()) fail(file, "tensor " + label + ": dtype is not a string");
    const auto& dtype_text = dtype.get_ref<const std::string&>();
    const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const TypeInfo& t) { return dtype_text == t.name; });
    if (type == kTypes.end()) {
        fail(file, "tensor " + label + ": unknown dtype " + quoted(dtype_text));
    }
    parsed.tensor.type = static_cast<StoredType>(type - kTypes.begin());

    const auto& shape = entry["shape"];
    if (!shape.is_array()) fail(file, "tensor " + label + ": shape is not a list");
    std::int64_t bytes = static_cast<std::int64_t>(type->bytes);
    for (const auto& item : shape) {
        const std::int64_t size = non_negative(item, file, label, "shape");
        parsed.tensor.shape.push_back(size);
        if (__builtin_mul_overflow(bytes, size, &bytes)) {
            fail(file, "tensor " + label + ": the bytes of its shape exceed 2^63 - 1");
        }
    }

    const auto& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) {
        fail(file, "tensor " + label + ": data_offsets is not a list of two numbers");
    }
    parsed.begin = non_negative(offsets[0], file, label, "data_offsets");
    parsed.end = non_negative(offsets[1], file, label, "data_offsets");
    if (parsed.end < parsed.begin || parsed.end - parsed.begin != bytes) {
        fail(file, "tensor " + label + ": data_offsets [" + std::to_string(parsed.begin) + "," +
                       std::to_string(parsed.end) + "] do not span the " + std::to_string(bytes) +
                       " bytes of shape " + parsed.tensor.shape_text() + " of " + type->name);
    }
    parsed.tensor.bytes = static_cast<std::size_t>(bytes);
    return parsed;
}

void parse_metadata(const nlohmann::json& entry, const std::string& file,
                    std::map<std::string, std::string>& metadata) {
    if (!entry.is_object()) fail(file, "__metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) {
            fail(file, "__metadata__: the value of " + quoted(key) + " is not a string");
        }
        metadata[key] = value.get<std::string>();
    }
}

/// Every byte after the header belongs to exactly one tensor.
void check_coverage(std::vector<ParsedTensor>& tensors, std::uint64_t content_bytes,
                    const std::string& file) {
    std::sort(tensors.begin(), tensors.end(), [](const ParsedTensor& a, const ParsedTensor& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::int64_t end = 0;
    for (const ParsedTensor& t : tensors) {
        if (t.begin != end) {
            fail(file, "tensor " + quoted(t.tensor.name) + ": its bytes begin at " +
                           std::to_string(t.begin) + ", and " +
                           (t.begin < end ? "overlap those before it, which end at "
                                          : "leave a hole after those before it, which end at ") +
                           std::to_string(end));
        }
        end = t.end;
    }
    if (static_cast<std::uint64_t>(end) != content_bytes) {
        fail(file, "its tensors take " + std::to_string(end) + " bytes, but " +
                       std::to_string(content_bytes) + " follow the header" +
                       (static_cast<std::uint64_t>(end) > content_bytes ? "; the file is truncated"
                                                                        : ""));
    }
}

struct Header {
    std::vector<ParsedTensor> tensors;  ///< in order of name
    std::map<std::string, std::string> metadata;
};

Header parse_header(std::string_view text, std::uint64_t content_bytes, const std::string& file) {
    if (text.empty() || text.front() != '{') fail(file, "its header does not begin with '{'");
    nlohmann::json json;
    try {
        json = parse_json(text, "header");
    } catch (const Error& e) {
        std::string what = e.what();
        if (!what.empty() && what.back() == '.') what.pop_back();
        fail(file, what);
    }
    Header header;
    for (const auto& [name, entry] : json.items()) {
        if (name == "__metadata__") {
            parse_metadata(entry, file, header.metadata);
        } else {
            header.tensors.push_back(parse_tensor(name, entry, file));
        }
    }
    check_coverage(header.tensors, content_bytes, file);
    std::sort(
        header.tensors.begin(), header.tensors.end(),
        [](const ParsedTensor& a, const ParsedTensor& b) { return a.tensor.name < b.tensor.name; });
    return header;
}

/// A file descriptor that is only read from.
class InputFile {
public:
    explicit InputFile(const std::string& path) : path_(path) {
        fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat info {};
        if (fd_ < 0 || ::fstat(fd_, &info) != 0) {
            const int error_number = errno;
            if (fd_ >= 0) ::close(fd_);
            throw Error(ErrorCode::kIo, "cannot open '" + path + "': " +
                                            std::generic_category().message(error_number) + ".");
        }
        if (!S_ISREG(info.st_mode)) {
            ::close(fd_);
            throw Error(ErrorCode::kIo, "cannot read '" + path + "': it is not a regular file.");
        }
        bytes_ = static_cast<std::uint64_t>(info.st_size);
    }
    ~InputFile() { ::close(fd_); }
    InputFile(const InputFile&) = delete;
    InputFile& operator=(const InputFile&) = delete;

    std::uint64_t bytes() const { return bytes_; }
    void read(void* out, std::uint64_t bytes) {
        auto* p = static_cast<std::uint8_t*>(out);
        while (bytes > 0) {
            const ssize_t n = ::read(fd_, p, bytes);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                throw Error(ErrorCode::kIo, "cannot read '" + path_ + "': " +
                                                (n == 0 ? "it became shorter while it was read"
                                                        : std::generic_category().message(errno)) +
                                                ".");
            }
            p += n;
            bytes -= static_cast<std::uint64_t>(n);
        }
    }

private:
    std::string path_;
    int fd_ = -1;
    std::uint64_t bytes_ = 0;
};

std::shared_ptr<std::uint8_t> allocate(std::uint64_t bytes, const std::string& file) {
    const std::size_t rounded = (static_cast<std::size_t>(bytes) + 63) / 64 * 64;
    void* memory = std::aligned_alloc(64, std::max<std::size_t>(rounded, 64));
    if (memory == nullptr) {
        throw Error(ErrorCode::kOutOfMemory, "out of memory: " + std::to_string(bytes) +
                                                 " bytes are needed for the tensors of '" + file +
                                                 "'.");
    }
    return {static_cast<std::uint8_t*>(memory), [](std::uint8_t* p) { std::free(p); }};
}

}  // namespace

const char* stored_type_name(StoredType type) noexcept { return info_of(type).name; }
std::size_t stored_type_bytes(StoredType type) noexcept { return info_of(type).bytes; }
bool stored_type_is_float(StoredType type) noexcept { return info_of(type).is_float; }

StoredType stored_type_of(DType dtype) noexcept {
    switch (dtype) {
        case DType::kF32:
        case DType::kTf32:
            return StoredType::kF32;
        case DType::kF64:
            return StoredType::kF64;
        case DType::kBf16:
            return StoredType::kBf16;
        case DType::kF16:
            return StoredType::kF16;
        case DType::kI32:
            return StoredType::kI32;
        case DType::kI64:
            return StoredType::kI64;
        case DType::kU8:
            return StoredType::kU8;
    }
    return StoredType::kU8;
}

std::int64_t StoredTensor::numel() const noexcept {
    std::int64_t n = 1;
    for (const std::int64_t size : shape) n *= size;
    return n;
}

std::string StoredTensor::shape_text() const {
    std::string text = "[";
    for (std::size_t d = 0; d < shape.size(); ++d) {
        text += (d == 0 ? "" : ",") + std::to_string(shape[d]);
    }
    return text + "]";
}

SafetensorsFile parse_safetensors(const std::uint8_t* data, std::size_t bytes,
                                  const std::string& name) {
    const std::uint64_t n = header_length(data, bytes, name);
    const std::string_view text(reinterpret_cast<const char*>(data) + 8, n);
    Header header = parse_header(text, bytes - 8 - n, name);
    SafetensorsFile file;
    file.path_ = name;
    file.metadata_ = std::move(header.metadata);
    for (ParsedTensor& parsed : header.tensors) {
        parsed.tensor.data = data + 8 + n + parsed.begin;
        file.tensors_.push_back(std::move(parsed.tensor));
    }
    return file;
}

SafetensorsFile SafetensorsFile::open(const std::string& path, Content content) {
    InputFile input(path);
    std::array<std::uint8_t, 8> first8{};
    if (input.bytes() >= 8) input.read(first8.data(), 8);
    const std::uint64_t n = header_length(first8.data(), input.bytes(), path);
    std::string text(n, '\0');
    input.read(text.data(), n);
    const std::uint64_t content_bytes = input.bytes() - 8 - n;
    Header header = parse_header(text, content_bytes, path);
    SafetensorsFile file;
    file.path_ = path;
    file.metadata_ = std::move(header.metadata);
    if (content == Content::kAll) {
        file.content_ = allocate(content_bytes, path);
        input.read(file.content_.get(), content_bytes);
    }
    for (ParsedTensor& parsed : header.tensors) {
        if (file.content_) parsed.tensor.data = file.content_.get() + parsed.begin;
        file.tensors_.push_back(std::move(parsed.tensor));
    }
    return file;
}

const StoredTensor* SafetensorsFile::find(const std::string& name) const noexcept {
    const auto at = std::lower_bound(
        tensors_.begin(), tensors_.end(), name,
        [](const StoredTensor& t, const std::string& wanted) { return t.name < wanted; });
    return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

const StoredTensor& SafetensorsFile::get(const std::string& name) const {
    const StoredTensor* tensor = find(name);
    if (tensor == nullptr) {
        throw Error(ErrorCode::kIo, "'" + path_ + "': tensor '" + name + "' is missing.");
    }
    return *tensor;
}

}  // namespace carousel::io
