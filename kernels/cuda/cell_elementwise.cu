// Every cell of kernels/cell as an element-wise kernel, forward and backward, in float and double.
//
// Nothing launches these yet: they are the proof, in every build that has nvcc, that the cell
// templates are device code and fit the register file (ptxas' spill warnings are errors here).
// Arrays are structures of rows: row r of an operand with `count` units starts at r*count.

#include "kernels/cell/gates.hpp"
#include "kernels/cell/gru.hpp"
#include "kernels/cell/lstm.hpp"
#include "kernels/cell/vanilla.hpp"

#include <cstdint>

namespace carousel::cuda {

namespace {

/// Index of this thread's first unit, and the distance to its next one.
__device__ __forceinline__ std::int64_t first_unit() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t unit_stride() {
    return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

}  // namespace

/// In       preact, gates [rows,count]; h_prev, c_prev, c, dh, dc [count]
/// Out      gates, dpreact [rows,count]; h, c_out, dh_prev, dc_prev [count]; written fully
template <class V>
struct CellArgs {
    std::int64_t count;
    const V* preact;
    const V* h_prev;
    const V* c_prev;
    V* gates;
    V* h;
    V* c;
    const V* dh;
    const V* dc;
    V* dpreact;
    V* dh_prev;
    V* dc_prev;
};

template <class V>
__global__ void lstm_forward_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const V* preact = args.preact + j;
        const LstmForward<V> out =
            lstm_forward(preact[kLstmI * count], preact[kLstmF * count], preact[kLstmG * count],
                         preact[kLstmO * count], args.c_prev[j]);
        V* gates = args.gates + j;
        gates[kLstmI * count] = out.i;
        gates[kLstmF * count] = out.f;
        gates[kLstmG * count] = out.g;
        gates[kLstmO * count] = out.o;
        args.c[j] = out.c;
        args.h[j] = out.h;
    }
}

template <class V>
__global__ void lstm_backward_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const V* gates = args.gates + j;
        const LstmBackward<V> out =
            lstm_backward(gates[kLstmI * count], gates[kLstmF * count], gates[kLstmG * count],
                          gates[kLstmO * count], args.c_prev[j], args.c[j], args.dh[j], args.dc[j]);
        V* dpreact = args.dpreact + j;
        dpreact[kLstmI * count] = out.di;
        dpreact[kLstmF * count] = out.df;
        dpreact[kLstmG * count] = out.dg;
        dpreact[kLstmO * count] = out.d_o;
        args.dc_prev[j] = out.dc_prev;
    }
}

template <class V>
__global__ void gru_forward_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const V* preact = args.preact + j;
        const V hn = preact[kGruHn * count];
        const GruForward<V> out = gru_forward(preact[kGruR * count], preact[kGruZ * count],
                                              preact[kGruN * count], hn, args.h_prev[j]);
        V* gates = args.gates + j;
        gates[kGruR * count] = out.r;
        gates[kGruZ * count] = out.z;
        gates[kGruN * count] = out.n;
        gates[kGruHn * count] = hn;
        args.h[j] = out.h;
    }
}

template <class V>
__global__ void gru_backward_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const V* gates = args.gates + j;
        const GruBackward<V> out =
            gru_backward(gates[kGruR * count], gates[kGruZ * count], gates[kGruN * count],
                         gates[kGruHn * count], args.h_prev[j], args.dh[j]);
        V* dpreact = args.dpreact + j;
        dpreact[kGruGradN * count] = out.dn;
        dpreact[kGruGradR * count] = out.dr;
        dpreact[kGruGradZ * count] = out.dz;
        dpreact[kGruGradHn * count] = out.dhn;
        args.dh_prev[j] = out.dh_prev;
    }
}

/// First half of reset-before: `c` takes r*h_prev, the operand of the product that comes between.
template <class V>
__global__ void gru_reset_before_gates_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const GruResetBeforeGates<V> out = gru_reset_before_gates(
            args.preact[kGruR * count + j], args.preact[kGruZ * count + j], args.h_prev[j]);
        args.gates[kGruR * count + j] = out.r;
        args.gates[kGruZ * count + j] = out.z;
        args.c[j] = out.rh;
    }
}

template <class V>
__global__ void gru_reset_before_state_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const GruResetBeforeState<V> out = gru_reset_before_state(
            args.preact[kGruN * count + j], args.gates[kGruZ * count + j], args.h_prev[j]);
        args.gates[kGruN * count + j] = out.n;
        args.h[j] = out.h;
    }
}

template <class V>
__global__ void gru_reset_before_backward_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const GruResetBeforeBackward<V> out =
            gru_reset_before_backward(args.gates[kGruZ * count + j], args.gates[kGruN * count + j],
                                      args.h_prev[j], args.dh[j]);
        args.dpreact[kGruZ * count + j] = out.dz;
        args.dpreact[kGruN * count + j] = out.dn;
        args.dh_prev[j] = out.dh_prev;
    }
}

/// `dc` carries drh = W_hn^T dn; adds to dh_prev.
template <class V>
__global__ void gru_reset_gate_backward_elementwise(CellArgs<V> args) {
    using namespace cell;
    const std::int64_t count = args.count;
    for (std::int64_t j = first_unit(); j < count; j += unit_stride()) {
        const GruResetGateBackward<V> out =
            gru_reset_gate_backward(args.gates[kGruR * count + j], args.h_prev[j], args.dc[j]);
        args.dpreact[kGruR * count + j] = out.dr;
        args.dh_prev[j] += out.dh_prev;
    }
}

template <class Activation, class V>
__global__ void vanilla_forward_elementwise(CellArgs<V> args) {
    for (std::int64_t j = first_unit(); j < args.count; j += unit_stride()) {
        args.h[j] = cell::vanilla_forward<Activation>(args.preact[j]);
    }
}

template <class Activation, class V>
__global__ void vanilla_backward_elementwise(CellArgs<V> args) {
    for (std::int64_t j = first_unit(); j < args.count; j += unit_stride()) {
        args.dpreact[j] = cell::vanilla_backward<Activation>(args.h[j], args.dh[j]);
    }
}

#define CAROUSEL_INSTANTIATE_CELLS(V)                                                         \
    template __global__ void lstm_forward_elementwise(CellArgs<V>);                           \
    template __global__ void lstm_backward_elementwise(CellArgs<V>);                          \
    template __global__ void gru_forward_elementwise(CellArgs<V>);                            \
    template __global__ void gru_backward_elementwise(CellArgs<V>);                           \
    template __global__ void gru_reset_before_gates_elementwise(CellArgs<V>);                 \
    template __global__ void gru_reset_before_state_elementwise(CellArgs<V>);                 \
    template __global__ void gru_reset_before_backward_elementwise(CellArgs<V>);              \
    template __global__ void gru_reset_gate_backward_elementwise(CellArgs<V>);                \
    template __global__ void vanilla_forward_elementwise<cell::TanhActivation>(CellArgs<V>);  \
    template __global__ void vanilla_forward_elementwise<cell::ReluActivation>(CellArgs<V>);  \
    template __global__ void vanilla_backward_elementwise<cell::TanhActivation>(CellArgs<V>); \
    template __global__ void vanilla_backward_elementwise<cell::ReluActivation>(CellArgs<V>)

CAROUSEL_INSTANTIATE_CELLS(float);
CAROUSEL_INSTANTIATE_CELLS(double);

#undef CAROUSEL_INSTANTIATE_CELLS

}  // namespace carousel::cuda
