#pragma once

#include <cstdint>
#include <vector>

// An independent recurrent layer in double precision, written from the equations alone: it includes
// nothing of Carousel, so an error in the library's mathematics cannot hide in it. One sequence,
// one step, one scalar loop at a time; backward is back-propagation through time written out by
// hand.

namespace reference {

enum class Cell { kTanh, kRelu, kLstm, kGruResetAfter, kGruResetBefore };

/// Gates per unit, in the order of the rows of the weights: LSTM i,f,g,o; GRU r,z,n.
int gates_of(Cell cell);

/// Weights of one (layer, direction): w_ih [G*H,In], w_hh [G*H,O], biases [G*H] (empty = none),
/// w_hr [P,H] (empty = no projection). Also holds their gradients.
struct Weights {
    std::vector<double> w_ih, w_hh, b_ih, b_hh, w_hr;
};

/// Everything a forward pass depends on. Dims: T steps, N sequences, I inputs, H hidden units,
/// P projected units (0 = none), L layers, D directions, O = P or H.
struct Problem {
    Cell cell = Cell::kLstm;
    std::int64_t T = 0, N = 0, I = 0, H = 0, P = 0, L = 1, D = 1;
    std::vector<Weights> weights;       ///< [L*D]
    std::vector<double> x;              ///< [T,N,I]
    std::vector<double> hx;             ///< [L*D,N,O]; empty = zero
    std::vector<double> cx;             ///< [L*D,N,H]; empty = zero
    std::vector<std::int64_t> lengths;  ///< [N]; empty = all T
    std::vector<std::uint8_t> reset;    ///< [T,N]; empty = none
    /// Per layer but the last, multiplier of each element of its output [T,N,D*O]; empty = none.
    std::vector<std::vector<double>> dropout;

    std::int64_t output_size() const { return P > 0 ? P : H; }
    std::int64_t layer_input_size(std::int64_t layer) const {
        return layer == 0 ? I : D * output_size();
    }
    std::int64_t length(std::int64_t n) const {
        return lengths.empty() ? T : lengths[static_cast<std::size_t>(n)];
    }
    bool has_c() const { return cell == Cell::kLstm; }
};

/// Results of forward; steps beyond a sequence's end hold 0 everywhere.
struct Forward {
    std::vector<double> hy;                          ///< [L*D,N,O]
    std::vector<double> cy;                          ///< [L*D,N,H], LSTM only
    std::vector<std::vector<double>> layer_inputs;   ///< [L] of [T,N,In], after dropout
    std::vector<std::vector<double>> layer_outputs;  ///< [L] of [T,N,D*O], before dropout
    std::vector<double> cell_states;                 ///< [L*D,T,N,H], LSTM only
    std::vector<double> gates;                       ///< [L*D,T,N,G*H], after activation
    /// Smallest |preactivation| met, over all gates: tells how near a ReLU came to its kink.
    double min_abs_preact = 1e300;

    const std::vector<double>& y() const { return layer_outputs.back(); }
};

struct Backward {
    std::vector<double> dx;         ///< [T,N,I]
    std::vector<double> dhx;        ///< [L*D,N,O]
    std::vector<double> dcx;        ///< [L*D,N,H], LSTM only
    std::vector<Weights> dweights;  ///< [L*D]
    std::vector<double> dh_norms;   ///< [L*D,T]: |dL/dh_t| over [N,O]
};

Forward forward(const Problem& problem);

/// dy [T,N,D*O], dhy [L*D,N,O], dcy [L*D,N,H]; empty = zero.
Backward backward(const Problem& problem, const Forward& fwd, const std::vector<double>& dy,
                  const std::vector<double>& dhy, const std::vector<double>& dcy);

}  // namespace reference
