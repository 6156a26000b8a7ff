// Weight gradients: products over all T*N rows, A^T * B with gate gradients as A. Blocks of rows are
// packed: B's rows as panels by the whole team, from row pointers (so steps beyond a sequence's end, cut
// states and strides need no case of their own), A transposed by the thread that owns those gate rows.

#include <algorithm>

#include "kernels/cell/gates.hpp"
#include "src/backend/cpu/rnn_backward.hpp"

namespace carousel::cpu {

namespace {

/// c[m, width] = (or +=) A[:, a_column : a_column + m]^T * B.
template <class T>
struct Target {
    std::int64_t a_column, m;
    int operand;  ///< index of B
    T* c;         ///< null: not wanted
};

/// One B: its width, and its packed block.
template <class T>
struct Operand {
    std::int64_t width;
    T* panels;
};

constexpr int kMaxOperands = 3, kMaxTargets = 4;

}  // namespace

/// The products of one A [T*N, columns] with several B, all at once, so that A is transposed once.
template <class T>
struct BackwardPass<T>::WeightProducts {
    const T* a = nullptr;
    std::int64_t ld = 0, columns = 0;
    Operand<T> operands[kMaxOperands] = {};
    int num_operands = 0;
    Target<T> targets[kMaxTargets] = {};
    int num_targets = 0;

    void add(std::int64_t a_column, std::int64_t m, int operand, T* c) noexcept {
        if (c != nullptr) targets[num_targets++] = {a_column, m, operand, c};
    }
    bool needs(int operand) const noexcept {
        for (int i = 0; i < num_targets; ++i) {
            if (targets[i].operand == operand) return true;
        }
        return false;
    }
};

/// Gate rows [begin, end) of every target, from this block of `count` rows.
template <class T>
void BackwardPass<T>::multiply_block(const Member& member, const WeightProducts& products,
                                     Span gate_rows, std::int64_t count,
                                     bool first) const noexcept {
    auto* rows = reinterpret_cast<MatmulRow<T>*>(row_list(member));
    const std::int64_t stride = product_stride(work_.product_rows);
    T* transposed = work_.slices.template at<T>(args_.workspace, work_.transposed) +
                    member.tid * stride * kProductColumns;
    for (std::int64_t begin = gate_rows.begin; begin < gate_rows.end; begin += kProductColumns) {
        const std::int64_t end = std::min(begin + kProductColumns, gate_rows.end);
        TransposeArgs<T> transpose;
        transpose.a = products.a + begin;
        transpose.rows = count;
        transpose.columns = end - begin;
        transpose.ld = products.ld;
        transpose.out = transposed;
        transpose.ld_out = stride;
        kernels_.transpose(transpose);
        for (int i = 0; i < products.num_targets; ++i) {
            const Target<T>& target = products.targets[i];
            const Operand<T>& operand = products.operands[target.operand];
            const std::int64_t from = std::max(begin, target.a_column);
            const std::int64_t to = std::min(end, target.a_column + target.m);
            for (std::int64_t m = from; m < to; ++m) {
                T* c = target.c + (m - target.a_column) * operand.width;
                rows[m - from] = {transposed + (m - begin) * stride,
                                  first && !args_.accumulate ? nullptr : c, nullptr, c};
            }
            if (from >= to) continue;
            MatmulArgs<T> args;
            args.rows = rows;
            args.num_rows = to - from;
            args.w = operand.panels;
            args.k = count;
            args.w_k = panel_rows(work_.product_rows);
            args.m = operand.width;
            args.vec_end = (operand.width + kernels_.lanes - 1) / kernels_.lanes;
            kernels_.matmul(args);
        }
    }
}

/// Runs all blocks. row_at(operand, t, n) is a row of B, or null where it reads as zero.
template <class T>
template <class RowAt>
void BackwardPass<T>::run_products(const Member& member, WeightProducts& products,
                                   const RowAt& row_at) const noexcept {
    if (products.num_targets == 0) return;
    T* panels = work_.slices.template at<T>(args_.workspace, work_.operands);
    for (int i = 0; i < products.num_operands; ++i) {
        Operand<T>& operand = products.operands[i];
        operand.panels = panels;
        panels += panel_rows(work_.product_rows) *
                  ((operand.width + kernels_.lanes - 1) / kernels_.lanes) * kernels_.lanes;
    }
    const Span gate_rows = member.part(products.columns, 6);
    const std::int64_t total = T_ * N_;
    auto* pointers = reinterpret_cast<const T**>(row_list(member));
    for (std::int64_t begin = 0; begin < total; begin += work_.product_rows) {
        const std::int64_t count = std::min(work_.product_rows, total - begin);
        for (int i = 0; i < products.num_operands; ++i) {
            if (!products.needs(i)) continue;
            for (std::int64_t row = 0; row < count; ++row) {
                pointers[row] = row_at(i, (begin + row) / N_, (begin + row) % N_);
            }
            PackRowsArgs<T> pack;
            pack.rows = pointers;
            pack.k = count;
            pack.panel_k = panel_rows(work_.product_rows);
            pack.m = products.operands[i].width;
            pack.packed = products.operands[i].panels;
            const Span vectors = member.part((pack.m + kernels_.lanes - 1) / kernels_.lanes);
            pack.vec_begin = vectors.begin;
            pack.vec_end = vectors.end;
            kernels_.pack_rows(pack);
        }
        member.meet_team();
        multiply_block(member, products, gate_rows, count, begin == 0);
        products.a += count * products.ld;
        member.meet_team();  // the panels are about to be overwritten
    }
}

template <class T>
void BackwardPass<T>::weight_grads(const Member& member, const PlanStep& step) const noexcept {
    if (args_.grads == nullptr) return;
    const Sweep sweep = make_sweep(step.layer, step.dir);
    const RnnLayerGrads& grads = args_.grads->layers[static_cast<std::size_t>(sweep.state)];
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size(), G = spec_.num_gates();
    const std::int64_t I = spec_.layer_input_size(step.layer);
    auto* dw_ih = static_cast<T*>(grads.dw_ih.data);
    auto* dw_hh = static_cast<T*>(grads.dw_hh.data);
    enum : int { kX, kHPrev, kResetH };
    WeightProducts products;
    products.a = dgates_;
    products.ld = slots_ * H;
    products.columns = slots_ * H;
    products.operands[kX].width = I;
    products.operands[kHPrev].width = O;
    products.operands[kResetH].width = H;
    products.num_operands = spec_.cell == Cell::kGruResetBefore ? 3 : 2;
    switch (spec_.cell) {
        case Cell::kGru:  // input side (r, z) and n; recurrent side in one piece
            products.add(cell::kGruGradR * H, 2 * H, kX, dw_ih);
            products.add(cell::kGruGradN * H, H, kX, offset_or_null(dw_ih, cell::kGruN * H * I));
            products.add(cell::kGruGradR * H, G * H, kHPrev, dw_hh);
            break;
        case Cell::kGruResetBefore:  // the candidate's recurrent operand is r*h_prev
            products.add(0, G * H, kX, dw_ih);
            products.add(0, 2 * H, kHPrev, dw_hh);
            products.add(cell::kGruN * H, H, kResetH, offset_or_null(dw_hh, cell::kGruN * H * O));
            break;
        default:
            products.add(0, G * H, kX, dw_ih);
            products.add(0, G * H, kHPrev, dw_hh);
            break;
    }
    // Beyond a sequence's end x may hold anything, so it is not read: 0 * NaN would not be 0.
    run_products(member, products, [&](int operand, std::int64_t t, std::int64_t n) -> const T* {
        if (!sweep.walk.active(t, n)) return nullptr;
        if (operand == kX) return sweep.x.row(t, n);
        return operand == kHPrev ? sweep.h_prev(t, n, O) : sweep.aux + (t * N_ + n) * H;
    });
    if (!grads.dw_hr.defined()) return;
    WeightProducts projection;
    projection.a = work_or_null(work_.dh);
    projection.ld = projection.columns = spec_.proj_size;
    projection.operands[0].width = H;
    projection.num_operands = 1;
    projection.add(0, spec_.proj_size, 0, static_cast<T*>(grads.dw_hr.data));
    run_products(member, projection, [&](int, std::int64_t t, std::int64_t n) -> const T* {
        return sweep.walk.active(t, n) ? sweep.aux + (t * N_ + n) * H : nullptr;
    });
}

template void BackwardPass<float>::weight_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<double>::weight_grads(const Member&, const PlanStep&) const noexcept;

}  // namespace carousel::cpu
