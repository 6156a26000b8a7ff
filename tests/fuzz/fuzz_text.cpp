#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "carousel/error.hpp"
#include "src/data/text.hpp"

// Any bytes are either text, and then survive the way to token ids and back unchanged, or an error
// that names the file.

namespace {

using carousel::Error;
using carousel::ErrorCode;
using namespace carousel::data;

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

void round_trip(std::string_view bytes, const Text& text) {
    std::string encoded;
    for (const char32_t code_point : text.code_points) {
        append_utf8(encoded, code_point);
    }
    require(encoded == bytes);

    const Vocabulary vocabulary = Vocabulary::from_text(text);
    const std::vector<std::int32_t> ids = vocabulary.encode(text);
    require(ids.size() == text.code_points.size());
    require(vocabulary.decode(ids) == bytes);
    if (!text.code_points.empty()) {
        require(vocabulary == Vocabulary::from_utf8(vocabulary.to_utf8(), "vocabulary"));
        require(!text.where(text.code_points.size() - 1).empty());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    Text text;
    try {
        text = decode_utf8(bytes, "fuzz.txt");
    } catch (const Error& error) {
        require(error.code() == ErrorCode::kIo);
        require(std::string(error.what()).find("fuzz.txt") != std::string::npos);
        return 0;
    }
    round_trip(bytes, text);

    // A vocabulary read from a checkpoint is untrusted too.
    try {
        require(Vocabulary::from_utf8(bytes, "vocabulary").to_utf8() == bytes);
    } catch (const Error& error) {
        require(error.code() == ErrorCode::kIo);
    }
    return 0;
}
