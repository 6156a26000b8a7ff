#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "carousel/error.hpp"

namespace carousel::data {

/// Text as code points, with the memory of where it came from, so that an error about one character
/// can name its file and byte.
struct Text {
    struct Part {
        std::string name;       ///< path, or a label such as "--prompt"
        std::size_t first = 0;  ///< index of its first code point in `code_points`
    };
    std::vector<char32_t> code_points;
    std::vector<Part> parts;           ///< in order; not empty
    ErrorCode blame = ErrorCode::kIo;  ///< code of errors about its content: kIo for files

    /// "'a.txt' at byte 17 (line 3)" of the code point with index `i`.
    std::string where(std::size_t i) const;
};

/// Decodes UTF-8, strictly (no overlong forms, surrogates, or values above U+10FFFF; NUL is refused
/// as the mark of a binary file).
/// Errors   `blame`: "'<name>' is not UTF-8 text: byte 0xff at offset 12 ...". Pass
/// kInvalidArgument
///          for text that came from a flag.
Text decode_utf8(std::string_view bytes, const std::string& name, ErrorCode blame = ErrorCode::kIo);

/// Reads files and joins them in order, with nothing between them.
/// Errors   Io: cannot be read; empty; not UTF-8 text. The sentence names the file (and offset).
Text load_text(const std::vector<std::string>& paths);

/// Appends one code point as UTF-8.
void append_utf8(std::string& out, char32_t code_point);

/// "U+00E9 'é'", or "U+000A" for what does not print.
std::string code_point_name(char32_t code_point);

/// A vocabulary of characters. Token id = rank of the code point in sorted order, so it does not
/// depend on the order in which a text uses them.
class Vocabulary {
public:
    Vocabulary() = default;
    /// The characters that occur in `text`.
    static Vocabulary from_text(const Text& text);
    /// The characters of `utf8` (what to_utf8 gave). Io if it is not valid UTF-8, not sorted, or
    /// repeats a character; `name` says where the string came from.
    static Vocabulary from_utf8(std::string_view utf8, const std::string& name);
    /// All characters, in order of id.
    std::string to_utf8() const;

    std::int64_t size() const noexcept { return static_cast<std::int64_t>(code_points_.size()); }
    char32_t code_point(std::int32_t id) const;             ///< InvalidArgument if out of range
    std::int32_t find(char32_t code_point) const noexcept;  ///< -1 if it has none

    /// Ids of a text. An error (code text.blame) names the first character without an id, with its
    /// place.
    std::vector<std::int32_t> encode(const Text& text) const;
    /// The characters of ids, as UTF-8.
    std::string decode(const std::vector<std::int32_t>& ids) const;

    friend bool operator==(const Vocabulary& a, const Vocabulary& b) {
        return a.code_points_ == b.code_points_;
    }

private:
    std::vector<char32_t> code_points_;  ///< sorted, unique
};

/// Fractions of a text that go to training, validation and test, in this order; they add up to 1.
/// A fraction may be 0 (no such split), except that of training.
struct SplitFractions {
    double train = 0.9;
    double validation = 0.05;
    double test = 0.05;
    /// Parses "0.9,0.05,0.05" or "0.9,0.1" (no test). InvalidArgument says which rule is broken.
    static SplitFractions parse(const std::string& text);
    std::string to_string() const;
};

/// Half-open range of token indices.
struct TokenRange {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t size() const noexcept { return end - begin; }
};
struct TextSplits {
    TokenRange train, validation, test;
};

/// Cuts `num_tokens` tokens into contiguous splits.
/// In       train_batch   parallel streams of the training split, which needs
///                        train_batch * seq_len + 1 tokens; the others need seq_len + 1.
/// Errors   Io: a split is too short for one window; says how many characters the text has, how
/// many
///          it must have, and what to change instead.
TextSplits split_tokens(std::int64_t num_tokens, const SplitFractions& fractions,
                        std::int64_t seq_len, std::int64_t train_batch);

}  // namespace carousel::data
