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
    void recurrent_step(const Member& member, const Sweep& sweep, const Piece& piece,
                        std::int64_t s) const noexcept;
    void finish_rows(const Member& member, const Sweep& sweep, const Piece& piece,
                     std::int64_t t) const noexcept;
    void state_out(const Member& member, const PlanStep& step) const noexcept;
    /// True if each step multiplies x_t and h together, instead of a chunk of steps running ahead with
    /// x: with many rows a step, a pass over the pre-activations costs more than reading w_ih each step.
    bool fuses_input() const noexcept { return carousel::fuses_input(spec_, plan_.config, N_); }
    /// True if w_ih is packed panel by panel where it is used: it is used once, by one batch group.
    /// (Vanilla cells walk several panels together, whose grouping is the kernel's own.)
    bool packs_where_used() const noexcept {
        return args_.packed == nullptr && !fuses_input() && spec_.num_gates() > 1 &&
               plan_.config.batch_groups == 1 && T_ <= plan_.config.chunk_steps;
    }
    void copy_ring(const Sweep& sweep, const Piece& piece, std::int64_t s0,
                   std::int64_t s1) const noexcept;
    void copy_requested(const Member& member, std::int64_t layer) const noexcept;
    void dropout(const Member& member, std::int64_t layer) const noexcept;

    const RnnPlan::Impl& plan_;
    const RnnSpec& spec_;
    const RnnForwardArgs& args_;
    const RnnSchedule::Workspace& work_;
    const RnnKernels<T>& kernels_;
    bool training_;
    std::int64_t T_, N_;
    const T* zeros_;
};

}  // namespace carousel::cpu
