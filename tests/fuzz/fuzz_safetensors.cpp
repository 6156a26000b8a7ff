#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "src/io/safetensors.hpp"

// Any bytes are either a safetensors file or an Error(kIo) with a sentence; nothing else may happen.

namespace {

using carousel::Error;
using carousel::ErrorCode;
using namespace carousel::io;

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

/// Reads every byte of every tensor through the conversion, so that a data pointer outside the file
/// is an access that the address sanitizer sees.
void read_tensors(const SafetensorsFile& file) {
    for (const StoredTensor& tensor : file.tensors()) {
        require(file.find(tensor.name) != nullptr);
        require(tensor.numel() >= 0);
        require(static_cast<std::size_t>(tensor.numel()) * stored_type_bytes(tensor.type) ==
                tensor.bytes);
        require(!tensor.shape_text().empty());
        std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
        try {
            convert_to(tensor, carousel::DType::kF64, values.data(), file.path());
        } catch (const Error& error) {
            require(error.code() == ErrorCode::kIo);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        read_tensors(parse_safetensors(data, size, "fuzz.safetensors"));
    } catch (const Error& error) {
        require(error.code() == ErrorCode::kIo);
        require(std::string(error.what()).find("fuzz.safetensors") != std::string::npos);
    }
    return 0;
}
