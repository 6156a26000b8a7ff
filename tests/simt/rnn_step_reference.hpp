#pragma once

// One step of one unit in double precision, from the equations alone: nothing of kernels/ is included.

#include <cstdint>
#include <vector>

namespace carousel::simt {

enum class UnitCell { kTanh, kRelu, kLstm, kGruResetAfter, kGruResetBefore };

/// Gates of the weights, of a row of saved gates, and of a row of gate gradients.
int unit_gates(UnitCell cell);
int unit_gate_slots(UnitCell cell);
int unit_grad_slots(UnitCell cell);

struct UnitForward {
    double gates[4] = {};  ///< after activation, in weight order; reset-after: then W_hn h + b_hn
    double c = 0.0, h = 0.0;
};
/// x and h are both sides' pre-activations with biases; reset-before: h[2] = W_hn (r h_in) + b_hn.
UnitForward unit_forward(UnitCell cell, const double* x, const double* h, double h_in, double c_in);

struct UnitBackward {
    double dgates[4] = {};  ///< in the order of a row of gate gradients
    double dh_in = 0.0;     ///< what does not pass through a weight matrix
    double dc_in = 0.0;
};
/// drh: gradient of r*h_in, reset-before.
UnitBackward unit_backward(UnitCell cell, const double* gates, double h_in, double c_in, double c,
                           double dh, double dc, double drh);

/// Which rows take part in a step, and where the state is cut; `next` and `previous` are the walk's.
struct TimeRules {
    std::int64_t T = 0;
    std::vector<std::int64_t> lengths;  ///< empty = all T
    std::vector<std::uint8_t> reset;    ///< [T,N]; empty = none
    std::int64_t N = 0;

    std::int64_t length(std::int64_t n) const {
        return lengths.empty() ? T : lengths[static_cast<std::size_t>(n)];
    }
    bool valid(std::int64_t t, std::int64_t n) const { return t < length(n); }
    bool is_first(std::int64_t t, bool reverse) const { return t == (reverse ? T - 1 : 0); }
    bool is_last(std::int64_t t, bool reverse) const { return t == (reverse ? 0 : T - 1); }
    /// Whether the walk's state is zeroed between the step before t and t itself.
    bool cut_before(std::int64_t t, bool reverse, std::int64_t n) const {
        return cut_between(reverse ? t + 1 : t - 1, t, n);
    }
    bool cut_after(std::int64_t t, bool reverse, std::int64_t n) const {
        return !is_last(t, reverse) && cut_between(t, reverse ? t - 1 : t + 1, n);
    }

private:
    /// A reset at t means that what lies before t in the data is another sequence than t itself.
    bool cut_between(std::int64_t a, std::int64_t b, std::int64_t n) const {
        const std::int64_t later = a > b ? a : b;
        return !reset.empty() && valid(later, n) &&
               reset[static_cast<std::size_t>(later * N + n)] != 0;
    }
};

}  // namespace carousel::simt
