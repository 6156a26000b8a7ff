#include "src/train/parse.hpp"

#include <charconv>
#include <cmath>

#include "carousel/error.hpp"

namespace carousel::train {

std::vector<std::string> split_text(const std::string& text, char separator) {
    std::vector<std::string> parts(1);
    for (const char c : text) {
        if (c == separator) {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    return parts;
}

namespace {

template <class T>
T parse_all(const std::string& text, const std::string& what, const char* kind) {
    T value{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc() && stop == end) return value;
    throw Error(ErrorCode::kInvalidArgument, what + " is '" + text + "'; it must be " + kind);
}

}  // namespace

std::int64_t parse_integer(const std::string& text, const std::string& what) {
    return parse_all<std::int64_t>(text, what, "a whole number");
}

double parse_number(const std::string& text, const std::string& what) {
    const auto value = parse_all<double>(text, what, "a number");
    if (std::isfinite(value)) return value;
    throw Error(ErrorCode::kInvalidArgument, what + " is '" + text + "'; it must be finite");
}

std::string number_text(double value) {
    char buffer[64];
    const auto [stop, error] = std::to_chars(buffer, buffer + sizeof(buffer), value);
    return error == std::errc() ? std::string(buffer, stop) : std::to_string(value);
}

}  // namespace carousel::train
