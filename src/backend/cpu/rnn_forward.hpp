#pragma once

#include "src/backend/cpu/rnn_context.hpp"

namespace carousel::cpu {

/// One forward pass, shared by the team. Built before the parallel region; owns nothing.
template <class T>
class ForwardPass {
public:
    ForwardPass(const RnnPlan::Impl& plan, const RnnForwardArgs& args, bool training) noexcept;

    /// Runs every step of the plan's list; called by all members.
    void run(const Member& member) const noexcept;

private:
    struct Sweep;  // one (layer, direction)

    Sweep make_sweep(std::int64_t layer, std::int64_t dir) const noexcept;
    Sequence<const T> input_of(std::int64_t layer) const noexcept;
    Sequence<T> output_of(std::int64_t layer) const noexcept;
    StateWeights<T> weights(std::int64_t state) const noexcept;

    void sweep(const Member& member, const PlanStep& step) const noexcept;
    Pieces pieces(const Member& member) const noexcept;
    void input_product(const Member& member, const Sweep& sweep, const Piece& piece,
                       std::int64_t own_panel, std::int64_t s0, std::int64_t s1) const noexcept;
    char* row_list(const Member& member) const noexcept;
    TwoLists list_rows(const Sweep& sweep, const Piece& piece, std::int64_t s,
                       CellForwardRow<T>* rows) const noexcept;
    void recurrent_step(const Member& member, const Sweep& sweep, const Piece& piece,
                        std::int64_t s) const noexcept;
    void project(const Member& member, const Sweep& sweep, const Piece& piece,
                 std::int64_t s) const noexcept;

    // Outputs beside y (rnn_forward_outputs.cpp).
    void finish_rows(const Member& member, const Sweep& sweep, const Piece& piece,
                     std::int64_t t) const noexcept;
    void state_out(const Member& member, const PlanStep& step) const noexcept;
    void copy_ring(const Sweep& sweep, const Piece& piece, std::int64_t s0,
                   std::int64_t s1) const noexcept;
    void copy_requested(const Member& member, std::int64_t layer) const noexcept;
    void dropout(const Member& member, std::int64_t layer) const noexcept;

    /// True if each step multiplies x_t and h together, instead of a chunk of steps running ahead with
    /// x: with many rows a step, a pass over the pre-activations costs more than reading w_ih each step.
    bool fuses_input() const noexcept { return carousel::fuses_input(spec_, plan_.config, N_); }
    /// True if w_ih is packed panel by panel where it is used: it is used once, by one batch group.
    /// (Vanilla cells walk several panels together, whose grouping is the kernel's own.)
    bool packs_where_used() const noexcept {
        return args_.packed == nullptr && !fuses_input() && spec_.num_gates() > 1 &&
               plan_.config.batch_groups == 1 && T_ <= plan_.config.chunk_steps;
    }

    const RnnPlan::Impl& plan_;
    const RnnSpec& spec_;
    const RnnForwardArgs& args_;
    const RnnSchedule::Workspace& work_;
    const RnnKernels<T>& kernels_;
    bool training_;
    std::int64_t T_, N_;
    const T* zeros_;
};

/// Addresses of one (layer, direction).
template <class T>
struct ForwardPass<T>::Sweep {
    Walk walk;
    std::int64_t layer, dir, state;
    StateWeights<T> w;
    Sequence<const T> x;  ///< layer input
    Sequence<T> y;        ///< layer output, this direction's columns
    T *gates, *c, *aux;   ///< [slots,N,*]; slot = t, or s modulo the ring's length
    const T *hx, *cx;     ///< [N,O], [N,H] of this state, or null
    T *hy, *cy;
    std::int64_t ring;  ///< steps that gates, c and aux hold
    bool save;          ///< gates are wanted after the step

    std::int64_t slot(std::int64_t s) const noexcept {
        return ring == walk.T ? walk.step(s) : s % ring;
    }
};

}  // namespace carousel::cpu
