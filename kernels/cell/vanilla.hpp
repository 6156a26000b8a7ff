#pragma once

#include "kernels/cell/math.hpp"

// The vanilla (Elman) cell: h = act(preact). Its saved gate is h itself, so both derivatives are
// written in terms of the output.

namespace carousel::cell {

struct TanhActivation {
    template <class V>
    CAROUSEL_HD static V forward(V preact) {
        return tanh(preact);
    }
    template <class V>
    CAROUSEL_HD static V backward(V h, V dh) {
        return dh * (V(1) - h * h);
    }
};

struct ReluActivation {
    template <class V>
    CAROUSEL_HD static V forward(V preact) {
        return relu(preact);
    }
    template <class V>
    CAROUSEL_HD static V backward(V h, V dh) {
        return relu_backward(h, dh);
    }
};

/// One vanilla unit, forward.
template <class Activation, class V>
CAROUSEL_HD V vanilla_forward(V preact) {
    return Activation::forward(preact);
}

/// One vanilla unit, backward: gradient of the pre-activation.
template <class Activation, class V>
CAROUSEL_HD V vanilla_backward(V h, V dh) {
    return Activation::backward(h, dh);
}

}  // namespace carousel::cell
