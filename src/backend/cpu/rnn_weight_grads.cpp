// Weight gradients: products over all T*N rows. Where the rows of an operand do not lie at one stride,
// or some of them must read as zero, blocks of rows are first gathered.

#include <algorithm>

#include "kernels/cell/gates.hpp"
#include "src/backend/cpu/rnn_backward.hpp"

namespace carousel::cpu {

template <class T>
void BackwardPass<T>::weight_grads(const Member& member, const PlanStep& step) const noexcept {
    if (args_.grads == nullptr) return;
    const Sweep sweep = make_sweep(step.layer, step.dir);
    const RnnLayerGrads& grads = args_.grads->layers[static_cast<std::size_t>(sweep.state)];
    if (grads.dw_ih.defined()) dw_ih(member, sweep, static_cast<T*>(grads.dw_ih.data));
    if (grads.dw_hh.defined()) dw_hh(member, sweep, static_cast<T*>(grads.dw_hh.data));
    if (grads.dw_hr.defined()) {
        Gemm<T> gemm;  // dw_hr = dh^T * h before projection
        gemm.trans_a = true;
        gemm.m = spec_.proj_size;
        gemm.n = spec_.hidden_size;
        gemm.k = T_ * N_;
        gemm.a = work_or_null(work_.dh);
        gemm.lda = spec_.proj_size;
        gemm.b = sweep.aux;
        gemm.ldb = spec_.hidden_size;
        gemm.beta = args_.accumulate ? T(1) : T(0);
        gemm.c = static_cast<T*>(grads.dw_hr.data);
        gemm.ldc = spec_.hidden_size;
        gemm_team(gemm, member.tid, member.num_threads);
    }
}

namespace {

template <class T>
void run_both(const Gemm<T>& part0, const Gemm<T>& part1, const Member& member) noexcept {
    if (part0.m > 0) gemm_team(part0, member.tid, member.num_threads);
    if (part1.m > 0) gemm_team(part1, member.tid, member.num_threads);
}

}  // namespace

/// C += A^T * B for two products that share B, whose row i is row_at(i), or zero where that is null.
template <class T>
template <class RowAt>
void BackwardPass<T>::gathered_product(const Member& member, std::int64_t width, RowAt&& row_at,
                                       Gemm<T> part0, Gemm<T> part1) const noexcept {
    T* gather = work_or_null(work_.gather);
    const std::int64_t rows = T_ * N_;
    for (std::int64_t begin = 0; begin < rows; begin += work_.gather_rows) {
        const std::int64_t count = std::min(work_.gather_rows, rows - begin);
        const Span part = member.part(count);
        for (std::int64_t i = part.begin; i < part.end; ++i) {
            const T* row = row_at(begin + i);
            if (row == nullptr) {
                zero_span(gather + i * width, {0, width});
            } else {
                copy_span(gather + i * width, row, {0, width});
            }
        }
        member.meet_team();
        for (Gemm<T>* gemm : {&part0, &part1}) {
            if (gemm->m == 0) continue;
            gemm->k = count;
            gemm->b = gather;
            gemm->ldb = width;
            gemm_team(*gemm, member.tid, member.num_threads);
            gemm->a += count * gemm->lda;
            gemm->beta = T(1);
        }
        member.meet_team();
    }
}

template <class T>
void BackwardPass<T>::dw_ih(const Member& member, const Sweep& sweep, T* dw) const noexcept {
    const std::int64_t H = spec_.hidden_size, I = spec_.layer_input_size(sweep.layer),
                       G = spec_.num_gates();
    Gemm<T> part0;
    part0.trans_a = true;
    part0.m = G * H;
    part0.n = I;
    part0.k = T_ * N_;
    part0.a = dgates_;
    part0.lda = slots_ * H;
    part0.b = sweep.x.base;
    part0.ldb = sweep.x.row_stride(N_);
    part0.beta = args_.accumulate ? T(1) : T(0);
    part0.c = dw;
    part0.ldc = I;
    Gemm<T> part1 = part0;
    part1.m = 0;
    if (spec_.cell == Cell::kGru) {  // input side: (r, z), then n
        part0.m = 2 * H;
        part0.a = dgates_ + cell::kGruGradR * H;
        part1.m = H;
        part1.a = dgates_ + cell::kGruGradN * H;
        part1.c = dw + cell::kGruN * H * I;
    }
    // Beyond a sequence's end x may hold anything, so it is not read: 0 * NaN would not be 0.
    if (args_.mask.lengths == nullptr && sweep.x.uniform(T_, N_)) {
        run_both(part0, part1, member);
        return;
    }
    gathered_product(
        member, I,
        [&](std::int64_t row) -> const T* {
            const std::int64_t t = row / N_, n = row % N_;
            return sweep.walk.active(t, n) ? sweep.x.row(t, n) : nullptr;
        },
        part0, part1);
}

template <class T>
void BackwardPass<T>::dw_hh(const Member& member, const Sweep& sweep, T* dw) const noexcept {
    const std::int64_t H = spec_.hidden_size, O = spec_.output_size(), ld = slots_ * H;
    const bool reset_before = spec_.cell == Cell::kGruResetBefore;
    Gemm<T> part;
    part.trans_a = true;
    part.m = recurrent_gates(spec_.cell) * H;
    part.n = O;
    part.a = dgates_ + (spec_.cell == Cell::kGru ? cell::kGruGradR * H : 0);
    part.lda = ld;
    part.beta = args_.accumulate ? T(1) : T(0);
    part.c = dw;
    part.ldc = O;
    if (reset_before) {  // the candidate's operand is r*h_prev, which lies at one stride
        Gemm<T> candidate = part;
        candidate.m = H;
        candidate.k = T_ * N_;
        candidate.a = dgates_ + cell::kGruN * H;
        candidate.b = sweep.aux;
        candidate.ldb = H;
        candidate.c = dw + cell::kGruN * H * O;
        gemm_team(candidate, member.tid, member.num_threads);
    }
    const bool reverse = sweep.walk.reverse;
    const bool starts_together = !reverse || args_.mask.lengths == nullptr;
    if (args_.mask.reset != nullptr || !sweep.y.uniform(T_, N_) ||
        (!starts_together && sweep.hx != nullptr)) {
        Gemm<T> none = part;
        none.m = 0;
        gathered_product(
            member, O,
            [&](std::int64_t row) -> const T* {
                const std::int64_t t = row / N_, n = row % N_;
                return sweep.walk.active(t, n) ? sweep.h_prev(t, n, O) : nullptr;
            },
            part, none);
        return;
    }
    // h_prev of step t is y of the step before: the same rows, one step apart.
    const T* dgates = part.a;
    part.a = dgates + (reverse ? 0 : N_ * ld);
    part.b = sweep.y.base + (reverse ? sweep.y.stride_t : 0);
    part.ldb = sweep.y.row_stride(N_);
    part.k = (T_ - 1) * N_;
    gemm_team(part, member.tid, member.num_threads);
    if (sweep.hx == nullptr) return;
    part.a = dgates + (reverse ? (T_ - 1) * N_ * ld : 0);
    part.b = sweep.hx;
    part.ldb = O;
    part.k = N_;
    part.beta = T(1);
    gemm_team(part, member.tid, member.num_threads);
}

template void BackwardPass<float>::weight_grads(const Member&, const PlanStep&) const noexcept;
template void BackwardPass<double>::weight_grads(const Member&, const PlanStep&) const noexcept;

}  // namespace carousel::cpu
