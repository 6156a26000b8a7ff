#include "src/io/rnn_weights.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "carousel/error.hpp"

namespace carousel::io {

namespace {

/// A tensor name taken apart: prefix + kind + "_l" + layer + ("_reverse").
struct WeightName {
    std::string prefix;
    std::string kind;
    std::int64_t layer = 0;
    bool reverse = false;
};

std::optional<WeightName> parse_name(const std::string& name) {
    static constexpr std::array<const char*, 5> kKinds{"weight_ih", "weight_hh", "bias_ih",
                                                       "bias_hh", "weight_hr"};
    WeightName parsed;
    std::string rest = name;
    const std::string reverse = "_reverse";
    if (rest.size() > reverse.size() &&
        rest.compare(rest.size() - reverse.size(), reverse.size(), reverse) == 0) {
        parsed.reverse = true;
        rest.resize(rest.size() - reverse.size());
    }
    const std::size_t digits = rest.find_last_not_of("0123456789") + 1;
    // Six digits are far beyond any stack; more would only overflow.
    if (digits >= rest.size() || rest.size() - digits > 6 || digits < 2 ||
        rest.compare(digits - 2, 2, "_l") != 0 ||
        (rest[digits] == '0' && rest.size() > digits + 1)) {
        return std::nullopt;
    }
    parsed.layer = std::stoll(rest.substr(digits));
    rest.resize(digits - 2);
    for (const char* kind : kKinds) {
        const std::size_t length = std::strlen(kind);
        if (rest.size() >= length && rest.compare(rest.size() - length, length, kind) == 0) {
            parsed.kind = kind;
            parsed.prefix = rest.substr(0, rest.size() - length);
            return parsed;
        }
    }
    return std::nullopt;
}

[[noreturn]] void fail(const SafetensorsFile& file, const std::string& what) {
    throw Error(ErrorCode::kIo, "'" + file.path() + "': " + what);
}

std::string choose_prefix(const SafetensorsFile& file, const std::string& wanted) {
    std::set<std::string> prefixes;
    for (const StoredTensor& t : file.tensors()) {
        if (const auto name = parse_name(t.name)) prefixes.insert(name->prefix);
    }
    if (!wanted.empty()) {
        if (prefixes.count(wanted) == 0) {
            fail(file, "no tensor '" + wanted +
                           "weight_ih_l0' or alike, so there is no recurrent "
                           "layer with the prefix '" +
                           wanted + "'.");
        }
        return wanted;
    }
    if (prefixes.empty()) {
        std::string found;
        for (const StoredTensor& t : file.tensors()) {
            if (found.size() < 200) found += (found.empty() ? "" : ", ") + t.name;
        }
        fail(file,
             "no tensor has a name of a recurrent layer, such as weight_ih_l0 or "
             "rnn.weight_ih_l0; the file has " +
                 (found.empty() ? "no tensors" : found) + ".");
    }
    if (prefixes.size() > 1) {
        std::string list;
        for (const std::string& p : prefixes) list += (list.empty() ? "'" : ", '") + p + "'";
        fail(file, "it holds several recurrent layers, with the prefixes " + list +
                       "; choose one with --prefix.");
    }
    return *prefixes.begin();
}

const StoredTensor& need(const SafetensorsFile& file, const std::string& name) {
    const StoredTensor* tensor = file.find(name);
    if (tensor == nullptr) fail(file, "tensor '" + name + "' is missing.");
    return *tensor;
}

/// The first dimension of a matrix of all gates, divided by their number.
std::int64_t gate_rows(const SafetensorsFile& file, const StoredTensor& t, Cell cell) {
    const std::int64_t gates = cell_num_gates(cell);
    if (t.shape.size() != 2 || t.shape[0] < 1 || t.shape[1] < 1 || t.shape[0] % gates != 0) {
        fail(file, "tensor '" + t.name + "' has shape " + t.shape_text() + "; for the cell " +
                       cell_name(cell) + " it must be a matrix whose rows are a multiple of " +
                       std::to_string(gates) + " (one block for each gate). Is --cell right?");
    }
    return t.shape[0] / gates;
}

RnnSpec infer_spec(const SafetensorsFile& file, Cell cell, DType dtype, const std::string& prefix,
                   const std::map<std::string, WeightName>& names) {
    RnnSpec spec;
    spec.cell = cell;
    spec.dtype = dtype;
    spec.bias = BiasMode::kNone;
    const StoredTensor& w_ih = need(file, prefix + "weight_ih_l0");
    const StoredTensor& w_hh = need(file, prefix + "weight_hh_l0");
    spec.hidden_size = gate_rows(file, w_hh, cell);
    gate_rows(file, w_ih, cell);
    spec.input_size = w_ih.shape[1];
    bool any_bias_hh = false;
    for (const auto& [full_name, name] : names) {
        spec.num_layers = std::max(spec.num_layers, name.layer + 1);
        spec.bidirectional = spec.bidirectional || name.reverse;
        if (name.kind == "bias_ih" && spec.bias == BiasMode::kNone) spec.bias = BiasMode::kSingle;
        any_bias_hh = any_bias_hh || name.kind == "bias_hh";
        if (name.kind == "weight_hr" && cell != Cell::kLstm) {
            fail(file, "tensor '" + full_name + "' is a projection, which the cell " +
                           std::string(cell_name(cell)) + " does not have. Is --cell right?");
        }
        if (name.kind == "weight_hr" && spec.proj_size == 0) {
            const StoredTensor& w_hr = need(file, prefix + "weight_hr_l0");
            if (w_hr.shape.size() != 2 || w_hr.shape[0] < 1) {
                fail(file, "tensor '" + w_hr.name + "' has shape " + w_hr.shape_text() +
                               ", expected [P,H].");
            }
            spec.proj_size = w_hr.shape[0];
        }
    }
    if (any_bias_hh) spec.bias = BiasMode::kDouble;
    // Every layer has its weight_ih; checked before a layout is made for a layer number from a
    // name.
    for (std::int64_t layer = 0; layer < spec.num_layers; ++layer) {
        need(file, prefix + "weight_ih_l" + std::to_string(layer));
    }
    return spec;
}

std::string expected_shape(const RnnParamInfo& info) {
    std::string text = "[" + std::to_string(info.shape[0]);
    if (info.ndim == 2) text += "," + std::to_string(info.shape[1]);
    return text + "]";
}

void check_shape(const SafetensorsFile& file, const StoredTensor& t, const RnnParamInfo& info,
                 const RnnSpec& spec) {
    bool same = t.shape.size() == static_cast<std::size_t>(info.ndim);
    for (int d = 0; same && d < info.ndim; ++d) {
        same = t.shape[static_cast<std::size_t>(d)] == info.shape[d];
    }
    if (!same) {
        fail(file, "tensor '" + t.name + "' has shape " + t.shape_text() + ", expected " +
                       expected_shape(info) + " from the other tensors (" + to_string(spec) + ").");
    }
}

}  // namespace

RnnWeights load_rnn_weights(const SafetensorsFile& file, Cell cell, DType dtype,
                            const std::string& wanted_prefix) {
    RnnWeights weights;
    weights.prefix = choose_prefix(file, wanted_prefix);
    const std::size_t prefix_length = weights.prefix.size();
    std::map<std::string, WeightName> names;
    for (const StoredTensor& t : file.tensors()) {
        const auto name = parse_name(t.name);
        if (name && name->prefix == weights.prefix) {
            names.emplace(t.name, *name);
        } else if (t.name.compare(0, prefix_length, weights.prefix) == 0 &&
                   t.name.find('.', prefix_length) == std::string::npos) {
            fail(file, "tensor '" + t.name +
                           "' is unknown; the names of a recurrent layer are weight_ih_l0, "
                           "weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0, each also with "
                           "_reverse, and so on for l1, l2, ...");
        } else {
            weights.others.push_back(t.name);
        }
    }
    weights.spec = infer_spec(file, cell, dtype, weights.prefix, names);
    try {
        validate(weights.spec);
    } catch (const Error& e) {
        fail(file, std::string("its weights do not make a legal layer: ") + e.what());
    }
    const std::vector<RnnParamInfo> layout = param_layout(weights.spec);
    std::size_t bytes = 0;
    for (const RnnParamInfo& info : layout) {
        check_shape(file, need(file, weights.prefix + info.name), info, weights.spec);
        names.erase(weights.prefix + info.name);
        bytes += static_cast<std::size_t>(info.numel) * dtype_bytes(dtype);
    }
    if (!names.empty()) {
        fail(file, "tensor '" + names.begin()->first + "' does not fit the others (" +
                       to_string(weights.spec) + ").");
    }
    weights.flat = Buffer(bytes, Device::cpu(), "the weights");
    for (const RnnParamInfo& info : layout) {
        const StoredTensor& t = *file.find(weights.prefix + info.name);
        if (!stored_type_is_float(t.type)) {
            fail(file, "tensor '" + t.name + "' is of type " + stored_type_name(t.type) +
                           "; weights must be floating-point.");
        }
        convert_to(
            t, dtype,
            weights.flat.as<char>() + static_cast<std::size_t>(info.offset) * dtype_bytes(dtype),
            file.path());
    }
    return weights;
}

}  // namespace carousel::io
