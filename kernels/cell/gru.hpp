#pragma once

#include "kernels/cell/math.hpp"

// Two GRUs share the update h = (1-z)*n + z*h_prev and differ in where the reset gate acts:
//   reset-after   n = tanh(preact_n + r*hn),  hn = W_hn h_prev + b_hn          (torch, cuDNN)
//   reset-before  n = tanh(preact_n + W_hn (r*h_prev) + b_hn)                  (Cho et al. 2014; ONNX, Keras)

namespace carousel::cell {

template <class V>
struct GruForward {
    V r, z, n;  ///< gates after activation
    V h;        ///< new hidden state
};

/// (1-z)*n + z*h_prev.
template <class V>
CAROUSEL_HD V gru_blend(V z, V n, V h_prev) {
    return n + z * (h_prev - n);
}

/// One reset-after GRU unit, forward. `preact_r`, `preact_z` hold both sides' products and biases.
///
/// Source   Cho et al. 2014 in the variant of cuDNN; as torch.nn.GRU.
template <class V>
CAROUSEL_HD GruForward<V> gru_forward(V preact_r, V preact_z, V preact_n, V hn, V h_prev) {
    GruForward<V> out;
    out.r = sigmoid(preact_r);
    out.z = sigmoid(preact_z);
    out.n = tanh(preact_n + out.r * hn);
    out.h = gru_blend(out.z, out.n, h_prev);
    return out;
}

template <class V>
struct GruBackward {
    V dr, dz, dn;  ///< gradients of the pre-activations, input side
    V dhn;         ///< gradient of hn (reset-after): r*dn
    V dh_prev;     ///< what reaches h_prev without passing a weight matrix
};

/// One reset-after GRU unit, backward.
///
///   dn = dh*(1-z)*(1-n^2)   dz = dh*(h_prev-n)*z*(1-z)   dhn = dn*r   dr = dn*hn*r*(1-r)   dh_prev = dh*z
template <class V>
CAROUSEL_HD GruBackward<V> gru_backward(V r, V z, V n, V hn, V h_prev, V dh) {
    const V one(1);
    GruBackward<V> out;
    out.dn = dh * (one - z) * (one - n * n);
    out.dz = dh * (h_prev - n) * z * (one - z);
    out.dhn = out.dn * r;
    out.dr = out.dn * hn * r * (one - r);
    out.dh_prev = dh * z;
    return out;
}

template <class V>
struct GruResetBeforeGates {
    V r, z;
    V rh;  ///< r*h_prev, the operand of W_hn
};

/// First half of a reset-before GRU unit: both gates and the reset state.
template <class V>
CAROUSEL_HD GruResetBeforeGates<V> gru_reset_before_gates(V preact_r, V preact_z, V h_prev) {
    GruResetBeforeGates<V> out;
    out.r = sigmoid(preact_r);
    out.z = sigmoid(preact_z);
    out.rh = out.r * h_prev;
    return out;
}

template <class V>
struct GruResetBeforeState {
    V n, h;
};

/// Second half: `preact_n` includes W_hn (r*h_prev) and the biases.
template <class V>
CAROUSEL_HD GruResetBeforeState<V> gru_reset_before_state(V preact_n, V z, V h_prev) {
    GruResetBeforeState<V> out;
    out.n = tanh(preact_n);
    out.h = gru_blend(z, out.n, h_prev);
    return out;
}

template <class V>
struct GruResetBeforeBackward {
    V dz, dn;
    V dh_prev;
};

/// Backward of the second half. dr follows once drh = W_hn^T dn is known.
template <class V>
CAROUSEL_HD GruResetBeforeBackward<V> gru_reset_before_backward(V z, V n, V h_prev, V dh) {
    const V one(1);
    GruResetBeforeBackward<V> out;
    out.dn = dh * (one - z) * (one - n * n);
    out.dz = dh * (h_prev - n) * z * (one - z);
    out.dh_prev = dh * z;
    return out;
}

template <class V>
struct GruResetGateBackward {
    V dr;
    V dh_prev;  ///< adds to what the second half gave
};

/// Backward of rh = r*h_prev given drh = W_hn^T dn.
template <class V>
CAROUSEL_HD GruResetGateBackward<V> gru_reset_gate_backward(V r, V h_prev, V drh) {
    const V one(1);
    GruResetGateBackward<V> out;
    out.dr = drh * h_prev * r * (one - r);
    out.dh_prev = drh * r;
    return out;
}

}  // namespace carousel::cell
