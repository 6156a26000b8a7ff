#include "tests/gradcheck/gradcheck.hpp"

#include <cmath>
#include <stdexcept>

namespace carousel::test {

std::vector<double> central_differences(std::vector<double>& values,
                                        const std::function<double()>& loss) {
    constexpr double kStep = 1e-5;
    std::vector<double> gradient(values.size(), 0.0);
    for (std::size_t e = 0; e < values.size(); ++e) {
        const double value = values[e];
        if (std::isnan(value)) continue;
        values[e] = value + kStep;
        const double above = loss();
        values[e] = value - kStep;
        const double below = loss();
        values[e] = value;
        gradient[e] = (above - below) / (2.0 * kStep);
    }
    return gradient;
}

namespace {

double dot(const std::vector<double>& cotangent, const NamedTensors& outputs,
           const std::string& name) {
    const auto found = outputs.find(name);
    if (cotangent.empty() || found == outputs.end()) return 0.0;
    double sum = 0.0;
    for (std::size_t e = 0; e < cotangent.size(); ++e) {
        if (!std::isnan(cotangent[e])) sum += cotangent[e] * found->second[e];
    }
    return sum;
}

}  // namespace

double scalar_loss(const RnnData& data, const NamedTensors& outputs) {
    return dot(data.dy, outputs, "y") + dot(data.dhy, outputs, "hy") + dot(data.dcy, outputs, "cy");
}

std::vector<std::pair<std::string, std::vector<double>*>> differentiable(RnnData& data) {
    reference::Problem& p = data.problem;
    std::vector<std::pair<std::string, std::vector<double>*>> tensors = {
        {"dx", &p.x}, {"dhx", &p.hx}, {"dcx", &p.cx}};
    for (std::size_t s = 0; s < p.weights.size(); ++s) {
        reference::Weights& w = p.weights[s];
        const auto name = [&](const char* kind) {
            return "d_" + param_name(kind, static_cast<std::int64_t>(s), p.D);
        };
        tensors.emplace_back(name("weight_ih"), &w.w_ih);
        tensors.emplace_back(name("weight_hh"), &w.w_hh);
        tensors.emplace_back(name("bias_ih"), &w.b_ih);
        tensors.emplace_back(name("bias_hh"), &w.b_hh);
        tensors.emplace_back(name("weight_hr"), &w.w_hr);
    }
    std::erase_if(tensors, [](const auto& entry) { return entry.second->empty(); });
    return tensors;
}

RnnData make_smooth_data(ShapeLine& line) {
    for (int attempt = 0; attempt < 1000; ++attempt, ++line.seed) {
        RnnData data = make_rnn_data_with_dropout(line);
        if (line.spec.cell != Cell::kRnnRelu) return data;
        if (reference::forward(data.problem).min_abs_preact > 1e-3) return data;
    }
    throw std::runtime_error("no seed keeps the ReLUs of '" + line.text + "' away from their kink");
}

}  // namespace carousel::test
