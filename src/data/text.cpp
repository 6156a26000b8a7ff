#include "src/data/text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "src/io/file.hpp"

namespace carousel::data {

namespace {

/// One code point read from bytes; length 0 marks invalid UTF-8.
struct Decoded {
    char32_t code_point = 0;
    std::size_t length = 0;
};

/// The table of well-formed sequences of the Unicode Standard (3.9, table 3-7): the range of the
/// second byte depends on the first, which excludes overlong forms, surrogates and what lies above
/// U+10FFFF.
Decoded decode_one(std::string_view bytes, std::size_t at) {
    const auto byte = [&](std::size_t i) {
        return at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u;
    };
    const unsigned b0 = byte(0);
    if (b0 < 0x80) return {b0, 1};
    if (b0 < 0xC2 || b0 > 0xF4) return {};
    const std::size_t length = b0 < 0xE0 ? 2 : b0 < 0xF0 ? 3 : 4;
    const unsigned low = b0 == 0xE0 ? 0xA0 : b0 == 0xF0 ? 0x90 : 0x80;
    const unsigned high = b0 == 0xED ? 0x9F : b0 == 0xF4 ? 0x8F : 0xBF;
    if (byte(1) < low || byte(1) > high) return {};
    char32_t code_point = (b0 & (0xFFu >> (length + 1))) << 6 | (byte(1) & 0x3Fu);
    for (std::size_t i = 2; i < length; ++i) {
        if ((byte(i) & 0xC0u) != 0x80u) return {};
        code_point = code_point << 6 | (byte(i) & 0x3Fu);
    }
    return {code_point, length};
}

std::size_t utf8_length(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

void append_decoded(Text& text, std::string_view bytes, const std::string& name) {
    text.parts.push_back({name, text.code_points.size()});
    text.code_points.reserve(text.code_points.size() + bytes.size());
    for (std::size_t at = 0; at < bytes.size();) {
        const Decoded decoded = decode_one(bytes, at);
        if (decoded.length == 0 || decoded.code_point == 0) {
            std::array<char, 96> found{};
            std::snprintf(found.data(), found.size(), "%s 0x%02x at offset %zu",
                          decoded.length == 0 ? "invalid byte" : "the byte",
                          static_cast<unsigned>(static_cast<unsigned char>(bytes[at])), at);
            throw Error(text.blame, "'" + name + "' is not UTF-8 text: " + found.data() +
                                        ". Convert it to UTF-8, or name a text file.");
        }
        text.code_points.push_back(decoded.code_point);
        at += decoded.length;
    }
}

double parse_fraction(const std::string& item, const std::string& whole) {
    char* end = nullptr;
    const double value = std::strtod(item.c_str(), &end);
    if (item.empty() || *end != '\0' || !(value >= 0.0 && value <= 1.0)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--split '" + whole + "': '" + item + "' is not a fraction from 0 to 1.");
    }
    return value;
}

}  // namespace

std::string Text::where(std::size_t i) const {
    std::size_t p = parts.size();
    while (p > 1 && parts[p - 1].first > i) --p;
    const Part& part = parts[p - 1];
    std::size_t offset = 0;
    std::size_t line = 1;
    for (std::size_t k = part.first; k < i; ++k) {
        offset += utf8_length(code_points[k]);
        line += code_points[k] == U'\n' ? 1 : 0;
    }
    return "'" + part.name + "' at byte " + std::to_string(offset) + " (line " +
           std::to_string(line) + ")";
}

Text decode_utf8(std::string_view bytes, const std::string& name, ErrorCode blame) {
    Text text;
    text.blame = blame;
    append_decoded(text, bytes, name);
    return text;
}

Text load_text(const std::vector<std::string>& paths) {
    if (paths.empty()) throw Error(ErrorCode::kInvalidArgument, "no text file is named.");
    Text text;
    for (const std::string& path : paths) {
        const std::string bytes = io::read_file(path);
        if (bytes.empty()) {
            throw Error(ErrorCode::kIo, "'" + path + "' is empty: there is no text to read.");
        }
        append_decoded(text, bytes, path);
    }
    text.code_points.shrink_to_fit();
    return text;
}

void append_utf8(std::string& out, char32_t c) {
    const auto put = [&](char32_t bits) { out.push_back(static_cast<char>(bits)); };
    if (c < 0x80) {
        put(c);
    } else if (c < 0x800) {
        put(0xC0 | c >> 6);
        put(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        put(0xE0 | c >> 12);
        put(0x80 | (c >> 6 & 0x3F));
        put(0x80 | (c & 0x3F));
    } else {
        put(0xF0 | c >> 18);
        put(0x80 | (c >> 12 & 0x3F));
        put(0x80 | (c >> 6 & 0x3F));
        put(0x80 | (c & 0x3F));
    }
}

std::string code_point_name(char32_t c) {
    std::array<char, 16> number{};
    std::snprintf(number.data(), number.size(), "U+%04X", static_cast<unsigned>(c));
    std::string text = number.data();
    const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
    if (!control) {
        text += " '";
        append_utf8(text, c);
        text += "'";
    }
    return text;
}

Vocabulary Vocabulary::from_text(const Text& text) {
    std::vector<bool> seen(0x110000, false);
    for (const char32_t c : text.code_points) seen[c] = true;
    Vocabulary vocabulary;
    for (char32_t c = 0; c < seen.size(); ++c) {
        if (seen[c]) vocabulary.code_points_.push_back(c);
    }
    return vocabulary;
}

Vocabulary Vocabulary::from_utf8(std::string_view utf8, const std::string& name) {
    Vocabulary vocabulary;
    vocabulary.code_points_ = decode_utf8(utf8, name).code_points;
    const auto& points = vocabulary.code_points_;
    const auto disorder = std::adjacent_find(points.begin(), points.end(),
                                             [](char32_t a, char32_t b) { return a >= b; });
    if (disorder != points.end()) {
        throw Error(ErrorCode::kIo, "'" + name + "': the vocabulary is not in order of code " +
                                        "point: " + code_point_name(*disorder) + " stands before " +
                                        code_point_name(*(disorder + 1)) + ".");
    }
    return vocabulary;
}

std::string Vocabulary::to_utf8() const {
    std::string out;
    for (const char32_t c : code_points_) append_utf8(out, c);
    return out;
}

char32_t Vocabulary::code_point(std::int32_t id) const {
    if (id < 0 || id >= size()) {
        throw Error(ErrorCode::kInvalidArgument, "token id " + std::to_string(id) +
                                                     " is outside the vocabulary of " +
                                                     std::to_string(size()) + " characters.");
    }
    return code_points_[static_cast<std::size_t>(id)];
}

std::int32_t Vocabulary::find(char32_t c) const noexcept {
    const auto at = std::lower_bound(code_points_.begin(), code_points_.end(), c);
    return at != code_points_.end() && *at == c
               ? static_cast<std::int32_t>(at - code_points_.begin())
               : -1;
}

std::vector<std::int32_t> Vocabulary::encode(const Text& text) const {
    std::vector<std::int32_t> ids(text.code_points.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        ids[i] = find(text.code_points[i]);
        if (ids[i] < 0) {
            throw Error(text.blame, text.where(i) + " has the character " +
                                        code_point_name(text.code_points[i]) +
                                        ", which is not among the " + std::to_string(size()) +
                                        " characters that the model knows.");
        }
    }
    return ids;
}

std::string Vocabulary::decode(const std::vector<std::int32_t>& ids) const {
    std::string out;
    for (const std::int32_t id : ids) append_utf8(out, code_point(id));
    return out;
}

SplitFractions SplitFractions::parse(const std::string& text) {
    std::vector<std::string> items(1);
    for (const char c : text) {
        if (c == ',') {
            items.emplace_back();
        } else {
            items.back().push_back(c);
        }
    }
    if (items.size() < 2 || items.size() > 3) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--split '" + text +
                        "': expected the fractions of training, validation and test, such as "
                        "0.9,0.05,0.05.");
    }
    items.resize(3, "0");
    SplitFractions f;
    f.train = parse_fraction(items[0], text);
    f.validation = parse_fraction(items[1], text);
    f.test = parse_fraction(items[2], text);
    const double sum = f.train + f.validation + f.test;
    if (std::fabs(sum - 1.0) > 1e-9 || f.train == 0.0) {
        throw Error(ErrorCode::kInvalidArgument,
                    "--split '" + text +
                        "': the fractions must add up to 1, and that of training "
                        "must not be 0.");
    }
    return f;
}

std::string SplitFractions::to_string() const {
    std::array<char, 128> text{};
    std::snprintf(text.data(), text.size(), "%.15g,%.15g,%.15g", train, validation, test);
    return text.data();
}

namespace {

TextSplits cut(std::int64_t num_tokens, const SplitFractions& f) {
    const auto at = [&](double fraction) {
        return std::min(num_tokens, static_cast<std::int64_t>(
                                        std::llround(fraction * static_cast<double>(num_tokens))));
    };
    TextSplits s;
    // A split that is not wanted gets nothing, not what rounding left over.
    s.train = {0, f.validation == 0.0 && f.test == 0.0 ? num_tokens : at(f.train)};
    s.validation = {s.train.end, f.test == 0.0 ? num_tokens : at(f.train + f.validation)};
    s.test = {s.validation.end, num_tokens};
    return s;
}

const char* short_split(const TextSplits& s, const SplitFractions& f, std::int64_t train_need,
                        std::int64_t other_need) {
    if (s.train.size() < train_need) return "training";
    if (f.validation > 0.0 && s.validation.size() < other_need) return "validation";
    if (f.test > 0.0 && s.test.size() < other_need) return "test";
    return nullptr;
}

}  // namespace

TextSplits split_tokens(std::int64_t num_tokens, const SplitFractions& fractions,
                        std::int64_t seq_len, std::int64_t train_batch) {
    const std::int64_t train_need = train_batch * seq_len + 1;
    const std::int64_t other_need = seq_len + 1;
    const TextSplits splits = cut(num_tokens, fractions);
    const char* too_short = short_split(splits, fractions, train_need, other_need);
    if (too_short == nullptr) return splits;

    // The length from which on every text would do. Rounding shifts each cut by half a token at
    // most, so it lies near the exact bound, and is searched downwards from above it.
    double bound = static_cast<double>(train_need) / fractions.train;
    double smallest = fractions.train;
    for (const double f : {fractions.validation, fractions.test}) {
        if (f > 0.0) {
            bound = std::max(bound, static_cast<double>(other_need) / f);
            smallest = std::min(smallest, f);
        }
    }
    auto needed = static_cast<std::int64_t>(std::ceil(bound + 2.0 / smallest)) + 1;
    while (short_split(cut(needed - 1, fractions), fractions, train_need, other_need) == nullptr) {
        --needed;
    }
    throw Error(ErrorCode::kIo,
                "the text is too short: it has " + std::to_string(num_tokens) +
                    " characters and must have at least " + std::to_string(needed) +
                    ". Training needs batch x seq-len + 1 = " + std::to_string(train_need) +
                    " characters, every other split seq-len + 1 = " + std::to_string(other_need) +
                    "; the " + too_short +
                    " split is the one too short. Name more text, lower --batch or "
                    "--seq-len, or give that split a larger fraction with --split.");
}

}  // namespace carousel::data
