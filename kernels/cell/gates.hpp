#pragma once

// The order of gates in weights, biases, pre-activations and saved gates: the only place that states it.

namespace carousel::cell {

/// LSTM: input, forget, candidate, output (torch.nn.LSTM; cuDNN linear layers 0-3).
enum LstmGate : int { kLstmI = 0, kLstmF = 1, kLstmG = 2, kLstmO = 3, kLstmGates = 4 };

/// GRU: reset, update, candidate (torch.nn.GRU). kGruHn is no gate of the weights: it is the slot in
/// which reset-after saves W_hn h + b_hn for its backward pass.
enum GruGate : int { kGruR = 0, kGruZ = 1, kGruN = 2, kGruGates = 3, kGruHn = 3 };

/// Reset-after GRU gradients differ on the two sides of the reset gate: the input side sees
/// (dr, dz, dn), the recurrent side (dr, dz, r*dn). One row of gate gradients holds all four so that
/// the recurrent side is contiguous and in weight order.
enum GruGradSlot : int {
    kGruGradN = 0,
    kGruGradR = 1,
    kGruGradZ = 2,
    kGruGradHn = 3,
    kGruGradSlots = 4
};

}  // namespace carousel::cell
