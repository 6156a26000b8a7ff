#pragma once

#include "kernels/cell/math.hpp"

namespace carousel::cell {

template <class V>
struct LstmForward {
    V i, f, g, o;  ///< gates after activation
    V c, h;        ///< new cell state; new hidden state (before any projection)
};

/// One LSTM unit, forward.
///
///   i = s(preact_i)  f = s(preact_f)  g = tanh(preact_g)  o = s(preact_o)
///   c = f*c_prev + i*g
///   h = o*tanh(c)
///
/// Source   Hochreiter & Schmidhuber 1997; Gers et al. 2000 (forget gate); as torch.nn.LSTM.
template <class V>
CAROUSEL_HD LstmForward<V> lstm_forward(V preact_i, V preact_f, V preact_g, V preact_o, V c_prev) {
    LstmForward<V> out;
    out.i = sigmoid(preact_i);
    out.f = sigmoid(preact_f);
    out.g = tanh(preact_g);
    out.o = sigmoid(preact_o);
    out.c = out.f * c_prev + out.i * out.g;
    out.h = out.o * tanh(out.c);
    return out;
}

template <class V>
struct LstmBackward {
    V di, df, dg, d_o;  ///< gradients of the gate pre-activations
    V dc_prev;
};

/// One LSTM unit, backward; `dh` is the total gradient of h, `dc` that of c from later steps.
///
///   do = dh*tanh(c)*o*(1-o)        dc += dh*o*(1-tanh(c)^2)
///   di = dc*g*i*(1-i)   df = dc*c_prev*f*(1-f)   dg = dc*i*(1-g^2)   dc_prev = dc*f
template <class V>
CAROUSEL_HD LstmBackward<V> lstm_backward(V i, V f, V g, V o, V c_prev, V c, V dh, V dc) {
    const V one(1);
    const V tanh_c = tanh(c);
    LstmBackward<V> out;
    out.d_o = dh * tanh_c * o * (one - o);
    const V dc_total = dc + dh * o * (one - tanh_c * tanh_c);
    out.di = dc_total * g * i * (one - i);
    out.df = dc_total * c_prev * f * (one - f);
    out.dg = dc_total * i * (one - g * g);
    out.dc_prev = dc_total * f;
    return out;
}

}  // namespace carousel::cell
