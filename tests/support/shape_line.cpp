#include "tests/support/shape_line.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace carousel::test {
namespace {

std::string without_remark(const std::string& line) {
    const std::string text = line.substr(0, line.find('#'));
    const std::size_t last = text.find_last_not_of(" \t\r");
    return last == std::string::npos ? std::string() : text.substr(0, last + 1);
}

bool starts_with(const std::string& word, const std::string& prefix) {
    return word.compare(0, prefix.size(), prefix) == 0;
}

std::int64_t parse_integer(const std::string& digits, const std::string& word) {
    std::size_t used = 0;
    std::int64_t value = 0;
    try {
        value = std::stoll(digits, &used);
    } catch (const std::exception&) {
        used = 0;
    }
    if (used == 0 || used != digits.size()) {
        throw std::runtime_error("shape line: no number in '" + word + "'");
    }
    return value;
}

BiasMode parse_bias(const std::string& name, const std::string& word) {
    if (name == "none") return BiasMode::kNone;
    if (name == "single") return BiasMode::kSingle;
    if (name == "double") return BiasMode::kDouble;
    throw std::runtime_error("shape line: '" + word + "' is not bias=none|single|double");
}

bool parse_flag(const std::string& word, ShapeLine& line) {
    if (word == "lengths")
        line.lengths = true;
    else if (word == "reset")
        line.reset = true;
    else if (word == "no_states")
        line.states = false;
    else if (word == "batch_first")
        line.batch_first = true;
    else if (word == "packed")
        line.packed = true;
    else if (word == "accumulate")
        line.accumulate = true;
    else if (word == "f32")
        line.spec.dtype = DType::kF32;
    else if (word == "f64")
        line.spec.dtype = DType::kF64;
    else if (word == "tf32")
        line.spec.dtype = DType::kTf32;
    else if (word == "bf16")
        line.spec.dtype = DType::kBf16;
    else if (word == "f16")
        line.spec.dtype = DType::kF16;
    else
        return false;
    return true;
}

void parse_planned(const std::string& value, const std::string& word, ShapeLine& line) {
    const std::size_t comma = value.find(",N");
    if (value.empty() || value[0] != 'T' || comma == std::string::npos) {
        throw std::runtime_error("shape line: '" + word + "' is not planned=T<n>,N<n>");
    }
    line.planned_seq_len = parse_integer(value.substr(1, comma - 1), word);
    line.planned_batch_size = parse_integer(value.substr(comma + 2), word);
}

void parse_word(const std::string& word, ShapeLine& line) {
    if (parse_flag(word, line)) return;
    if (starts_with(word, "bias=")) {
        line.spec.bias = parse_bias(word.substr(5), word);
    } else if (starts_with(word, "dropout=")) {
        line.spec.dropout = std::stod(word.substr(8));
    } else if (starts_with(word, "threads=")) {
        line.threads = static_cast<int>(parse_integer(word.substr(8), word));
    } else if (starts_with(word, "planned=")) {
        parse_planned(word.substr(8), word, line);
    } else if (starts_with(word, "seed")) {
        line.seed = static_cast<std::uint64_t>(parse_integer(word.substr(4), word));
    } else {
        const std::int64_t value = parse_integer(word.substr(1), word);
        switch (word[0]) {
            case 'T':
                line.seq_len = value;
                break;
            case 'N':
                line.batch_size = value;
                break;
            case 'I':
                line.spec.input_size = value;
                break;
            case 'H':
                line.spec.hidden_size = value;
                break;
            case 'L':
                line.spec.num_layers = value;
                break;
            case 'D':
                line.spec.bidirectional = value == 2;
                break;
            case 'P':
                line.spec.proj_size = value;
                break;
            default:
                throw std::runtime_error("shape line: unknown word '" + word + "'");
        }
    }
}

}  // namespace

ShapeLine parse_shape_line(const std::string& text) {
    ShapeLine line;
    line.text = without_remark(text);
    line.spec.dtype = DType::kF64;
    std::istringstream words(line.text);
    std::string word;
    words >> word;
    line.spec.cell = cell_parse(word);
    while (words >> word) parse_word(word, line);
    if (line.seq_len < 1 || line.batch_size < 1 || line.spec.input_size < 1 ||
        line.spec.hidden_size < 1) {
        throw std::runtime_error("shape line: T, N, I and H are required in '" + line.text + "'");
    }
    if (line.planned_seq_len == 0) line.planned_seq_len = line.seq_len;
    if (line.planned_batch_size == 0) line.planned_batch_size = line.batch_size;
    return line;
}

std::vector<ShapeLine> load_shape_file(const std::string& name) {
    // A moved test program is told where its files went.
    const char* moved = std::getenv("CAROUSEL_TEST_DIR");
    const std::string path =
        std::string(moved != nullptr ? moved : CAROUSEL_TEST_DIR) + "/shapes/" + name;
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    std::vector<ShapeLine> lines;
    std::string text;
    while (std::getline(file, text)) {
        if (!without_remark(text).empty()) lines.push_back(parse_shape_line(text));
    }
    if (lines.empty()) throw std::runtime_error("no shape line in " + path);
    return lines;
}

std::string rerun_command(const ShapeLine& line) {
    return "rerun: CAROUSEL_SHAPE='" + line.text +
           "' carousel_tests --gtest_filter=RnnParity.LineOfEnvironment";
}

}  // namespace carousel::test
