#include "simt/rnn_step_reference.hpp"

#include <cmath>

namespace carousel::simt {
namespace {

double sigmoid(double x) { return 0.5 * (1.0 + std::tanh(0.5 * x)); }

}  // namespace

int unit_gates(UnitCell cell) {
    return cell == UnitCell::kLstm ? 4 : cell == UnitCell::kTanh || cell == UnitCell::kRelu ? 1 : 3;
}
int unit_gate_slots(UnitCell cell) {
    return cell == UnitCell::kGruResetAfter ? 4 : unit_gates(cell);
}
int unit_grad_slots(UnitCell cell) { return unit_gate_slots(cell); }

UnitForward unit_forward(UnitCell cell, const double* x, const double* h, double h_in,
                         double c_in) {
    UnitForward out;
    switch (cell) {
        case UnitCell::kTanh:
            out.gates[0] = out.h = std::tanh(x[0] + h[0]);
            break;
        case UnitCell::kRelu:
            out.gates[0] = out.h = std::fmax(0.0, x[0] + h[0]);
            break;
        case UnitCell::kLstm: {  // input, forget, candidate, output
            for (int g = 0; g < 4; ++g)
                out.gates[g] = g == 2 ? std::tanh(x[g] + h[g]) : sigmoid(x[g] + h[g]);
            out.c = out.gates[1] * c_in + out.gates[0] * out.gates[2];
            out.h = out.gates[3] * std::tanh(out.c);
            break;
        }
        case UnitCell::kGruResetAfter:
        case UnitCell::kGruResetBefore: {  // reset, update, candidate
            const double r = sigmoid(x[0] + h[0]), z = sigmoid(x[1] + h[1]);
            const double candidate = cell == UnitCell::kGruResetAfter ? std::tanh(x[2] + r * h[2])
                                                                      : std::tanh(x[2] + h[2]);
            out.gates[0] = r;
            out.gates[1] = z;
            out.gates[2] = candidate;
            out.gates[3] = h[2];
            out.h = (1.0 - z) * candidate + z * h_in;
            break;
        }
    }
    return out;
}

UnitBackward unit_backward(UnitCell cell, const double* gates, double h_in, double c_in, double c,
                           double dh, double dc, double drh) {
    UnitBackward out;
    switch (cell) {
        case UnitCell::kTanh:
            out.dgates[0] = dh * (1.0 - gates[0] * gates[0]);
            break;
        case UnitCell::kRelu:
            out.dgates[0] = gates[0] > 0.0 ? dh : 0.0;
            break;
        case UnitCell::kLstm: {
            const double in = gates[0], forget = gates[1], candidate = gates[2], o = gates[3];
            const double squashed = std::tanh(c);
            const double total = dc + dh * o * (1.0 - squashed * squashed);
            out.dgates[0] = total * candidate * (in - in * in);
            out.dgates[1] = total * c_in * (forget - forget * forget);
            out.dgates[2] = total * in * (1.0 - candidate * candidate);
            out.dgates[3] = dh * squashed * (o - o * o);
            out.dc_in = total * forget;
            break;
        }
        case UnitCell::kGruResetAfter:
        case UnitCell::kGruResetBefore: {
            const double r = gates[0], z = gates[1], candidate = gates[2];
            const double dcandidate = dh * (1.0 - z);
            const double dn = dcandidate * (1.0 - candidate * candidate);
            const double dz = (dh * h_in - dh * candidate) * (z - z * z);
            if (cell == UnitCell::kGruResetAfter) {  // row: n, r, z, hn
                out.dgates[0] = dn;
                out.dgates[1] = dn * gates[3] * (r - r * r);
                out.dgates[2] = dz;
                out.dgates[3] = dn * r;
                out.dh_in = dh * z;
            } else {  // row: r, z, n
                out.dgates[0] = drh * h_in * (r - r * r);
                out.dgates[1] = dz;
                out.dgates[2] = dn;
                out.dh_in = dh * z + drh * r;
            }
            break;
        }
    }
    return out;
}

}  // namespace carousel::simt
