#include "src/backend/cuda/gemm_choice.hpp"

#include <charconv>
#include <cstdio>
#include <utility>

#include "carousel/error.hpp"

namespace carousel::cuda {

namespace {

constexpr std::string_view kFormat = "carousel gemm choices 1";
constexpr std::string_view kCheckName = " check=";
constexpr double kMargin = 0.03;
// Positions of the types and flags among a key's words (gemm_key); what follows is printed in order.
constexpr std::size_t kType = 0, kOutType = 1, kFlags = 2, kSizes = 3;

// Words of a key from kSizes on, in groups: name and count of each.
struct Group {
    std::string_view name;
    std::size_t count;
};
constexpr std::array<Group, 6> kGroups = {{{" size=", 3},
                                           {" ld=", 3},
                                           {" batch=", 1},
                                           {" strides=", 3},
                                           {" align=", 4},
                                           {" workspace=", 1}}};

std::string hex(std::uint64_t value) {
    char digits[17];
    std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(value));
    return digits;
}

// FNV-1a over bytes: offset basis and prime of its 64-bit form.
std::uint64_t check_sum(std::string_view text) {
    std::uint64_t sum = 14695981039346656037ULL;
    for (const char c : text) sum = (sum ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    return sum;
}

std::string print_choice(const GemmKey& key, const GemmChoice& choice) {
    const auto& words = key.words;
    const auto type = [&](std::size_t i) { return dtype_name(static_cast<DType>(words[i])); };
    const std::int64_t flags = words[kFlags];
    std::string line = std::string("types=") + type(kType) + "," + type(kOutType) +
                       " ops=" + ((flags & 1) != 0 ? "T" : "N") + ((flags & 2) != 0 ? "T" : "N") +
                       " beta=" + ((flags & 4) != 0 ? "0" : "1");
    std::size_t next = kSizes;
    for (const Group& group : kGroups) {
        line += group.name;
        for (std::size_t i = 0; i < group.count; ++i) {
            line += (i > 0 ? "," : "") + std::to_string(words[next++]);
        }
    }
    line += " ns=" + std::to_string(choice.ns) + "," + std::to_string(choice.first_ns) + " algo=";
    for (const std::uint64_t word : choice.algo) line += hex(word);
    return line + std::string(kCheckName) + hex(check_sum(line));
}

/// Takes a line apart from left to right; `good` turns false at the first thing that is not there.
class LineReader {
public:
    explicit LineReader(std::string_view line) : rest_(line) {}

    bool good() const { return good_; }
    bool at_end() const { return good_ && rest_.empty(); }
    bool take(std::string_view expected) {
        const bool there = rest_.substr(0, expected.size()) == expected;
        if (there) rest_.remove_prefix(expected.size());
        return there;
    }
    void want(std::string_view expected) { good_ = take(expected) && good_; }
    /// True for the first of two words, false for the second.
    bool either(std::string_view first, std::string_view second) {
        if (take(first)) return true;
        want(second);
        return false;
    }
    template <class Number>
    Number number(int base = 10, std::size_t digits = std::string_view::npos) {
        const std::string_view text = rest_.substr(0, digits);
        Number value{};
        const auto result = std::from_chars(text.data(), text.data() + text.size(), value, base);
        const auto used = static_cast<std::size_t>(result.ptr - text.data());
        const bool short_of = digits != std::string_view::npos && used != digits;
        good_ = good_ && result.ec == std::errc() && !short_of;
        rest_.remove_prefix(used);
        return value;
    }
    std::int64_t dtype() {
        for (const DType type :
             {DType::kF32, DType::kF64, DType::kTf32, DType::kBf16, DType::kF16}) {
            if (take(dtype_name(type))) return static_cast<std::int64_t>(type);
        }
        good_ = false;
        return 0;
    }

private:
    std::string_view rest_;
    bool good_ = true;
};

// False if the line is not what print_choice writes.
bool parse_choice(std::string_view line, GemmKey& key, GemmChoice& choice) {
    LineReader reader(line);
    reader.want("types=");
    key.words[kType] = reader.dtype();
    reader.want(",");
    key.words[kOutType] = reader.dtype();
    reader.want(" ops=");
    std::int64_t flags = reader.either("T", "N") ? 1 : 0;
    flags |= reader.either("T", "N") ? 2 : 0;
    reader.want(" beta=");
    key.words[kFlags] = flags | (reader.either("0", "1") ? 4 : 0);
    std::size_t next = kSizes;
    for (const Group& group : kGroups) {
        reader.want(group.name);
        for (std::size_t i = 0; i < group.count; ++i) {
            if (i > 0) reader.want(",");
            key.words[next++] = reader.number<std::int64_t>();
        }
    }
    reader.want(" ns=");
    choice.ns = reader.number<std::int64_t>();
    reader.want(",");
    choice.first_ns = reader.number<std::int64_t>();
    reader.want(" algo=");
    for (std::uint64_t& word : choice.algo) word = reader.number<std::uint64_t>(16, 16);
    reader.want(kCheckName);
    const auto sum = reader.number<std::uint64_t>(16, 16);
    if (!reader.at_end()) return false;
    return sum == check_sum(line.substr(0, line.rfind(kCheckName)));
}

/// The lines of a text one by one, counted from 1, and the sentence for one that is wrong.
class Lines {
public:
    Lines(std::string_view text, const std::string& name) : rest_(text), name_(name) {}

    std::string_view next(const char* expected) {
        ++number_;
        if (rest_.empty()) fail(std::string("is missing; expected ") + expected);
        const std::size_t end = rest_.find('\n');
        if (end == std::string_view::npos) fail("has no end: the text was cut off");
        const std::string_view line = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        return line;
    }
    bool at_end() const { return rest_.empty(); }
    [[noreturn]] void fail(const std::string& problem) const {
        throw Error(ErrorCode::kInvalidArgument,
                    "cannot use the products' algorithms in " + name_ + ": line " +
                        std::to_string(number_) + " " + problem +
                        "; time the products again on this machine and store the result");
    }

private:
    std::string_view rest_;
    const std::string& name_;
    int number_ = 0;
};

// Checks the heading; the number of choices that it announces.
std::uint64_t parse_heading(Lines& lines, const GemmPlace& here) {
    const auto quoted = [](std::string_view text) { return '"' + std::string(text) + '"'; };
    const std::string_view format = lines.next("the format");
    if (format != kFormat) lines.fail("is " + quoted(format) + "; expected " + quoted(kFormat));
    const std::string device = "device " + here.device;
    const std::string_view found_device = lines.next("the device");
    if (found_device != device) {
        lines.fail("is " + quoted(found_device) + "; this is " + quoted(device));
    }
    const std::string version = "cublaslt " + std::to_string(here.cublaslt);
    const std::string_view found_version = lines.next("cuBLASLt's version");
    if (found_version != version) {
        lines.fail("is " + quoted(found_version) + "; this is " + quoted(version));
    }
    const std::string_view count_line = lines.next("the number of choices");
    LineReader reader(count_line);
    reader.want("choices ");
    const auto count = reader.number<std::uint64_t>();
    if (!reader.at_end()) {
        lines.fail("is " + quoted(count_line) + "; expected \"choices \" and their number");
    }
    return count;
}

}  // namespace

std::size_t fastest_gemm(const std::vector<double>& ns) {
    std::size_t fastest = 0;
    for (std::size_t i = 1; i < ns.size(); ++i) {
        if (ns[i] < ns[fastest]) fastest = i;
    }
    return ns[fastest] < ns[0] * (1.0 - kMargin) ? fastest : 0;
}

std::string print_gemm_choices(const GemmPlace& place, const GemmChoices& choices) {
    std::string text = std::string(kFormat) + "\ndevice " + place.device + "\ncublaslt " +
                       std::to_string(place.cublaslt) + "\nchoices " +
                       std::to_string(choices.size()) + "\n";
    for (const auto& [key, choice] : choices) text += print_choice(key, choice) + "\n";
    return text;
}

GemmChoices parse_gemm_choices(std::string_view text, const GemmPlace& here,
                               const std::string& name) {
    Lines lines(text, name);
    const std::uint64_t count = parse_heading(lines, here);
    GemmChoices choices;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string_view line = lines.next("one more choice");
        GemmKey key;
        GemmChoice choice;
        if (!parse_choice(line, key, choice)) {
            lines.fail("is damaged: it is not a choice, or its check sum is another");
        }
        if (!choices.emplace(key, choice).second) lines.fail("repeats the product of another line");
    }
    if (!lines.at_end()) {
        lines.fail("should be the last, but text follows it");
    }
    return choices;
}

}  // namespace carousel::cuda
