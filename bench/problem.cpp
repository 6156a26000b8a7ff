#include "bench/problem.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

[[noreturn]] void reject(const std::string& place, const std::string& why) {
    throw Error(ErrorCode::kInvalidArgument, place + ": " + why);
}

std::int64_t parse_size(const std::string& place, const std::string& word) {
    const std::string digits = word.substr(1);
    if (digits.empty() || digits.size() > 9 ||
        digits.find_first_not_of("0123456789") != std::string::npos || std::stoll(digits) == 0) {
        reject(place, "'" + word + "' should be a letter and a positive number, such as H512.");
    }
    return std::stoll(digits);
}

Row parse_row(const std::string& place, const std::string& line) {
    Row row;
    std::istringstream words(line);
    std::string word;
    words >> word;
    row.text = word;
    row.spec.cell = cell_parse(word);
    while (words >> word) {
        row.text += " " + word;
        const std::int64_t size = parse_size(place, word);
        switch (word[0]) {
            case 'H':
                row.spec.hidden_size = size;
                break;
            case 'I':
                row.spec.input_size = size;
                break;
            case 'L':
                row.spec.num_layers = size;
                break;
            case 'N':
                row.batch_size = size;
                break;
            case 'T':
                row.seq_len = size;
                break;
            default:
                reject(place, "'" + word + "' is none of H, I, L, N, T.");
        }
    }
    if (row.spec.hidden_size == 0 || row.batch_size == 0 || row.seq_len == 0) {
        reject(place, "a row needs H, N and T.");
    }
    if (row.spec.input_size == 0) row.spec.input_size = row.spec.hidden_size;
    validate(row.spec);
    return row;
}

/// Numbers spread evenly over [-scale, scale].
void fill_uniform(const Buffer& buffer, std::uint64_t seed, double scale) {
    std::uint64_t state = seed * 0x9E3779B97F4A7C15ull;
    for (std::size_t i = 0; i < buffer.bytes() / sizeof(float); ++i) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        const double u = static_cast<double>(state >> 11) * 0x1.0p-52 - 1.0;
        buffer.as<float>()[i] = static_cast<float>(scale * u);
    }
}

double relative_difference(const float* a, const float* b, std::size_t n) {
    double square = 0.0, reference = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        square += d * d;
        reference += static_cast<double>(b[i]) * static_cast<double>(b[i]);
    }
    // A reference of zeros would make any result look right.
    const double relative =
        reference > 0.0 ? std::sqrt(square / reference) : std::numeric_limits<double>::infinity();
    return std::isnan(relative) ? std::numeric_limits<double>::infinity() : relative;
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
    return a.empty() ? 0.0 : relative_difference(a.data(), b.data(), a.size());
}

}  // namespace

std::vector<Row> read_rows(const std::string& path) {
    std::ifstream file(path);
    if (!file) {
        throw Error(ErrorCode::kInvalidArgument, "cannot open the shape file " + path + ".");
    }
    std::vector<Row> rows;
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
        line.erase(std::min(line.find('#'), line.size()));
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        rows.push_back(parse_row(path + ":" + std::to_string(number), line));
    }
    return rows;
}

double forward_flops(const Row& row) {
    double per_step = 0.0;
    for (std::int64_t layer = 0; layer < row.spec.num_layers; ++layer) {
        per_step +=
            2.0 * static_cast<double>(row.spec.num_gates() * row.spec.hidden_size *
                                      (row.spec.layer_input_size(layer) + row.spec.hidden_size));
    }
    return per_step * static_cast<double>(row.seq_len * row.batch_size);
}

Problem::Problem(const Row& r) : row(r) {
    const RnnSpec& s = row.spec;
    std::uint64_t seed = 1;
    const auto make = [&](std::int64_t numel, double scale, const char* what) {
        Buffer buffer(static_cast<std::size_t>(numel) * sizeof(float), {}, what);
        fill_uniform(buffer, seed++, scale);
        return buffer;
    };
    const std::int64_t tokens = row.seq_len * row.batch_size;
    const std::int64_t states = s.num_states() * row.batch_size * s.hidden_size;
    weights = make(param_count(s), 1.0 / std::sqrt(static_cast<double>(s.hidden_size)), "weights");
    x = make(tokens * s.input_size, 1.0, "x");
    hx = make(states, 1.0, "hx");
    dy = make(tokens * s.hidden_size, 1.0, "dy");
    dhy = make(states, 1.0, "dhy");
    if (cell_has_c(s.cell)) {
        cx = make(states, 1.0, "cx");
        dcy = make(states, 1.0, "dcy");
    }
}

Difference difference(const RnnSpec& spec, const Outcome& a, const Outcome& b) {
    Difference d;
    d.outputs = std::max({relative_difference(a.y, b.y), relative_difference(a.hy, b.hy),
                          relative_difference(a.cy, b.cy)});
    d.gradients = std::max({relative_difference(a.dx, b.dx), relative_difference(a.dhx, b.dhx),
                            relative_difference(a.dcx, b.dcx)});
    for (const RnnParamInfo& info : param_layout(spec)) {
        d.gradients =
            std::max(d.gradients, relative_difference(a.dweights.data() + info.offset,
                                                      b.dweights.data() + info.offset,
                                                      static_cast<std::size_t>(info.numel)));
    }
    return d;
}

}  // namespace carousel::bench
