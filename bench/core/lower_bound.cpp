#include "bench/core/lower_bound.hpp"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

double bytes_of(DType dtype) { return static_cast<double>(dtype_bytes(dtype)); }

/// Bytes of the weights that a step multiplies with: all layers and directions.
double weight_bytes(const RnnSpec& s) {
    double elements = 0.0;
    for (std::int64_t layer = 0; layer < s.num_layers; ++layer) {
        elements += static_cast<double>(s.num_directions() * s.num_gates() * s.hidden_size *
                                        s.output_size());
    }
    return elements * bytes_of(s.dtype);
}

/// Bytes of activations that one step of a pass moves to or from memory, all layers.
double activation_bytes(const GridCase& c, Pass pass) {
    const RnnSpec& s = c.spec;
    const double n = static_cast<double>(c.batch_size * s.num_directions());
    const double h = static_cast<double>(s.hidden_size), e = bytes_of(s.dtype);
    double in_and_out = 0.0;
    for (std::int64_t layer = 0; layer < s.num_layers; ++layer) {
        in_and_out += static_cast<double>(c.batch_size * s.layer_input_size(layer)) * e + n * h * e;
    }
    const double stash = static_cast<double>(s.num_layers) * n * h *
                         (static_cast<double>(s.num_gates()) + (cell_has_c(s.cell) ? 1.0 : 0.0)) *
                         e;
    switch (pass) {
        case Pass::kInfer:
            return in_and_out;
        case Pass::kForward:
            return in_and_out + stash;
        case Pass::kBackwardData:
            return in_and_out + stash;
        case Pass::kBackward:
            return 2.0 * in_and_out + stash;
        case Pass::kTrain:
            return 3.0 * in_and_out + 2.0 * stash;
    }
    return 0.0;
}

/// Keeps the least of several measurements of one figure.
class Least {
public:
    void add(double value) {
        if (value > 0.0 && (!found_ || value < value_)) value_ = value;
        found_ = found_ || value > 0.0;
    }
    void put(double& figure) const {
        if (found_) figure = value_;
    }

private:
    bool found_ = false;
    double value_ = 0.0;
};

}  // namespace

const char* pass_name(Pass pass) noexcept {
    switch (pass) {
        case Pass::kInfer:
            return "infer";
        case Pass::kForward:
            return "forward";
        case Pass::kBackwardData:
            return "backward_data";
        case Pass::kBackward:
            return "backward";
        case Pass::kTrain:
            return "train";
    }
    return "";
}

double pass_flops(const GridCase& c, Pass pass) {
    switch (pass) {
        case Pass::kBackward:
            return 2.0 * forward_flops(c);
        case Pass::kTrain:
            return 3.0 * forward_flops(c);
        default:
            return forward_flops(c);
    }
}

CardFigures estimated_figures() {
    CardFigures f;
    f.source = "published figures and estimates for an H200";
    // Dense products as measured by others; f32 is FMA units, 2 * 128 * 132 at 1.98 GHz.
    f.peak_tflops = {
        {"bf16", 790.0}, {"f16", 790.0}, {"tf32", 395.0}, {"f32", 66.9}, {"f64", 60.0}};
    f.memory_tb_s = 4.3;
    f.l2_tb_s = 10.0;
    f.on_chip_bytes = 46.0 * 1024 * 1024;
    f.cluster_bytes = 16.0 * 192 * 1024;
    f.sm_bytes = 192.0 * 1024;
    f.l2_bytes = 40.0 * 1024 * 1024;
    f.cluster_hop_us = 0.15;
    f.l2_hop_us = 0.56;
    f.pointwise_us = 0.1;
    return f;
}

CardFigures figures_from_probe_text(const std::string& text, const std::string& name) {
    CardFigures f = estimated_figures();
    Least cluster, l2, pointwise;
    std::set<std::string> peaks;
    std::istringstream in(text);
    std::string line;
    int lines = 0;
    for (int number = 1; std::getline(in, line); ++number) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        const auto j = nlohmann::json::parse(line, nullptr, false);
        if (j.is_discarded() || !j.is_object()) {
            throw Error(ErrorCode::kInvalidArgument, name + ":" + std::to_string(number) +
                                                         ": not a JSON object; expected the lines "
                                                         "that carousel_probes prints.");
        }
        // Probes that failed have an "error" and no figure.
        if (!j.contains("probe") || j.contains("error")) continue;
        ++lines;
        const std::string probe = j.at("probe");
        if (probe == "cluster" && j.value("kind", "") == "all_to_all") {
            cluster.add(j.value("us", 0.0));
        } else if (probe == "l2_hop") {
            l2.add(j.value("us", 0.0));
        } else if (probe == "pointwise") {
            pointwise.add(j.value("us", 0.0));
        } else if (probe == "peak" && j.value("tflops", 0.0) > 0.0) {
            double& peak = f.peak_tflops[j.at("dtype").get<std::string>()];
            // The best of several sizes; an estimate is not one of them.
            const double measured = j.at("tflops");
            peak = peaks.insert(j.at("dtype").get<std::string>()).second ? measured
                                                                         : std::max(peak, measured);
        } else if (probe == "bandwidth" && j.value("tb_per_s", 0.0) > 0.0) {
            (j.value("level", "") == "l2" ? f.l2_tb_s : f.memory_tb_s) = j.at("tb_per_s");
        }
    }
    if (lines == 0) {
        throw Error(ErrorCode::kInvalidArgument,
                    name + " has no line of carousel_probes with a figure.");
    }
    cluster.put(f.cluster_hop_us);
    l2.put(f.l2_hop_us);
    pointwise.put(f.pointwise_us);
    f.source = "probes of " + name;
    return f;
}

CardFigures figures_from_probes(const std::string& path) {
    std::ifstream file(path);
    if (!file)
        throw Error(ErrorCode::kInvalidArgument, "cannot open the probes' file " + path + ".");
    std::ostringstream text;
    text << file.rdbuf();
    return figures_from_probe_text(text.str(), path);
}

LowerBound lower_bound(const GridCase& c, Pass pass, const CardFigures& f) {
    const RnnSpec& s = c.spec;
    const double one_matrix =
        static_cast<double>(s.num_gates() * s.hidden_size * s.output_size()) * bytes_of(s.dtype);
    // Fewest hops that hold one layer's weights on chip.
    const double hop = one_matrix <= f.sm_bytes        ? 0.0
                       : one_matrix <= f.cluster_bytes ? f.cluster_hop_us
                                                       : f.l2_hop_us;
    const double steps = static_cast<double>(c.seq_len);
    const int sweeps = pass == Pass::kTrain ? 2 : 1;
    LowerBound bound;
    bound.chain_us =
        sweeps * (steps + static_cast<double>(s.num_layers - 1)) * (hop + f.pointwise_us);

    const auto peak = f.peak_tflops.find(dtype_name(s.dtype));
    const double tflops = peak == f.peak_tflops.end() ? f.peak_tflops.at("f32") : peak->second;
    const double weights = weight_bytes(s);
    double bytes_us = activation_bytes(c, pass) / (f.memory_tb_s * 1e6);
    if (weights > f.on_chip_bytes) {
        const double bandwidth = weights <= f.l2_bytes ? f.l2_tb_s : f.memory_tb_s;
        bytes_us += sweeps * weights / (bandwidth * 1e6);
    }
    bound.throughput_us = std::max(pass_flops(c, pass) / (tflops * 1e6), steps * bytes_us);
    return bound;
}

}  // namespace carousel::bench
