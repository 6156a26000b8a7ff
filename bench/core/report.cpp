#include "bench/core/report.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>

namespace carousel::bench {

namespace {

using Json = nlohmann::ordered_json;

Json shape_of(const GridCase& c, const std::string& bench) {
    Json j{{"bench", bench},
           {"row", c.row.id},
           {"cell", cell_name(c.spec.cell)},
           {"dtype", dtype_name(c.spec.dtype)},
           {"hidden", c.spec.hidden_size},
           {"input", c.spec.input_size},
           {"batch", c.batch_size},
           {"seq_len", c.seq_len},
           {"layers", c.spec.num_layers},
           {"directions", c.spec.num_directions()},
           {"headline", c.row.headline},
           {"line", c.row.text}};
    if (!c.row.published.empty()) j["published"] = c.row.published;
    Json forms = Json::array();
    for (const std::string& form : c.forms) forms.push_back(form);
    if (c.row.reset > 0.0) forms.push_back("peer without resets");
    j["forms"] = forms;
    return j;
}

Json standing_json(const Standing& s) {
    if (!s.refused.empty()) return {{"name", s.name}, {"refused", s.refused}};
    return {{"name", s.name},
            {"peer", s.is_peer},
            {"ms", to_json(s.ms)},
            {"ratio", to_json(s.ratio)},
            {"pairs", s.turns_ms.size()}};
}

const Standing* find(const Verdict& verdict, const std::string& name) {
    for (const Standing& s : verdict.peers) {
        if (s.name == name && s.refused.empty() && !s.turns_ms.empty()) return &s;
    }
    return nullptr;
}

Json pass_json(const RowResult& result, const PassResult& p, const ReportOptions& options) {
    const GridCase& c = p.grid_case;
    Json j = shape_of(c, options.bench);
    j["pass"] = pass_name(p.pass);
    j["l2"] = p.l2_flushed ? "flushed" : "warm";
    const Verdict& v = p.verdict;
    if (!v.ours.refused.empty()) {
        j["skipped"] = v.ours.name + ": " + v.ours.refused;
        return j;
    }
    const double ms = v.ours.ms.median;
    const LowerBound bound = options.bound(p);
    j["carousel"] = v.ours.name;
    j["carousel_ms"] = to_json(v.ours.ms);
    j["us_per_layer_step"] = rounded(us_per_layer_step(c, ms));
    j["tflops"] = rounded(pass_flops(c, p.pass) / (ms * 1e9));
    j["bound_us"] = rounded(bound.us());
    j["bound_chain_us"] = rounded(bound.chain_us);
    j["bound_fraction"] = rounded(bound.us() / (ms * 1e3));
    j["error"] = rounded(p.error);
    j["reserve_bytes"] = p.reserve_bytes;
    j["workspace_bytes"] = p.workspace_bytes;
    j["pairs"] = v.ours.turns_ms.size();
    if (const Standing* best = v.best_peer()) {
        j["peer"] = best->name;
        j["peer_ms"] = to_json(best->ms);
        j["peer_us_per_layer_step"] = rounded(us_per_layer_step(c, best->ms.median));
        j["ratio"] = to_json(best->ratio);
        const auto reserve = p.peer_reserve_bytes.find(best->name);
        if (reserve != p.peer_reserve_bytes.end()) j["peer_reserve_bytes"] = reserve->second;
        for (const auto& [side, error] : result.errors) {
            if ((best->name + " ").rfind(side + " ", 0) == 0) j["peer_error"] = rounded(error);
        }
    }
    const Standing* torch = find(v, options.pytorch_choice + " stream");
    if (torch == nullptr) torch = find(v, options.pytorch_choice);
    if (torch != nullptr) {
        j["pytorch_choice"] = {{"name", torch->name}, {"ratio", to_json(torch->ratio)}};
    }
    if (const Standing* gemm = find(v, "gemm graph")) j["gemm_ms"] = to_json(gemm->ms);
    if (options.extras) j.update(options.extras(p));
    Json all = Json::array();
    for (const Standing& s : v.peers) all.push_back(standing_json(s));
    j["others"] = all;
    return j;
}

/// backward - backward_data, which no interface of ours times alone.
Json weights_json(const Json& data, const Json& both) {
    Json j;
    for (const auto& [key, value] : both.items()) {
        if (key == "carousel_ms") break;
        j[key] = value;
    }
    j["pass"] = "backward_weights";
    j["derived"] = "median of backward - median of backward_data";
    const double ours = both.at("carousel_ms").at("median").get<double>() -
                        data.at("carousel_ms").at("median").get<double>();
    j["carousel_ms"] = {{"median", rounded(ours)}};
    const double steps = both.at("seq_len").get<double>() * both.at("layers").get<double>();
    j["us_per_layer_step"] = rounded(ours * 1e3 / steps);
    if (!both.contains("peer_ms")) return j;
    // The same peer in both passes, whether or not it was the best in the other.
    for (const Json& other : data.at("others")) {
        if (other.at("name") != both.at("peer") || !other.contains("ms")) continue;
        const double peer = both.at("peer_ms").at("median").get<double>() -
                            other.at("ms").at("median").get<double>();
        j["peer"] = both.at("peer");
        j["peer_ms"] = {{"median", rounded(peer)}};
    }
    return j;
}

std::string text(const char* format, double value) {
    std::array<char, 64> buffer{};
    std::snprintf(buffer.data(), buffer.size(), format, value);
    return buffer.data();
}

std::string fixed(std::string value, std::size_t width, bool left = false) {
    if (value.size() < width) value.insert(left ? value.size() : 0, width - value.size(), ' ');
    return value + " ";
}

std::string mebibytes(const Json& line, const char* key) {
    return line.contains(key) ? text("%.1f", line.at(key).get<double>() / (1024.0 * 1024.0)) : "";
}

}  // namespace

double rounded(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value);
    return std::strtod(text.data(), nullptr);
}

Json to_json(const Quantiles& q) {
    return {{"median", rounded(q.median)}, {"p10", rounded(q.p10)}, {"p90", rounded(q.p90)}};
}

double us_per_layer_step(const GridCase& c, double ms) {
    return ms * 1e3 / static_cast<double>(c.seq_len * c.spec.num_layers);
}

std::vector<Json> json_lines(const RowResult& result, const ReportOptions& options) {
    std::vector<Json> lines;
    const Json* data = nullptr;
    lines.reserve(result.passes.size() + 2);  // `data` points into it
    for (const PassResult& pass : result.passes) {
        lines.push_back(pass_json(result, pass, options));
        const bool timed = lines.back().contains("carousel_ms");
        if (pass.pass == Pass::kBackwardData && timed) data = &lines.back();
        if (pass.pass == Pass::kBackward && timed && data != nullptr) {
            lines.push_back(weights_json(*data, lines.back()));
        }
    }
    if (!lines.empty() && !result.left_out.empty()) {
        Json left_out = Json::array();
        for (const auto& [name, why] : result.left_out) {
            left_out.push_back({{"name", name}, {"why", why}});
        }
        lines.front()["left_out"] = left_out;
    }
    return lines;
}

Json json_of_missing(const GridCase& c, const std::string& why, const std::string& bench) {
    Json j = shape_of(c, bench);
    j["skipped"] = why;
    return j;
}

std::string table_head() {
    return fixed("row", 7, true) + fixed("shape", 38, true) + fixed("pass", 16, true) +
           fixed("us/step", 9) + fixed("p10", 9) + fixed("p90", 9) + fixed("TFLOP/s", 8) +
           fixed("of bound", 8) + fixed("error", 8) + fixed("reserve", 8) + fixed("work", 7) +
           fixed("peer us", 9) + fixed("ratio", 6) + fixed("(p10-p90)", 11) + "best peer";
}

std::string table_line(const Json& j) {
    const auto count = [&](const char* key) {
        return std::to_string(j.at(key).get<std::int64_t>());
    };
    std::string shape = j.at("cell").get<std::string>() + " " + j.at("dtype").get<std::string>() +
                        " H" + count("hidden") + " N" + count("batch") + " T" + count("seq_len");
    if (j.at("layers") != 1) shape += " L" + count("layers");
    if (j.at("input") != j.at("hidden")) shape += " I" + count("input");
    if (j.at("directions") != 1) shape += " D2";
    std::string line = fixed(j.at("row"), 7, true) + fixed(shape, 38, true);
    if (j.contains("skipped")) return line + j.at("skipped").get<std::string>();
    std::string pass = j.at("pass");
    if (j.value("l2", "") == "flushed") pass += "*";
    line += fixed(pass, 16, true);
    const double per_ms = 1e3 / (j.at("seq_len").get<double>() * j.at("layers").get<double>());
    const auto step = [&](const char* key, const char* which) {
        return j.contains(key) && j.at(key).contains(which)
                   ? text("%.3g", j.at(key).at(which).get<double>() * per_ms)
                   : std::string();
    };
    const auto value = [&](const char* key, const char* format) {
        return j.contains(key) ? text(format, j.at(key).get<double>()) : std::string();
    };
    line += fixed(step("carousel_ms", "median"), 9) + fixed(step("carousel_ms", "p10"), 9) +
            fixed(step("carousel_ms", "p90"), 9) + fixed(value("tflops", "%.3g"), 8) +
            fixed(value("bound_fraction", "%.2f"), 8) + fixed(value("error", "%.1e"), 8) +
            fixed(mebibytes(j, "reserve_bytes"), 8) + fixed(mebibytes(j, "workspace_bytes"), 7) +
            fixed(step("peer_ms", "median"), 9);
    if (j.contains("ratio")) {
        const Json& ratio = j.at("ratio");
        line += fixed(text("%.2f", ratio.at("median")), 6) +
                fixed(text("%.2f", ratio.at("p10")) + "-" + text("%.2f", ratio.at("p90")), 11) +
                j.at("peer").get<std::string>();
    } else if (!j.contains("derived")) {
        line += "no peer";
    }
    for (const auto& form : j.at("forms")) line += "; " + form.get<std::string>();
    return line;
}

void print_line(const Json& line, bool json) {
    std::printf("%s\n", (json ? line.dump() : table_line(line)).c_str());
    if (!json && line.contains("left_out")) {
        for (const auto& left : line.at("left_out")) {
            std::printf("        %s: %s\n", left.at("name").get<std::string>().c_str(),
                        left.at("why").get<std::string>().c_str());
        }
    }
    std::fflush(stdout);
}

}  // namespace carousel::bench
