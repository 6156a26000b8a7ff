#pragma once

// Backward cell steps: dh of a tile is summed in registers (from above, from later steps through the
// recurrent weights) and meets the cell's derivative there.

#include "kernels/cell/gates.hpp"
#include "kernels/cell/gru.hpp"
#include "kernels/cell/lstm.hpp"
#include "kernels/cell/vanilla.hpp"
#include "kernels/cpu/rnn_matmul.hpp"

namespace carousel::cpu {
namespace {

/// acc = dy + extra + dg_next * W; the last part of the inner index.
template <class T, int MR, int NV>
CAROUSEL_INLINE void sum_dh(const CellBackwardArgs<T>& args, std::int64_t vec, std::int64_t first,
                            Vec<T> (&acc)[MR][NV], const InnerPart<T>& part) {
    constexpr int L = Vec<T>::kLanes;
    const CellBackwardRow<T>* rows = args.rows + first;
    const T* a[MR];
    for (int r = 0; r < MR; ++r) a[r] = rows[r].dg_next + part.begin;
    start(part, acc);
    tile_dot<PackedLayout::kColumns>(a, args.w + (vec * args.w_k + part.begin) * L, part.size,
                                     args.w_k, acc, part.next);
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) {
            const std::int64_t unit = (vec + v) * L;
            const int lanes = lanes_of<T>(vec + v, args.hidden_size);
            acc[r][v] +=
                load_lanes(rows[r].dy + unit, lanes) + load_lanes(rows[r].extra + unit, lanes);
        }
    }
    if (args.sum_squares != nullptr) add_squares(acc, args.sum_squares);
}

/// What the cell will read of a row, in slots of H values: brought near while dh is summed.
template <class T>
CAROUSEL_INLINE void fetch_saved(const CellBackwardRow<T>& row, std::int64_t unit, std::int64_t H,
                                 int gate_slots, bool has_c) {
    __builtin_prefetch(row.dy + unit, 0, 3);
    __builtin_prefetch(row.extra + unit, 0, 3);
    for (int slot = 0; slot < gate_slots; ++slot)
        __builtin_prefetch(row.gates + slot * H + unit, 0, 3);
    if (!has_c) return;
    __builtin_prefetch(row.c_prev + unit, 0, 3);
    __builtin_prefetch(row.c + unit, 0, 3);
}

template <class T, int MR, int NV, class Cell>
CAROUSEL_TILE backward_tile(const CellBackwardArgs<T>& args, std::int64_t vec, std::int64_t first,
                            const InnerPart<T>& part, const Cell& cell) {
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) {
            fetch_saved(args.rows[first + r], (vec + v) * Vec<T>::kLanes, args.hidden_size,
                        args.saved_slots, args.rows[first + r].c != nullptr);
        }
    }
    Vec<T> acc[MR][NV];
    sum_dh(args, vec, first, acc, part);
    for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) {
            cell(args.rows[first + r], (vec + v) * Vec<T>::kLanes,
                 lanes_of<T>(vec + v, args.hidden_size), acc[r][v]);
        }
    }
}

/// Sums dh tile by tile and hands each vector of it to cell(row, unit, lanes, dh).
template <class T, class Cell>
CAROUSEL_INLINE void backward_step(const CellBackwardArgs<T>& args, const Cell& cell) {
    for_tiles<4, true, T>(args, [&](std::int64_t vec, std::int64_t first, auto mr, auto nv,
                                    const InnerPart<T>& part) {
        constexpr int MR = decltype(mr)::value, NV = decltype(nv)::value;
        if (!part.last) {
            const T* a[MR];
            for (int r = 0; r < MR; ++r) a[r] = args.rows[first + r].dg_next + part.begin;
            part_tile<T, MR, NV>(a, args.w + vec * args.w_k * Vec<T>::kLanes, args.w_k, part);
            return;
        }
        backward_tile<T, MR, NV>(args, vec, first, part, cell);
    });
}

template <class T>
void lstm_backward(const CellBackwardArgs<T>& args) {
    using namespace cell;
    const std::int64_t H = args.hidden_size;
    backward_step(
        args, [H](const CellBackwardRow<T>& row, std::int64_t unit, int lanes,
                  Vec<T> dh) __attribute__((always_inline)) {
            const T* gates = row.gates + unit;
            const auto d = cell::lstm_backward(
                load_lanes(gates + kLstmI * H, lanes), load_lanes(gates + kLstmF * H, lanes),
                load_lanes(gates + kLstmG * H, lanes), load_lanes(gates + kLstmO * H, lanes),
                load_lanes(row.c_prev + unit, lanes), load_lanes(row.c + unit, lanes), dh,
                load_lanes(static_cast<const T*>(row.dc) + unit, lanes));
            T* dg = row.dg + unit;
            store_lanes(dg + kLstmI * H, d.di, lanes);
            store_lanes(dg + kLstmF * H, d.df, lanes);
            store_lanes(dg + kLstmG * H, d.dg, lanes);
            store_lanes(dg + kLstmO * H, d.d_o, lanes);
            store_lanes(row.dc + unit, d.dc_prev, lanes);
        });
}

template <class T>
void gru_backward(const CellBackwardArgs<T>& args) {
    using namespace cell;
    const std::int64_t H = args.hidden_size;
    backward_step(
        args, [H](const CellBackwardRow<T>& row, std::int64_t unit, int lanes,
                  Vec<T> dh) __attribute__((always_inline)) {
            const T* gates = row.gates + unit;
            const auto d = cell::gru_backward(
                load_lanes(gates + kGruR * H, lanes), load_lanes(gates + kGruZ * H, lanes),
                load_lanes(gates + kGruN * H, lanes), load_lanes(gates + kGruHn * H, lanes),
                load_lanes(row.h_prev + unit, lanes), dh);
            T* dg = row.dg + unit;
            store_lanes(dg + kGruGradN * H, d.dn, lanes);
            store_lanes(dg + kGruGradR * H, d.dr, lanes);
            store_lanes(dg + kGruGradZ * H, d.dz, lanes);
            store_lanes(dg + kGruGradHn * H, d.dhn, lanes);
            store_lanes(row.carry + unit, d.dh_prev, lanes);
        });
}

template <class T>
void gru_reset_before_backward(const CellBackwardArgs<T>& args) {
    using namespace cell;
    const std::int64_t H = args.hidden_size;
    backward_step(
        args, [H](const CellBackwardRow<T>& row, std::int64_t unit, int lanes,
                  Vec<T> dh) __attribute__((always_inline)) {
            const T* gates = row.gates + unit;
            const auto d = cell::gru_reset_before_backward(
                load_lanes(gates + kGruZ * H, lanes), load_lanes(gates + kGruN * H, lanes),
                load_lanes(row.h_prev + unit, lanes), dh);
            T* dg = row.dg + unit;
            store_lanes(dg + kGruZ * H, d.dz, lanes);
            store_lanes(dg + kGruN * H, d.dn, lanes);
            store_lanes(row.carry + unit, d.dh_prev, lanes);
        });
}

/// Second half of a reset-before step: dg_next points at this step's dn, so the tile's sum is
/// drh = dn * W_hn (dy and extra point at zeros).
template <class T>
void gru_reset_gate_backward(const CellBackwardArgs<T>& args) {
    using namespace cell;
    const std::int64_t H = args.hidden_size;
    backward_step(
        args, [H](const CellBackwardRow<T>& row, std::int64_t unit, int lanes,
                  Vec<T> drh) __attribute__((always_inline)) {
            const auto d =
                cell::gru_reset_gate_backward(load_lanes(row.gates + kGruR * H + unit, lanes),
                                              load_lanes(row.h_prev + unit, lanes), drh);
            store_lanes(row.dg + kGruR * H + unit, d.dr, lanes);
            store_lanes(row.carry + unit,
                        load_lanes(static_cast<const T*>(row.carry) + unit, lanes) + d.dh_prev,
                        lanes);
        });
}

template <class Activation, class T>
void vanilla_backward(const CellBackwardArgs<T>& args) {
    backward_step(
        args, [](const CellBackwardRow<T>& row, std::int64_t unit, int lanes,
                 Vec<T> dh) __attribute__((always_inline)) {
            store_lanes(row.dg + unit,
                        cell::vanilla_backward<Activation>(load_lanes(row.gates + unit, lanes), dh),
                        lanes);
        });
}

}  // namespace
}  // namespace carousel::cpu
