#pragma once

// Pre-activations of a forward step, and where its gates go.

#include "kernels/cuda/rnn_step.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

/// Both sides of kGates gates of V units.
template <class S, int V, int kGates>
struct Preacts {
    using A = Acc<S>;
    Pack<S, V> x[kGates], b_ih[kGates], b_hh[kGates];
    Pack<A, V> h[kGates];

    /// All gates of a row of h_preact, which holds kGates.
    __device__ __forceinline__ void fetch_all(const CellForwardPart& part, std::int64_t hidden_size,
                                              std::int64_t n, std::int64_t j) {
        for (int g = 0; g < kGates; ++g)
            fetch_gate(g, part, g, part.h_preact, n * kGates + g, hidden_size, n, j);
    }
    /// Gate `gate` of the weights to place `to`; its recurrent side is block `h_block` of H elements.
    __device__ __forceinline__ void fetch_gate(int to, const CellForwardPart& part, int gate,
                                               const void* h_preact, std::int64_t h_block,
                                               std::int64_t hidden_size, std::int64_t n,
                                               std::int64_t j) {
        const std::int64_t column = gate * hidden_size + j;
        x[to] = fetch<S, V>(part.x_preact, n * part.x_preact_stride + column);
        h[to] = fetch<A, V>(h_preact, h_block * hidden_size + j);
        b_ih[to] = fetch<S, V>(part.b_ih, column);
        b_hh[to] = fetch<S, V>(part.b_hh, column);
    }
    /// x_preact + b_ih.
    __device__ __forceinline__ Pack<A, V> input(int gate) const {
        Pack<A, V> sum = widen(x[gate]);
        add(sum, widen(b_ih[gate]));
        return sum;
    }
    /// h_preact + b_hh.
    __device__ __forceinline__ Pack<A, V> hidden(int gate) const {
        Pack<A, V> sum = h[gate];
        add(sum, widen(b_hh[gate]));
        return sum;
    }
    __device__ __forceinline__ Pack<A, V> both(int gate) const {
        Pack<A, V> sum = input(gate);
        add(sum, hidden(gate));
        return sum;
    }
};

/// A gate after activation, to what backward reads and to the tensor on request [N, gates*H]. The
/// first is left alone where the row is not valid, because nothing reads it there; the second is 0.
template <class S, int V>
__device__ __forceinline__ void store_gate(const CellForwardPart& part, int gates,
                                           std::int64_t hidden_size, std::int64_t n, std::int64_t j,
                                           int gate, bool valid, const Pack<Acc<S>, V>& value) {
    const std::int64_t column = gate * hidden_size + j;
    if (valid) store<S>(part.gates, n * part.gates_stride + column, value);
    store<S>(part.gates_out, n * gates * hidden_size + column, valid ? value : zero<Acc<S>, V>());
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
