#include "bench/core/grid.hpp"

#include <algorithm>
#include <fstream>
#include <random>
#include <set>
#include <sstream>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

[[noreturn]] void reject(const std::string& place, const std::string& why) {
    throw Error(ErrorCode::kInvalidArgument, place + ": " + why);
}

std::int64_t parse_count(const std::string& place, const std::string& word,
                         const std::string& digits) {
    if (digits.empty() || digits.size() > 9 ||
        digits.find_first_not_of("0123456789") != std::string::npos || std::stoll(digits) == 0) {
        reject(place, "'" + word + "' should end in a positive number, as H512 does.");
    }
    return std::stoll(digits);
}

double parse_fraction(const std::string& place, const std::string& word,
                      const std::string& digits) {
    std::istringstream in(digits);
    double value = 0.0;
    if (!(in >> value) || !in.eof() || value <= 0.0 || value > 1.0) {
        reject(place, "'" + word + "' should end in a number in (0, 1], as reset=0.03 does.");
    }
    return value;
}

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
    return parts;
}

InputMode parse_input(const std::string& place, const std::string& word, const std::string& name) {
    for (const InputMode mode :
         {InputMode::kLinear, InputMode::kSkip, InputMode::kPrecomputed, InputMode::kBlock}) {
        if (name == input_mode_name(mode)) return mode;
    }
    reject(place, "'" + word + "' is none of input=linear, skip, precomputed, block.");
}

void parse_named(const std::string& place, const std::string& word, GridRow& row) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals), value = word.substr(equals + 1);
    if (key == "id") {
        row.id = value;
    } else if (key == "dtypes") {
        row.dtypes = split(value);
    } else if (key == "pass") {
        row.passes = split(value);
        for (const std::string& pass : row.passes) {
            if (pass != "infer" && pass != "forward" && pass != "backward_data" &&
                pass != "backward" && pass != "train") {
                reject(place, "'" + pass + "' is no pass.");
            }
        }
    } else if (key == "heads") {
        row.heads = parse_count(place, word, value);
    } else if (key == "input") {
        row.input = parse_input(place, word, value);
    } else if (key == "reset") {
        row.reset = parse_fraction(place, word, value);
    } else if (key == "lengths") {
        row.lengths_from = parse_fraction(place, word, value);
    } else if (word == "directions=alternating") {
        row.alternating = true;
    } else {
        reject(place, "unknown word '" + word + "'.");
    }
}

void parse_size(const std::string& place, const std::string& word, GridRow& row) {
    const std::int64_t size = parse_count(place, word, word.substr(1));
    switch (word[0]) {
        case 'H':
            row.hidden_size = size;
            return;
        case 'I':
            row.input_size = size;
            return;
        case 'L':
            row.num_layers = size;
            return;
        case 'N':
            row.batch_size = size;
            return;
        case 'T':
            row.seq_len = size;
            return;
        case 'D':
            if (size > 2) reject(place, "'" + word + "' should be D1 or D2.");
            row.bidirectional = size == 2;
            return;
        default:
            reject(place, "unknown word '" + word + "'.");
    }
}

bool is_cell(const std::string& name) {
    return name == "lstm" || name == "gru" || name == "gru_reset_before" || name == "rnn_tanh" ||
           name == "rnn_relu";
}
bool is_dtype(const std::string& name) {
    return name == "f32" || name == "tf32" || name == "bf16" || name == "f16" || name == "f64";
}

}  // namespace

const char* input_mode_name(InputMode mode) noexcept {
    switch (mode) {
        case InputMode::kSkip:
            return "skip";
        case InputMode::kPrecomputed:
            return "precomputed";
        case InputMode::kBlock:
            return "block";
        default:
            return "linear";
    }
}

GridRow parse_grid_row(const std::string& place, const std::string& line) {
    GridRow row;
    const std::size_t remark = line.find('#');
    if (remark != std::string::npos) {
        const std::size_t begin = line.find_first_not_of(" \t", remark + 1);
        if (begin != std::string::npos) row.published = line.substr(begin);
    }
    std::istringstream words(line.substr(0, remark));
    std::string word;
    words >> word;
    row.text = word;
    row.cells = split(word);
    while (words >> word) {
        row.text += " " + word;
        if (word == "headline") {
            row.headline = true;
        } else if (word.find('=') != std::string::npos) {
            parse_named(place, word, row);
        } else {
            parse_size(place, word, row);
        }
    }
    if (row.hidden_size == 0 || row.batch_size == 0 || row.seq_len == 0 || row.cells.empty()) {
        reject(place, "a row needs a cell, H, N and T.");
    }
    if (row.input_size == 0) row.input_size = row.hidden_size;
    if (row.dtypes.empty()) row.dtypes = {"f32"};
    if (row.passes.empty()) row.passes = {"infer", "forward", "backward_data", "backward", "train"};
    if (row.id.empty()) row.id = "-";
    return row;
}

std::vector<GridRow> read_grid(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw Error(ErrorCode::kInvalidArgument, "cannot open the shape file " + path + ".");
    std::vector<GridRow> rows;
    std::set<std::string> ids;
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
        const std::size_t first = line.find_first_not_of(" \t\r");
        if (first == std::string::npos || line[first] == '#') continue;
        const std::string place = path + ":" + std::to_string(number);
        rows.push_back(parse_grid_row(place, line));
        if (rows.back().id != "-" && !ids.insert(rows.back().id).second) {
            reject(place, "the id " + rows.back().id + " occurs twice.");
        }
    }
    return rows;
}

bool in_grid(const GridRow& row, const std::string& name) {
    if (name == "all" || name == "cpu") return true;
    if (name == "headline") return row.headline;
    if (name == "deepbench") return row.id.rfind("DB", 0) == 0;
    if (name == "flashrnn") return row.id.rfind("FR", 0) == 0;
    throw Error(ErrorCode::kInvalidArgument, "--grid is '" + name +
                                                 "'; expected headline, deepbench, flashrnn, cpu "
                                                 "or all.");
}

std::string GridCase::name() const {
    return row.id + " " + cell_name(spec.cell) + " " + dtype_name(spec.dtype);
}

GridCase make_case(const GridRow& row, const std::string& cell, const std::string& dtype) {
    GridCase c;
    c.row = row;
    c.seq_len = row.seq_len;
    c.batch_size = row.batch_size;
    const std::string& cell_text = cell.empty() ? row.cells.front() : cell;
    const std::string& dtype_text = dtype.empty() ? row.dtypes.front() : dtype;
    if (!is_cell(cell_text)) {
        c.not_yet = "not yet: cell " + cell_text;
    } else if (!is_dtype(dtype_text)) {
        c.not_yet = "not yet: dtype " + dtype_text;
    } else if (row.heads > 1) {
        c.not_yet = "not yet: heads";
    } else if (row.input == InputMode::kBlock) {
        c.not_yet = "not yet: block input";
    }
    if (is_cell(cell_text)) c.spec.cell = cell_parse(cell_text);
    if (is_dtype(dtype_text)) c.spec.dtype = dtype_parse(dtype_text);
    c.spec.input_size = row.input_size;
    c.spec.hidden_size = row.hidden_size;
    c.spec.num_layers = row.num_layers;
    c.spec.bidirectional = row.bidirectional;
    c.inference_only = row.passes.size() == 1 && row.passes[0] == "infer";
    if (row.input == InputMode::kSkip || row.input == InputMode::kPrecomputed) {
        c.forms.push_back(std::string("linear input, I = H, for ") + input_mode_name(row.input));
    }
    if (row.alternating) c.forms.push_back("all layers forward, for alternating directions");
    return c;
}

double forward_flops(const GridCase& c) {
    double per_step = 0.0;
    for (std::int64_t layer = 0; layer < c.spec.num_layers; ++layer) {
        per_step += 2.0 * static_cast<double>(
                              c.spec.num_directions() * c.spec.num_gates() * c.spec.hidden_size *
                              (c.spec.layer_input_size(layer) + c.spec.output_size()));
        if (c.spec.proj_size > 0) {
            per_step += 2.0 * static_cast<double>(c.spec.num_directions() * c.spec.hidden_size *
                                                  c.spec.proj_size);
        }
    }
    double steps = static_cast<double>(c.seq_len) * static_cast<double>(c.batch_size);
    if (c.row.lengths_from < 1.0) {
        steps = 0.0;
        for (const std::int64_t length : case_lengths(c)) steps += static_cast<double>(length);
    }
    return per_step * steps;
}

std::vector<std::int64_t> case_lengths(const GridCase& c) {
    if (c.row.lengths_from >= 1.0) return {};
    std::mt19937_64 random(17);  // its raw values are the same with every standard library
    const auto least = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(c.row.lengths_from * static_cast<double>(c.seq_len)));
    std::vector<std::int64_t> lengths(static_cast<std::size_t>(c.batch_size));
    for (std::int64_t& length : lengths) {
        length = least + static_cast<std::int64_t>(
                             random() % static_cast<std::uint64_t>(c.seq_len - least + 1));
    }
    return lengths;
}

std::vector<std::uint8_t> case_resets(const GridCase& c) {
    if (c.row.reset <= 0.0) return {};
    std::mt19937_64 random(19);
    std::vector<std::uint8_t> resets(static_cast<std::size_t>(c.seq_len * c.batch_size));
    for (std::uint8_t& reset : resets) {
        reset = static_cast<double>(random() >> 11) * 0x1p-53 < c.row.reset ? 1 : 0;
    }
    return resets;
}

}  // namespace carousel::bench
