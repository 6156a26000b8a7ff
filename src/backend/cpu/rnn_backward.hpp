#pragma once

#include "kernels/cell/gates.hpp"
#include "src/backend/cpu/rnn_context.hpp"

namespace carousel::cpu {

/// Where the recurrent side's gate gradients begin in a row, in units of H.
constexpr std::int64_t recurrent_offset(Cell cell) noexcept {
    return cell == Cell::kGru ? cell::kGruGradR : 0;
}

/// One backward pass, shared by the team. Built before the parallel region; owns nothing.
template <class T>
class BackwardPass {
public:
    BackwardPass(const RnnPlan::Impl& plan, const RnnBackwardArgs& args) noexcept;

    /// Runs every step of the plan's list; called by all members.
    void run(const Member& member) const noexcept;

private:
    struct Sweep;  // one (layer, direction)

    Sweep make_sweep(std::int64_t layer, std::int64_t dir) const noexcept;
    StateWeights<T> weights(std::int64_t state) const noexcept;
    char* row_list(const Member& member) const noexcept;
    T* work_or_null(std::size_t slice) const noexcept;

    void sweep(const Member& member, const PlanStep& step) const noexcept;
    void begin_rows(const Member& member, const Sweep& sweep, const Piece& piece,
                    std::int64_t t) const noexcept;
    void projected_dh(const Member& member, const Sweep& sweep, std::int64_t t) const noexcept;
    TwoLists list_rows(const Sweep& sweep, const Piece& piece, std::int64_t t,
                       CellBackwardRow<T>* rows) const noexcept;
    void recurrent_step(const Member& member, const Sweep& sweep, const Piece& piece,
                        std::int64_t t) const noexcept;
    void reset_gate_step(CellBackwardArgs<T>& args, const TwoLists& lists, const Sweep& sweep,
                         CellBackwardRow<T>* rows) const noexcept;

    // After a sweep (rnn_backward_grads.cpp).
    void norms(const Member& member, const Sweep& sweep) const noexcept;
    void state_grads(const Member& member, const PlanStep& step) const noexcept;
    void bias_grads(const Member& member, const PlanStep& step) const noexcept;
    void input_grads(const Member& member, const PlanStep& step) const noexcept;
    Sequence<T> input_grads_of(std::int64_t layer) const noexcept;
    void dropout_grads(const Member& member, std::int64_t layer) const noexcept;

    // Weight gradients (rnn_weight_grads.cpp).
    struct WeightProducts;
    void weight_grads(const Member& member, const PlanStep& step) const noexcept;
    template <class RowAt>
    void run_products(const Member& member, WeightProducts& products,
                      const RowAt& row_at) const noexcept;
    void multiply_block(const Member& member, const WeightProducts& products, Span gate_rows,
                        std::int64_t count, bool first) const noexcept;

    /// True if so few rows meet w_ih^T that a pass over memory for packing it would show; they must
    /// fit one row list. Columns are then split instead of rows.
    bool few_rows() const noexcept {
        constexpr std::int64_t kRows = 256;
        return T_ * N_ < kRows && static_cast<std::size_t>(T_ * N_) * sizeof(MatmulRow<T>) <=
                                      work_.rows_bytes_per_thread;
    }
    bool wants_input_grads(std::int64_t layer) const noexcept {
        return layer > 0 || args_.dx.defined();
    }

    const RnnPlan::Impl& plan_;
    const RnnSpec& spec_;
    const RnnBackwardArgs& args_;
    const RnnSchedule::Workspace& work_;
    const RnnKernels<T>& kernels_;
    ReserveHeader header_;
    std::int64_t T_, N_, slots_, width_;  ///< width_ = D*O
    const T* zeros_;
    T* dgates_;
};

/// Addresses of one (layer, direction).
template <class T>
struct BackwardPass<T>::Sweep {
    Walk walk;
    std::int64_t layer, dir, state;
    StateWeights<T> w;
    Sequence<const T> x;   ///< layer input
    Sequence<const T> y;   ///< layer output, this direction's columns
    Sequence<const T> dy;  ///< of the layer output, this direction's columns; may be undefined
    const T *gates, *c, *aux;
    const T *hx, *cx, *dhy, *dcy;
    T *dhx, *dcx;
    double* sum_squares;  ///< [T,threads] or null

    /// h before step t, or null where it is zero; [O].
    const T* h_prev(std::int64_t t, std::int64_t n, std::int64_t O) const noexcept {
        if (walk.cut_before(t, n)) return nullptr;
        if (t == walk.first(n)) return offset_or_null(hx, n * O);
        return y.row(walk.previous(t), n);
    }
};

}  // namespace carousel::cpu
