#include <algorithm>
#include <cstring>

#include "carousel/error.hpp"
#include "src/io/file.hpp"
#include "src/io/json.hpp"
#include "src/io/safetensors.hpp"

namespace carousel::io {

namespace {

std::int64_t tensor_bytes(const TensorToWrite& t) {
    auto bytes = static_cast<std::int64_t>(stored_type_bytes(t.type));
    for (const std::int64_t size : t.shape) {
        if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
            throw Error(ErrorCode::kInvalidArgument,
                        "write_safetensors: tensor '" + t.name +
                            "' has a negative size, or more than 2^63 - 1 bytes.");
        }
    }
    return bytes;
}

/// Largest alignment first, so that every tensor starts at a multiple of its element size.
void sort_and_check(std::vector<TensorToWrite>& tensors) {
    std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
        const std::size_t a_bytes = stored_type_bytes(a.type);
        const std::size_t b_bytes = stored_type_bytes(b.type);
        return a_bytes != b_bytes ? a_bytes > b_bytes : a.name < b.name;
    });
    std::vector<std::string> names;
    for (const TensorToWrite& t : tensors) names.push_back(t.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) {
        throw Error(ErrorCode::kInvalidArgument,
                    "write_safetensors: tensor '" + *twice + "' is given twice.");
    }
    if (std::binary_search(names.begin(), names.end(), "__metadata__")) {
        throw Error(ErrorCode::kInvalidArgument,
                    "write_safetensors: a tensor cannot have the name '__metadata__'.");
    }
}

std::string make_header(const std::vector<TensorToWrite>& tensors,
                        const std::map<std::string, std::string>& metadata) {
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    std::int64_t offset = 0;
    for (const TensorToWrite& t : tensors) {
        const std::int64_t end = offset + tensor_bytes(t);
        header[t.name] = {{"dtype", stored_type_name(t.type)},
                          {"shape", t.shape},
                          {"data_offsets", {offset, end}}};
        offset = end;
    }
    std::string text;
    try {
        text = header.dump();
    } catch (const nlohmann::json::exception&) {
        throw Error(ErrorCode::kInvalidArgument,
                    "write_safetensors: a tensor name or a metadata string is not valid UTF-8.");
    }
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return text;
}

}  // namespace

void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
    sort_and_check(tensors);
    const std::string header = make_header(tensors, metadata);
    char length[8];
    for (int i = 0; i < 8; ++i) {
        length[i] =
            static_cast<char>((static_cast<std::uint64_t>(header.size()) >> (8 * i)) & 0xff);
    }
    AtomicFile file(path);
    file.write(length, 8);
    file.write(header);
    for (const TensorToWrite& t : tensors) {
        file.write(t.data, static_cast<std::size_t>(tensor_bytes(t)));
    }
    file.commit();
}

}  // namespace carousel::io
