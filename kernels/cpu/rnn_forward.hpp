#pragma once

// Forward cell steps: the recurrent product of a tile stays in registers and meets the cell there.

#include "kernels/cell/gates.hpp"
#include "kernels/cell/gru.hpp"
#include "kernels/cell/lstm.hpp"
#include "kernels/cell/vanilla.hpp"
#include "kernels/cpu/rnn_matmul.hpp"

namespace carousel::cpu {
namespace {

/// Starts a tile of NV gates: accumulators hold bias + x * w_ih if w_ih is given, else zero (the input
/// side's pre-activations are on their way, add_gates adds them); h_prev is the operand that comes next.
template <class T, int MR, int NV>
CAROUSEL_INLINE void start_gates(const CellForwardArgs<T>& args, const CellForwardRow<T>* rows,
                                 std::int64_t vec, const T* (&a)[MR], Vec<T> (&acc)[MR][NV],
                                 Prefetch next) {
    constexpr int L = Vec<T>::kLanes;
    const std::int64_t unit = vec * L;
    const int lanes = lanes_of<T>(vec, args.hidden_size);
    for (int r = 0; r < MR; ++r) {
        for (int g = 0; g < NV; ++g) {
            acc[r][g] = args.bias == nullptr
                            ? Vec<T>(T(0))
                            : load_lanes(args.bias + g * args.hidden_size + unit, lanes);
            if (args.w_ih == nullptr)
                __builtin_prefetch(rows[r].gates + g * args.hidden_size + unit, 1, 3);
        }
    }
    if (args.w_ih != nullptr) {
        for (int r = 0; r < MR; ++r) a[r] = rows[r].x;
        Prefetch next_input;  // the same part of the next panel, if the two weights have one shape
        if (next.lines != nullptr && args.input_size == args.w_k) {
            next_input.lines = next.lines - reinterpret_cast<const char*>(args.w) +
                               reinterpret_cast<const char*>(args.w_ih);
        }
        tile_dot<PackedLayout::kGates>(a, args.w_ih + vec * args.input_size * NV * L,
                                       args.input_size, args.input_size, acc, next_input);
    }
    for (int r = 0; r < MR; ++r) a[r] = rows[r].h_prev;
}

/// Adds the pre-activations that start_gates did not sum.
template <class T, int MR, int NV>
CAROUSEL_INLINE void add_gates(const CellForwardArgs<T>& args, const CellForwardRow<T>* rows,
                               std::int64_t vec, Vec<T> (&acc)[MR][NV]) {
    if (args.w_ih != nullptr) return;
    const int lanes = lanes_of<T>(vec, args.hidden_size);
    for (int r = 0; r < MR; ++r) {
        for (int g = 0; g < NV; ++g) {
            acc[r][g] +=
                load_lanes(rows[r].gates + g * args.hidden_size + vec * Vec<T>::kLanes, lanes);
        }
    }
}

template <class T, int MR>
CAROUSEL_TILE lstm_forward_tile(const CellForwardArgs<T>& args, std::int64_t vec,
                                std::int64_t first, Prefetch next) {
    using namespace cell;
    constexpr int L = Vec<T>::kLanes;
    const CellForwardRow<T>* rows = args.rows + first;
    const std::int64_t unit = vec * L;
    const int lanes = lanes_of<T>(vec, args.hidden_size);
    const T* a[MR];
    Vec<T> acc[MR][kLstmGates];
    start_gates(args, rows, vec, a, acc, next);
    tile_dot<PackedLayout::kGates>(a, args.w + vec * args.w_k * kLstmGates * L, args.k, args.w_k,
                                   acc, next);
    add_gates(args, rows, vec, acc);
    for (int r = 0; r < MR; ++r) {
        const auto out =
            cell::lstm_forward(acc[r][kLstmI], acc[r][kLstmF], acc[r][kLstmG], acc[r][kLstmO],
                               load_lanes(rows[r].c_prev + unit, lanes));
        store_lanes(rows[r].c + unit, out.c, lanes);
        store_lanes(rows[r].h + unit, out.h, lanes);
        if (args.save) {
            const auto keep = [&](T* to, Vec<T> value) {
                args.stream ? stream_lanes(to, value, lanes) : store_lanes(to, value, lanes);
            };
            T* gates = rows[r].gates + unit;
            keep(gates + kLstmI * args.hidden_size, out.i);
            keep(gates + kLstmF * args.hidden_size, out.f);
            keep(gates + kLstmG * args.hidden_size, out.g);
            keep(gates + kLstmO * args.hidden_size, out.o);
        }
    }
}

template <class T, int MR>
CAROUSEL_TILE gru_forward_tile(const CellForwardArgs<T>& args, std::int64_t vec, std::int64_t first,
                               Prefetch next) {
    using namespace cell;
    constexpr int L = Vec<T>::kLanes;
    const CellForwardRow<T>* rows = args.rows + first;
    const std::int64_t unit = vec * L, H = args.hidden_size;
    const int lanes = lanes_of<T>(vec, H);
    const T* a[MR];
    Vec<T> acc[MR][kGruGates];
    start_gates(args, rows, vec, a, acc, next);
    // The candidate's recurrent part passes the reset gate first, so it is summed on its own.
    const Vec<T> bias =
        args.bias_hn == nullptr ? Vec<T>(T(0)) : load_lanes(args.bias_hn + unit, lanes);
    Vec<T> input_n[MR];
    for (int r = 0; r < MR; ++r) {
        input_n[r] = acc[r][kGruN];
        acc[r][kGruN] = Vec<T>(T(0));
    }
    tile_dot<PackedLayout::kGates>(a, args.w + vec * args.w_k * kGruGates * L, args.k, args.w_k,
                                   acc, next);
    Vec<T> hn[MR];
    for (int r = 0; r < MR; ++r) {
        hn[r] = acc[r][kGruN] + bias;
        acc[r][kGruN] = input_n[r];
    }
    add_gates(args, rows, vec, acc);
    for (int r = 0; r < MR; ++r) {
        T* gates = rows[r].gates + unit;
        const auto out = cell::gru_forward(acc[r][kGruR], acc[r][kGruZ], acc[r][kGruN], hn[r],
                                           load_lanes(rows[r].h_prev + unit, lanes));
        store_lanes(rows[r].h + unit, out.h, lanes);
        if (args.save) {
            const auto keep = [&](T* to, Vec<T> value) {
                args.stream ? stream_lanes(to, value, lanes) : store_lanes(to, value, lanes);
            };
            keep(gates + kGruR * H, out.r);
            keep(gates + kGruZ * H, out.z);
            keep(gates + kGruN * H, out.n);
            keep(gates + kGruHn * H, hn[r]);
        }
    }
}

/// Gates r, z and r*h_prev; z replaces its pre-activation even when nothing is saved, because the
/// second half reads it.
template <class T, int MR>
CAROUSEL_TILE gru_reset_before_gates_tile(const CellForwardArgs<T>& args, std::int64_t vec,
                                          std::int64_t first, Prefetch next) {
    using namespace cell;
    constexpr int L = Vec<T>::kLanes;
    const CellForwardRow<T>* rows = args.rows + first;
    const std::int64_t unit = vec * L, H = args.hidden_size;
    const int lanes = lanes_of<T>(vec, H);
    const T* a[MR];
    Vec<T> acc[MR][2];
    start_gates(args, rows, vec, a, acc, next);
    tile_dot<PackedLayout::kGates>(a, args.w + vec * args.w_k * 2 * L, args.k, args.w_k, acc, next);
    add_gates(args, rows, vec, acc);
    for (int r = 0; r < MR; ++r) {
        T* gates = rows[r].gates + unit;
        const auto out = cell::gru_reset_before_gates(acc[r][kGruR], acc[r][kGruZ],
                                                      load_lanes(rows[r].h_prev + unit, lanes));
        store_lanes(gates + kGruR * H, out.r, lanes);
        store_lanes(gates + kGruZ * H, out.z, lanes);
        store_lanes(rows[r].aux + unit, out.rh, lanes);
    }
}

template <class T, int MR, int NV>
CAROUSEL_TILE gru_reset_before_state_tile(const CellForwardArgs<T>& args, std::int64_t vec,
                                          std::int64_t first, Prefetch next) {
    using namespace cell;
    constexpr int L = Vec<T>::kLanes;
    const CellForwardRow<T>* rows = args.rows + first;
    const std::int64_t H = args.hidden_size;
    const T* a[MR];
    Vec<T> acc[MR][NV];
    for (int r = 0; r < MR; ++r) {
        a[r] = rows[r].aux;
        for (int v = 0; v < NV; ++v) {
            acc[r][v] =
                load_lanes(rows[r].gates + kGruN * H + (vec + v) * L, lanes_of<T>(vec + v, H));
        }
    }
    tile_dot<PackedLayout::kColumns>(a, args.w + vec * args.w_k * L, args.k, args.w_k, acc, next);
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) {
            const std::int64_t unit = (vec + v) * L;
            const int lanes = lanes_of<T>(vec + v, H);
            T* gates = rows[r].gates + unit;
            const auto out =
                cell::gru_reset_before_state(acc[r][v], load_lanes(gates + kGruZ * H, lanes),
                                             load_lanes(rows[r].h_prev + unit, lanes));
            store_lanes(rows[r].h + unit, out.h, lanes);
            if (args.save) store_lanes(gates + kGruN * H, out.n, lanes);
        }
    }
}

template <class Activation, class T, int MR, int NV>
CAROUSEL_TILE vanilla_forward_tile(const CellForwardArgs<T>& args, std::int64_t vec,
                                   std::int64_t first, Prefetch next) {
    constexpr int L = Vec<T>::kLanes;
    const CellForwardRow<T>* rows = args.rows + first;
    const T* a[MR];
    Vec<T> acc[MR][NV];
    for (int r = 0; r < MR; ++r) {
        a[r] = rows[r].h_prev;
        for (int v = 0; v < NV; ++v) {
            acc[r][v] =
                load_lanes(rows[r].gates + (vec + v) * L, lanes_of<T>(vec + v, args.hidden_size));
        }
    }
    tile_dot<PackedLayout::kColumns>(a, args.w + vec * args.w_k * L, args.k, args.w_k, acc, next);
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) {
            const std::int64_t unit = (vec + v) * L;
            const int lanes = lanes_of<T>(vec + v, args.hidden_size);
            const Vec<T> h = cell::vanilla_forward<Activation>(acc[r][v]);
            store_lanes(rows[r].h + unit, h, lanes);
            if (args.save) store_lanes(rows[r].gates + unit, h, lanes);
        }
    }
}

template <class T>
void lstm_forward(const CellForwardArgs<T>& args) {
    for_gate_tiles<cell::kLstmGates, T>(
        args, [&](std::int64_t vec, std::int64_t first, auto mr, Prefetch next) {
            constexpr int MR = decltype(mr)::value;
            lstm_forward_tile<T, MR>(args, vec, first, next);
        });
    if (args.stream) stream_fence();
}

template <class T>
void gru_forward(const CellForwardArgs<T>& args) {
    for_gate_tiles<cell::kGruGates, T>(
        args, [&](std::int64_t vec, std::int64_t first, auto mr, Prefetch next) {
            constexpr int MR = decltype(mr)::value;
            gru_forward_tile<T, MR>(args, vec, first, next);
        });
    if (args.stream) stream_fence();
}

template <class T>
void gru_reset_before_gates(const CellForwardArgs<T>& args) {
    for_gate_tiles<2, T>(args, [&](std::int64_t vec, std::int64_t first, auto mr, Prefetch next) {
        constexpr int MR = decltype(mr)::value;
        gru_reset_before_gates_tile<T, MR>(args, vec, first, next);
    });
}

template <class T>
void gru_reset_before_state(const CellForwardArgs<T>& args) {
    for_tiles<4, false, T>(args, [&](std::int64_t vec, std::int64_t first, auto mr, auto nv,
                                     const InnerPart<T>& part) {
        constexpr int MR = decltype(mr)::value, NV = decltype(nv)::value;
        gru_reset_before_state_tile<T, MR, NV>(args, vec, first, part.next);
    });
}

template <class Activation, class T>
void vanilla_forward(const CellForwardArgs<T>& args) {
    for_tiles<4, false, T>(args, [&](std::int64_t vec, std::int64_t first, auto mr, auto nv,
                                     const InnerPart<T>& part) {
        constexpr int MR = decltype(mr)::value, NV = decltype(nv)::value;
        vanilla_forward_tile<Activation, T, MR, NV>(args, vec, first, part.next);
    });
}

}  // namespace
}  // namespace carousel::cpu
