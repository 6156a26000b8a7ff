#include <algorithm>
#include <cmath>

#include "tests/reference/rnn_reference.hpp"
#include "tests/reference/rnn_reference_walk.hpp"

namespace reference {

int gates_of(Cell cell) {
    switch (cell) {
        case Cell::kLstm:
            return 4;
        case Cell::kGruResetAfter:
        case Cell::kGruResetBefore:
            return 3;
        default:
            return 1;
    }
}

namespace {

double sigmoid(double a) { return 1.0 / (1.0 + std::exp(-a)); }

/// One step of one sequence: all vectors of one (layer, direction, t, n).
struct Step {
    const Problem& p;
    const Weights& w;
    const double* x;
    std::int64_t input_size;
    const std::vector<double>& h;  // before the step, size O
    const std::vector<double>& c;  // before the step, size H
    double* gates;                 // out, size G*H
    double* c_next;                // out, size H (LSTM)
    std::vector<double> hidden;    // out, size H: the new state before projection
    double min_abs_preact = 1e300;

    double from_x(std::int64_t row) const { return affine_row(w.w_ih, w.b_ih, row, x, input_size); }
    double from_h(std::int64_t row) const {
        return affine_row(w.w_hh, w.b_hh, row, h.data(), static_cast<std::int64_t>(h.size()));
    }
    double seen(double preact) {
        min_abs_preact = std::min(min_abs_preact, std::fabs(preact));
        return preact;
    }

    void vanilla() {
        for (std::int64_t j = 0; j < p.H; ++j) {
            const double a = seen(from_x(j) + from_h(j));
            gates[j] = p.cell == Cell::kTanh ? std::tanh(a) : (a < 0.0 ? 0.0 : a);
            hidden[at(j)] = gates[j];
        }
    }

    void lstm() {
        const std::int64_t H = p.H;
        for (std::int64_t j = 0; j < H; ++j) {
            const double in = sigmoid(seen(from_x(j) + from_h(j)));
            const double forget = sigmoid(seen(from_x(H + j) + from_h(H + j)));
            const double cand = std::tanh(seen(from_x(2 * H + j) + from_h(2 * H + j)));
            const double out = sigmoid(seen(from_x(3 * H + j) + from_h(3 * H + j)));
            c_next[j] = forget * c[at(j)] + in * cand;
            hidden[at(j)] = out * std::tanh(c_next[j]);
            gates[j] = in;
            gates[H + j] = forget;
            gates[2 * H + j] = cand;
            gates[3 * H + j] = out;
        }
    }

    void gru() {
        const std::int64_t H = p.H;
        std::vector<double> gated(at(H));  // r (.) h
        for (std::int64_t j = 0; j < H; ++j) {
            gates[j] = sigmoid(seen(from_x(j) + from_h(j)));
            gates[H + j] = sigmoid(seen(from_x(H + j) + from_h(H + j)));
            gated[at(j)] = gates[j] * h[at(j)];
        }
        for (std::int64_t j = 0; j < H; ++j) {
            double a = from_x(2 * H + j);
            if (p.cell == Cell::kGruResetAfter) {
                a += gates[j] * from_h(2 * H + j);
            } else {
                a += affine_row(w.w_hh, w.b_hh, 2 * H + j, gated.data(), H);
            }
            const double cand = std::tanh(seen(a));
            gates[2 * H + j] = cand;
            hidden[at(j)] = (1.0 - gates[H + j]) * cand + gates[H + j] * h[at(j)];
        }
    }

    void run() {
        switch (p.cell) {
            case Cell::kTanh:
            case Cell::kRelu:
                return vanilla();
            case Cell::kLstm:
                return lstm();
            default:
                return gru();
        }
    }
};

void run_sequence(const Problem& p, std::int64_t layer, std::int64_t dir, std::int64_t n,
                  Forward& fwd) {
    const std::int64_t O = p.output_size();
    const std::int64_t G = gates_of(p.cell);
    const std::int64_t in = p.layer_input_size(layer);
    const std::int64_t state = layer * p.D + dir;
    const Weights& w = p.weights[at(state)];
    const Walk walk{p, n, dir};
    std::vector<double> no_c(at(p.H));

    for (std::int64_t k = 0; k < walk.steps(); ++k) {
        const std::int64_t t = walk.time(k);
        const std::vector<double> h = walk.h_before(k, layer, fwd);
        const std::vector<double> c = walk.c_before(k, layer, fwd);
        const std::int64_t row = (state * p.T + t) * p.N + n;
        Step step{p,
                  w,
                  &fwd.layer_inputs[at(layer)][at((t * p.N + n) * in)],
                  in,
                  h,
                  c,
                  &fwd.gates[at(row * G * p.H)],
                  p.has_c() ? &fwd.cell_states[at(row * p.H)] : no_c.data(),
                  std::vector<double>(at(p.H))};
        step.run();
        fwd.min_abs_preact = std::min(fwd.min_abs_preact, step.min_abs_preact);
        double* out = &fwd.layer_outputs[at(layer)][at((t * p.N + n) * p.D * O + dir * O)];
        for (std::int64_t j = 0; j < O; ++j) {
            out[j] =
                p.P > 0 ? affine_row(w.w_hr, {}, j, step.hidden.data(), p.H) : step.hidden[at(j)];
        }
    }
    // The state after the last step taken; without any step, the initial one.
    const std::int64_t steps = walk.steps();
    for (std::int64_t j = 0; j < O; ++j) {
        double h = p.hx.empty() ? 0.0 : p.hx[at((state * p.N + n) * O + j)];
        if (steps > 0) {
            const std::int64_t t = walk.time(steps - 1);
            h = fwd.layer_outputs[at(layer)][at((t * p.N + n) * p.D * O + dir * O + j)];
        }
        fwd.hy[at((state * p.N + n) * O + j)] = h;
    }
    for (std::int64_t j = 0; p.has_c() && j < p.H; ++j) {
        double c = p.cx.empty() ? 0.0 : p.cx[at((state * p.N + n) * p.H + j)];
        if (steps > 0) {
            const std::int64_t t = walk.time(steps - 1);
            c = fwd.cell_states[at(((state * p.T + t) * p.N + n) * p.H + j)];
        }
        fwd.cy[at((state * p.N + n) * p.H + j)] = c;
    }
}

}  // namespace

Forward forward(const Problem& p) {
    const std::int64_t O = p.output_size();
    Forward fwd;
    fwd.hy.assign(at(p.L * p.D * p.N * O), 0.0);
    fwd.gates.assign(at(p.L * p.D * p.T * p.N * gates_of(p.cell) * p.H), 0.0);
    if (p.has_c()) {
        fwd.cy.assign(at(p.L * p.D * p.N * p.H), 0.0);
        fwd.cell_states.assign(at(p.L * p.D * p.T * p.N * p.H), 0.0);
    }
    for (std::int64_t layer = 0; layer < p.L; ++layer) {
        std::vector<double> input = layer == 0 ? p.x : fwd.layer_outputs.back();
        if (layer > 0 && !p.dropout.empty()) {
            const std::vector<double>& multiplier = p.dropout[at(layer - 1)];
            for (std::size_t e = 0; e < input.size(); ++e) input[e] *= multiplier[e];
        }
        fwd.layer_inputs.push_back(std::move(input));
        fwd.layer_outputs.emplace_back(at(p.T * p.N * p.D * O), 0.0);
        for (std::int64_t dir = 0; dir < p.D; ++dir) {
            for (std::int64_t n = 0; n < p.N; ++n) run_sequence(p, layer, dir, n, fwd);
        }
    }
    return fwd;
}

}  // namespace reference
