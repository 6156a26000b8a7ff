#include <cmath>

#include "tests/reference/rnn_reference.hpp"
#include "tests/reference/rnn_reference_walk.hpp"

namespace reference {
namespace {

/// Back-propagation through one step of one sequence. `dh` is dL/d(new state before projection).
struct StepGradient {
    const Problem& p;
    const Weights& w;
    const double* gates;           // size G*H
    const double* c_next;          // size H (LSTM)
    const std::vector<double>& h;  // before the step
    const std::vector<double>& c;  // before the step
    const std::vector<double>& dh;

    // Out: gradients of a_x = W_ih x + b_ih and a_h = W_hh h + b_hh, row by row of the weights; the
    // part of dL/dh_prev that does not pass through W_hh; dL/dc_prev (in: what reaches c_next).
    std::vector<double> da_x, da_h, dh_prev, dc;

    void vanilla() {
        for (std::int64_t j = 0; j < p.H; ++j) {
            const double slope =
                p.cell == Cell::kTanh ? 1.0 - gates[j] * gates[j] : (gates[j] > 0.0 ? 1.0 : 0.0);
            da_x[at(j)] = da_h[at(j)] = dh[at(j)] * slope;
        }
    }

    void lstm() {
        const std::int64_t H = p.H;
        for (std::int64_t j = 0; j < H; ++j) {
            const double in = gates[j], forget = gates[H + j];
            const double cand = gates[2 * H + j], out = gates[3 * H + j];
            const double tanh_c = std::tanh(c_next[j]);
            const double dc_total = dc[at(j)] + dh[at(j)] * out * (1.0 - tanh_c * tanh_c);
            da_x[at(j)] = dc_total * cand * in * (1.0 - in);
            da_x[at(H + j)] = dc_total * c[at(j)] * forget * (1.0 - forget);
            da_x[at(2 * H + j)] = dc_total * in * (1.0 - cand * cand);
            da_x[at(3 * H + j)] = dh[at(j)] * tanh_c * out * (1.0 - out);
            dc[at(j)] = dc_total * forget;
        }
        da_h = da_x;
    }

    void gru() {
        const std::int64_t H = p.H;
        std::vector<double> dr(at(H), 0.0);
        for (std::int64_t j = 0; j < H; ++j) {
            const double z = gates[H + j], cand = gates[2 * H + j];
            da_x[at(2 * H + j)] = dh[at(j)] * (1.0 - z) * (1.0 - cand * cand);
            da_x[at(H + j)] = dh[at(j)] * (h[at(j)] - cand) * z * (1.0 - z);
            dh_prev[at(j)] += dh[at(j)] * z;
        }
        for (std::int64_t j = 0; j < H; ++j) {
            const double r = gates[j], dn = da_x[at(2 * H + j)];
            if (p.cell == Cell::kGruResetAfter) {
                dr[at(j)] = dn * affine_row(w.w_hh, w.b_hh, 2 * H + j, h.data(), H);
                da_h[at(2 * H + j)] = dn * r;
            } else {
                // a_n = ... + W_hn (r (.) h) + b_hn: back through W_hn here, not in the caller.
                da_h[at(2 * H + j)] = dn;
                double through = 0.0;
                for (std::int64_t row = 0; row < H; ++row) {
                    through += w.w_hh[at((2 * H + row) * H + j)] * da_x[at(2 * H + row)];
                }
                dr[at(j)] = through * h[at(j)];
                dh_prev[at(j)] += through * r;
            }
        }
        for (std::int64_t j = 0; j < H; ++j) {
            da_x[at(j)] = dr[at(j)] * gates[j] * (1.0 - gates[j]);
            da_h[at(j)] = da_x[at(j)];
            da_h[at(H + j)] = da_x[at(H + j)];
        }
    }
};

/// dw += da v^T and (if given) db += da and dv += W^T da, for rows [first, last) of W [rows, size].
void affine_backward(const std::vector<double>& w, const std::vector<double>& da,
                     std::int64_t first, std::int64_t last, const double* v, std::int64_t size,
                     std::vector<double>& dw, double* dv) {
    for (std::int64_t row = first; row < last; ++row) {
        for (std::int64_t k = 0; k < size; ++k) {
            dw[at(row * size + k)] += da[at(row)] * v[k];
            if (dv != nullptr) dv[k] += w[at(row * size + k)] * da[at(row)];
        }
    }
}

void add_to(std::vector<double>& sum, const std::vector<double>& term) {
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += term[e];
}

struct SequenceBackward {
    const Problem& p;
    const Forward& fwd;
    std::int64_t layer, dir, n;
    const std::vector<double>& dy;  // of this layer's output, [T,N,D*O]; not read beyond the end
    std::vector<double>& dinput;    // [T,N,In], added to
    Backward& out;

    std::int64_t state() const { return layer * p.D + dir; }

    /// Takes dL/dh and dL/dc after the k-th step to those before it.
    void step(std::int64_t k, std::vector<double>& dh, std::vector<double>& dc) {
        const std::int64_t O = p.output_size(), G = gates_of(p.cell), H = p.H;
        const std::int64_t in = p.layer_input_size(layer);
        const Weights& w = p.weights[at(state())];
        Weights& dw = out.dweights[at(state())];
        const Walk walk{p, n, dir};
        const std::int64_t t = walk.time(k);
        const std::int64_t row = (state() * p.T + t) * p.N + n;
        const double* gates = &fwd.gates[at(row * G * H)];
        const double* c_next = p.has_c() ? &fwd.cell_states[at(row * H)] : nullptr;
        const std::vector<double> h = walk.h_before(k, layer, fwd);
        const std::vector<double> c = walk.c_before(k, layer, fwd);

        for (std::int64_t j = 0; j < O; ++j) {
            if (!dy.empty()) dh[at(j)] += dy[at((t * p.N + n) * p.D * O + dir * O + j)];
            out.dh_norms[at(state() * p.T + t)] += dh[at(j)] * dh[at(j)];  // root at the end
        }
        std::vector<double> dhidden = dh;
        if (p.P > 0) {
            std::vector<double> hidden(at(H));
            for (std::int64_t j = 0; j < H; ++j)
                hidden[at(j)] = gates[3 * H + j] * std::tanh(c_next[j]);
            dhidden.assign(at(H), 0.0);
            affine_backward(w.w_hr, dh, 0, O, hidden.data(), H, dw.w_hr, dhidden.data());
        }
        StepGradient grad{p, w, gates, c_next, h, c, dhidden, {}, {}, {}, dc};
        grad.da_x.assign(at(G * H), 0.0);
        grad.da_h.assign(at(G * H), 0.0);
        grad.dh_prev.assign(at(O), 0.0);
        if (p.cell == Cell::kLstm) {
            grad.lstm();
        } else if (G == 3) {
            grad.gru();
        } else {
            grad.vanilla();
        }
        const std::int64_t cell_row = t * p.N + n;
        affine_backward(w.w_ih, grad.da_x, 0, G * H,
                        &fwd.layer_inputs[at(layer)][at(cell_row * in)], in, dw.w_ih,
                        &dinput[at(cell_row * in)]);
        const bool reset_before = p.cell == Cell::kGruResetBefore;
        affine_backward(w.w_hh, grad.da_h, 0, reset_before ? 2 * H : G * H, h.data(), O, dw.w_hh,
                        grad.dh_prev.data());
        if (reset_before) {
            std::vector<double> gated(at(H));
            for (std::int64_t j = 0; j < H; ++j) gated[at(j)] = gates[j] * h[at(j)];
            affine_backward(w.w_hh, grad.da_h, 2 * H, 3 * H, gated.data(), H, dw.w_hh, nullptr);
        }
        if (!w.b_ih.empty()) add_to(dw.b_ih, grad.da_x);
        if (!w.b_hh.empty()) add_to(dw.b_hh, grad.da_h);
        dh = grad.dh_prev;
        dc = grad.dc;
        if (walk.source(k) == Source::kZero) {  // nothing flows across a boundary
            dh.assign(at(O), 0.0);
            dc.assign(at(H), 0.0);
        }
    }

    void run(const std::vector<double>& dhy, const std::vector<double>& dcy) {
        const std::int64_t O = p.output_size(), H = p.H;
        std::vector<double> dh(at(O), 0.0), dc(at(H), 0.0);
        for (std::int64_t j = 0; !dhy.empty() && j < O; ++j) {
            dh[at(j)] = dhy[at((state() * p.N + n) * O + j)];
        }
        for (std::int64_t j = 0; !dcy.empty() && j < H; ++j) {
            dc[at(j)] = dcy[at((state() * p.N + n) * H + j)];
        }
        for (std::int64_t k = p.length(n) - 1; k >= 0; --k) step(k, dh, dc);
        for (std::int64_t j = 0; j < O; ++j) out.dhx[at((state() * p.N + n) * O + j)] = dh[at(j)];
        for (std::int64_t j = 0; p.has_c() && j < H; ++j) {
            out.dcx[at((state() * p.N + n) * H + j)] = dc[at(j)];
        }
    }
};

Backward zero_gradients(const Problem& p) {
    Backward out;
    out.dhx.assign(at(p.L * p.D * p.N * p.output_size()), 0.0);
    if (p.has_c()) out.dcx.assign(at(p.L * p.D * p.N * p.H), 0.0);
    out.dh_norms.assign(at(p.L * p.D * p.T), 0.0);
    for (const Weights& w : p.weights) {
        Weights zero;
        zero.w_ih.assign(w.w_ih.size(), 0.0);
        zero.w_hh.assign(w.w_hh.size(), 0.0);
        zero.b_ih.assign(w.b_ih.size(), 0.0);
        zero.b_hh.assign(w.b_hh.size(), 0.0);
        zero.w_hr.assign(w.w_hr.size(), 0.0);
        out.dweights.push_back(std::move(zero));
    }
    return out;
}

}  // namespace

Backward backward(const Problem& p, const Forward& fwd, const std::vector<double>& dy,
                  const std::vector<double>& dhy, const std::vector<double>& dcy) {
    Backward out = zero_gradients(p);
    std::vector<double> doutput = dy;
    for (std::int64_t layer = p.L - 1; layer >= 0; --layer) {
        std::vector<double> dinput(at(p.T * p.N * p.layer_input_size(layer)), 0.0);
        for (std::int64_t dir = 0; dir < p.D; ++dir) {
            for (std::int64_t n = 0; n < p.N; ++n) {
                SequenceBackward{p, fwd, layer, dir, n, doutput, dinput, out}.run(dhy, dcy);
            }
        }
        if (layer > 0 && !p.dropout.empty()) {
            const std::vector<double>& multiplier = p.dropout[at(layer - 1)];
            for (std::size_t e = 0; e < dinput.size(); ++e) dinput[e] *= multiplier[e];
        }
        doutput = std::move(dinput);
    }
    out.dx = std::move(doutput);
    for (double& sum : out.dh_norms) sum = std::sqrt(sum);
    return out;
}

}  // namespace reference
