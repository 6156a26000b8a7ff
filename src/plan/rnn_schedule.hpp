#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "carousel/rnn_plan.hpp"
#include "src/plan/packed_layout.hpp"
#include "src/plan/slices.hpp"

namespace carousel {

/// How a CPU plan divides its work. A plain value.
struct RnnConfig {
    Algorithm algorithm = Algorithm::kStepwise;
    int num_threads = 1;
    int batch_groups =
        1;  ///< threads = batch_groups x unit_groups: rows of the batch share no step,
    int unit_groups = 1;  ///< units of a layer meet at one barrier per step
    int lanes = 1;        ///< of the instruction set
    std::int64_t fused_input_rows =
        0;                         ///< batch size from which a step multiplies x_t too (LSTM, GRU)
    std::int64_t chunk_steps = 1;  ///< steps whose input product runs ahead of the recurrence
};

/// One reason why an algorithm was not taken.
struct Rejection {
    Algorithm algorithm;
    std::string reason;
};

enum class StepKind {
    kPackForward,  ///< weights into the kernels' order
    kForwardSweep,  ///< all steps of one (layer, direction): input product in chunks, then step by step
    kStateOut,      ///< hy
    kRequested,  ///< layer outputs, cell states, gates the caller asked for
    kDropout,    ///< output of one layer -> input of the next
    kPackBackward,
    kBackwardSweep,  ///< all steps of one (layer, direction), last first
    kStateGrads,     ///< dhx, dcx
    kWeightGrads,    ///< dw_ih, dw_hh, dw_hr: products over all T*N
    kBiasGrads,      ///< ordered column sums
    kInputGrads,     ///< dx, or dy of the layer below
    kDropoutGrads,
};
const char* step_name(StepKind kind) noexcept;

struct PlanStep {
    StepKind kind;
    std::int64_t layer = 0, dir = 0;
    friend bool operator==(const PlanStep&, const PlanStep&) = default;
};

/// Slices of one (layer, direction) in the reserve or in an inference workspace.
struct StateSlices {
    std::size_t gates = kNoSlice;  ///< [steps,N,slots*H]
    std::size_t c = kNoSlice;      ///< [steps,N,H], LSTM
    std::size_t aux = kNoSlice;    ///< [steps,N,H]: r*h_prev (reset-before), or h before projection
};

/// Everything a run needs to know about its memory.
struct RnnSchedule {
    std::vector<PlanStep> forward_inference, forward_training, backward;

    SliceLayout reserve;
    std::size_t reserve_header = kNoSlice;
    std::vector<StateSlices> saved;          ///< per state, in reserve
    std::vector<std::size_t> saved_y;        ///< per layer but the last, [T,N,D*O], in reserve
    std::vector<std::size_t> saved_dropped;  ///< the same after dropout

    /// One workspace layout per kind of call; a plan asks for the largest.
    struct Workspace {
        SliceLayout slices;
        std::vector<PackedState> packed;
        std::size_t rows = kNoSlice;  ///< row lists, one part per thread
        std::size_t rows_bytes_per_thread = 0;
        std::size_t zeros = kNoSlice;              ///< a row of zeros
        std::size_t y[2] = {kNoSlice, kNoSlice};   ///< forward_inference: outputs of layers in turn
        StateSlices ring;                          ///< forward_inference: chunk_steps steps
        std::size_t dgates = kNoSlice;             ///< backward: [T,N,grad slots*H]
        std::size_t dy[2] = {kNoSlice, kNoSlice};  ///< backward: dy of layers in turn
        std::size_t dh = kNoSlice;                 ///< backward with projection: [T,N,P]
        std::size_t dc = kNoSlice, carry = kNoSlice;  ///< backward: [N,H]
        /// backward, weight gradients: a block of rows of each operand as panels, and one thread's
        /// block of transposed gate gradients.
        std::size_t operands = kNoSlice, transposed = kNoSlice;
        std::int64_t product_rows = 0;
        std::size_t norms = kNoSlice;  ///< backward: [T,threads] f64
    };
    Workspace inference, training, grads;
};

/// Gate rows that one thread transposes at a time for weight gradients: with kProductRows steps, a
/// fifth of an L2 cache of 1 MiB.
inline constexpr std::int64_t kProductColumns = 96;
/// Elements from one of these columns to the next: an odd number of lines, so that columns do not meet
/// in the same sets of a cache.
constexpr std::int64_t product_stride(std::int64_t product_rows) noexcept {
    constexpr std::int64_t kLine = 16;
    return ((product_rows + kLine - 1) / kLine | 1) * kLine;
}

/// Rows that a packed panel of these products has room for: an odd number, since at a power of two the
/// same lines of all panels would compete for the same few places of a cache.
constexpr std::int64_t panel_rows(std::int64_t product_rows) noexcept { return product_rows | 1; }

/// Slots of H values that one row of saved gates / of gate gradients has.
std::int64_t gate_slots(Cell cell) noexcept;
std::int64_t grad_slots(Cell cell) noexcept;

/// True if a step of `batch_size` rows multiplies x_t beside h instead of a chunk running ahead with x.
bool fuses_input(const RnnSpec& spec, const RnnConfig& config, std::int64_t batch_size) noexcept;

/// No product of sizes in a layout may leave 64 bits: InvalidArgument if the widest slice, counted in
/// floating point, comes near.
void check_countable(const RnnSpec& spec, const RnnPlanOptions& options);

/// Chooses threads and grain. Pure: cores and lanes are given.
RnnConfig choose_config(const RnnSpec& spec, const RnnPlanOptions& options, int max_threads,
                        int lanes);

/// Lays out steps and memory. Pure.
RnnSchedule build_schedule(const RnnSpec& spec, const RnnPlanOptions& options,
                           const RnnConfig& config);

/// The plan as text, for people and tests.
std::string describe(const RnnSpec& spec, const RnnPlanOptions& options, const RnnConfig& config,
                     const std::vector<Rejection>& rejections, const RnnSchedule& schedule,
                     const char* isa);

}  // namespace carousel
