#include "src/plan/rnn_schedule.hpp"

#include <algorithm>
#include <limits>

#include "carousel/error.hpp"

#include "kernels/cell/gates.hpp"
#include "kernels/rnn_args.hpp"

namespace carousel {

const char* algorithm_name(Algorithm algorithm) noexcept {
    switch (algorithm) {
        case Algorithm::kAuto:
            return "auto";
        case Algorithm::kCluster:
            return "cluster";
        case Algorithm::kGrid:
            return "grid";
        case Algorithm::kWavefront:
            return "wavefront";
        case Algorithm::kStepwise:
            return "stepwise";
    }
    return "?";
}

std::int64_t gate_slots(Cell cell) noexcept {
    return cell == Cell::kGru ? cell::kGruHn + 1 : cell_num_gates(cell);
}
std::int64_t grad_slots(Cell cell) noexcept {
    return cell == Cell::kGru ? cell::kGruGradSlots : cell_num_gates(cell);
}

namespace {

std::vector<PlanStep> forward_steps(const RnnSpec& spec, bool training) {
    std::vector<PlanStep> steps;
    const std::int64_t L = spec.num_layers, D = spec.num_directions();
    for (std::int64_t layer = 0; layer < L; ++layer) {
        for (std::int64_t dir = 0; dir < D; ++dir)
            steps.push_back({StepKind::kPackForward, layer, dir});
    }
    for (std::int64_t layer = 0; layer < L; ++layer) {
        for (std::int64_t dir = 0; dir < D; ++dir) {
            steps.push_back({StepKind::kForwardSweep, layer, dir});
            steps.push_back({StepKind::kStateOut, layer, dir});
        }
        steps.push_back({StepKind::kRequested, layer, 0});
        if (training && spec.dropout > 0 && layer + 1 < L)
            steps.push_back({StepKind::kDropout, layer, 0});
    }
    return steps;
}

std::vector<PlanStep> backward_steps(const RnnSpec& spec) {
    std::vector<PlanStep> steps;
    const std::int64_t L = spec.num_layers, D = spec.num_directions();
    for (std::int64_t layer = 0; layer < L; ++layer) {
        for (std::int64_t dir = 0; dir < D; ++dir)
            steps.push_back({StepKind::kPackBackward, layer, dir});
    }
    for (std::int64_t layer = L - 1; layer >= 0; --layer) {
        for (std::int64_t dir = 0; dir < D; ++dir) {
            steps.push_back({StepKind::kBackwardSweep, layer, dir});
            steps.push_back({StepKind::kStateGrads, layer, dir});
            steps.push_back({StepKind::kWeightGrads, layer, dir});
            steps.push_back({StepKind::kBiasGrads, layer, dir});
            steps.push_back({StepKind::kInputGrads, layer, dir});
        }
        if (spec.dropout > 0 && layer > 0) steps.push_back({StepKind::kDropoutGrads, layer - 1, 0});
    }
    return steps;
}

StateSlices add_state(const RnnSpec& spec, std::int64_t rows, const std::string& tag,
                      SliceLayout& slices) {
    const std::size_t element = dtype_bytes(spec.dtype);
    StateSlices state;
    state.gates =
        slices.add("gates" + tag, rows * gate_slots(spec.cell) * spec.hidden_size, element);
    if (cell_has_c(spec.cell)) state.c = slices.add("c" + tag, rows * spec.hidden_size, element);
    if (spec.proj_size > 0)
        state.aux = slices.add("h before projection" + tag, rows * spec.hidden_size, element);
    if (spec.cell == Cell::kGruResetBefore)
        state.aux = slices.add("r*h" + tag, rows * spec.hidden_size, element);
    return state;
}

/// What every kind of call needs: row lists and a row of zeros long enough for any operand.
void add_common(const RnnSpec& spec, const RnnPlanOptions& options, const RnnConfig& config,
                RnnSchedule::Workspace& work) {
    // At least what the blocks of the weight gradients list.
    constexpr std::int64_t kShortest = 512;
    const std::int64_t list =
        std::max({options.batch_size, config.chunk_steps * options.batch_size, kShortest});
    work.rows_bytes_per_thread =
        (static_cast<std::size_t>(list) *
             std::max({sizeof(MatmulRow<float>), sizeof(CellForwardRow<float>),
                       sizeof(CellBackwardRow<float>)}) +
         63) /
        64 * 64;
    work.rows = work.slices.add(
        "row lists", static_cast<std::int64_t>(work.rows_bytes_per_thread) * config.num_threads, 1);
    const std::int64_t longest =
        std::max({grad_slots(spec.cell) * spec.hidden_size, spec.input_size,
                  spec.num_directions() * spec.output_size()});
    work.zeros = work.slices.add("zeros", longest + 2 * config.lanes, dtype_bytes(spec.dtype));
}

void lay_out_inference(const RnnSpec& spec, const RnnPlanOptions& options, const RnnConfig& config,
                       RnnSchedule& schedule) {
    const std::size_t element = dtype_bytes(spec.dtype);
    const std::int64_t rows = options.seq_len * options.batch_size,
                       wide = spec.num_directions() * spec.output_size();
    RnnSchedule::Workspace& work = schedule.inference;
    add_common(spec, options, config, work);
    work.packed = add_packed_weights(spec, config.lanes, {.forward = true}, work.slices);
    work.ring = add_state(spec, config.chunk_steps * options.batch_size, " ring", work.slices);
    for (std::size_t i = 0; i < 2; ++i) {
        if (spec.num_layers > static_cast<std::int64_t>(i) + 1) {
            work.y[i] = work.slices.add("layer output " + std::to_string(i), rows * wide, element);
        }
    }
}

void lay_out_training(const RnnSpec& spec, const RnnPlanOptions& options, const RnnConfig& config,
                      RnnSchedule& schedule) {
    const std::size_t element = dtype_bytes(spec.dtype);
    const std::int64_t rows = options.seq_len * options.batch_size,
                       wide = spec.num_directions() * spec.output_size();
    add_common(spec, options, config, schedule.training);
    schedule.training.packed =
        add_packed_weights(spec, config.lanes, {.forward = true}, schedule.training.slices);

    schedule.reserve_header = schedule.reserve.add("header", 1, 64);
    for (std::int64_t state = 0; state < spec.num_states(); ++state) {
        const std::string tag = " l" + std::to_string(state / spec.num_directions()) +
                                (state % spec.num_directions() == 1 ? ".reverse" : "");
        schedule.saved.push_back(add_state(spec, rows, tag, schedule.reserve));
    }
    for (std::int64_t layer = 0; layer + 1 < spec.num_layers; ++layer) {
        const std::string tag = " l" + std::to_string(layer);
        schedule.saved_y.push_back(schedule.reserve.add("y" + tag, rows * wide, element));
        schedule.saved_dropped.push_back(
            spec.dropout > 0 ? schedule.reserve.add("y after dropout" + tag, rows * wide, element)
                             : kNoSlice);
    }
}

void lay_out_grads(const RnnSpec& spec, const RnnPlanOptions& options, const RnnConfig& config,
                   RnnSchedule& schedule) {
    const std::size_t element = dtype_bytes(spec.dtype);
    const std::int64_t rows = options.seq_len * options.batch_size,
                       wide = spec.num_directions() * spec.output_size();
    RnnSchedule::Workspace& work = schedule.grads;
    add_common(spec, options, config, work);
    work.packed =
        add_packed_weights(spec, config.lanes, {.forward = false, .backward = true}, work.slices);
    work.dgates =
        work.slices.add("dgates", rows * grad_slots(spec.cell) * spec.hidden_size, element);
    for (std::size_t i = 0; i < 2; ++i) {
        if (spec.num_layers > static_cast<std::int64_t>(i) + 1) {
            work.dy[i] =
                work.slices.add("layer output gradient " + std::to_string(i), rows * wide, element);
        }
    }
    if (spec.proj_size > 0) work.dh = work.slices.add("dh", rows * spec.proj_size, element);
    if (cell_has_c(spec.cell))
        work.dc = work.slices.add("dc", options.batch_size * spec.hidden_size, element);
    if (spec.cell == Cell::kGru || spec.cell == Cell::kGruResetBefore) {
        work.carry = work.slices.add("carry", options.batch_size * spec.hidden_size, element);
    }
    // Long enough that reading and writing the gradients once a block is little, short enough for L2.
    constexpr std::int64_t kProductRows = 1024;
    const auto padded = [&](std::int64_t size) {
        return (size + config.lanes - 1) / config.lanes * config.lanes;
    };
    const std::int64_t blocks = (rows + kProductRows - 1) / kProductRows;
    work.product_rows = (rows + blocks - 1) / blocks;
    work.operands = work.slices.add(
        "operands of weight gradients",
        panel_rows(work.product_rows) * (padded(std::max(spec.input_size, wide)) +
                                         padded(spec.output_size()) + padded(spec.hidden_size)),
        element);
    work.transposed = work.slices.add(
        "transposed gate gradients",
        product_stride(work.product_rows) * kProductColumns * config.num_threads, element);
    work.norms = work.slices.add("norms", options.seq_len * config.num_threads, sizeof(double));
}

}  // namespace

void check_countable(const RnnSpec& spec, const RnnPlanOptions& options) {
    const double widest =
        static_cast<double>(spec.input_size) +
        6.0 * static_cast<double>(spec.hidden_size) * static_cast<double>(spec.num_directions());
    const double bytes = static_cast<double>(options.seq_len) *
                         static_cast<double>(options.batch_size) * widest * 8.0 *
                         static_cast<double>(spec.num_layers);
    if (bytes < 0.25 * static_cast<double>(std::numeric_limits<std::int64_t>::max())) return;
    throw Error(ErrorCode::kInvalidArgument,
                "seq_len " + std::to_string(options.seq_len) + " x batch_size " +
                    std::to_string(options.batch_size) + " of " + to_string(spec) +
                    " leaves 64-bit sizes; plan a shorter sequence or a smaller batch");
}

bool fuses_input(const RnnSpec& spec, const RnnConfig& config, std::int64_t batch_size) noexcept {
    const bool gates_share_a_product = spec.cell == Cell::kLstm || spec.cell == Cell::kGru;
    return gates_share_a_product && batch_size >= config.fused_input_rows;
}

RnnConfig choose_config(const RnnSpec& spec, const RnnPlanOptions& options, int max_threads,
                        int lanes) {
    RnnConfig config;
    config.lanes = lanes;
    const std::int64_t H = spec.hidden_size, N = options.batch_size;
    const std::int64_t vectors = (H + lanes - 1) / lanes;
    int threads = options.num_threads > 0 ? options.num_threads : max_threads;
    if (options.num_threads == 0 && options.pool == nullptr) {
        // One thread more for each 3e4 FLOP of a step: that is a fraction of a microsecond on one core,
        // about what a barrier costs (0.1 us, and more where cores are far apart).
        const double step_flop = 2.0 * static_cast<double>(spec.num_gates() * H) *
                                 static_cast<double>(spec.output_size()) * static_cast<double>(N);
        threads = static_cast<int>(std::clamp(step_flop / 3e4, 1.0, static_cast<double>(threads)));
    }
    config.num_threads = threads;
    // Rows of the batch never wait for each other, so splitting them needs no barrier and no value of
    // another core; but every thread then reads all weights. Split rows where the fewer that each thread
    // keeps still make up for that; elsewhere split units, so that each thread reads its own part.
    const std::int64_t weight_bytes = spec.num_gates() * H * spec.output_size() *
                                      static_cast<std::int64_t>(dtype_bytes(spec.dtype));
    const auto splits_rows = [&](std::int64_t rows) {
        constexpr std::int64_t kFewestRows = 6, kManyRows = 16;
        constexpr std::int64_t kKilobyte = 1024, kMostBytes = 4096 * kKilobyte;
        const std::int64_t bytes_per_row = (rows < kManyRows ? 48 : 128) * kKilobyte;
        return rows >= kFewestRows && weight_bytes <= std::min(kMostBytes, rows * bytes_per_row);
    };
    int batch_groups = 1;
    for (int groups = threads; groups > 1; --groups) {
        if (threads % groups == 0 && splits_rows(N / groups)) {
            batch_groups = groups;
            break;
        }
    }
    // More threads than vectors of units: the rest can only take rows.
    while (threads / batch_groups > vectors && batch_groups < threads) {
        ++batch_groups;
        while (threads % batch_groups != 0) ++batch_groups;
    }
    config.batch_groups = batch_groups;
    config.unit_groups = threads / batch_groups;
    // A step may multiply x_t beside h. It then reads w_ih as often as w_hh, which pays with enough rows,
    // and where two panels of each (this one, and the next on its way) share a core's L2.
    constexpr std::int64_t kPanelBytes = 768 * 1024;
    const std::int64_t widest_input =
        spec.num_layers > 1 ? std::max(spec.input_size, spec.layer_input_size(1)) : spec.input_size;
    const std::int64_t panel_bytes = (widest_input + spec.output_size()) * spec.num_gates() *
                                     lanes * static_cast<std::int64_t>(dtype_bytes(spec.dtype));
    config.fused_input_rows = 2 * panel_bytes <= kPanelBytes
                                  ? std::max<std::int64_t>(16, 8 * batch_groups)
                                  : std::numeric_limits<std::int64_t>::max();
    // Else the input product runs a chunk of steps ahead: enough rows to use the weights well, few enough
    // that its result is still in cache when the recurrence reads it.
    // A sequence that is little longer goes in one piece: plain weights are then packed panel by panel.
    constexpr std::int64_t kChunkRows = 384;
    if (options.seq_len <= 2 * kChunkRows / std::max<std::int64_t>(N, 1)) {
        config.chunk_steps = options.seq_len;
        return config;
    }
    config.chunk_steps =
        std::clamp<std::int64_t>(kChunkRows / std::max<std::int64_t>(N, 1), 1, options.seq_len);
    return config;
}

RnnSchedule build_schedule(const RnnSpec& spec, const RnnPlanOptions& options,
                           const RnnConfig& config) {
    check_countable(spec, options);
    RnnSchedule schedule;
    schedule.forward_inference = forward_steps(spec, false);
    lay_out_inference(spec, options, config, schedule);
    if (options.training) {
        schedule.forward_training = forward_steps(spec, true);
        schedule.backward = backward_steps(spec);
        lay_out_training(spec, options, config, schedule);
        lay_out_grads(spec, options, config, schedule);
    }
    return schedule;
}

}  // namespace carousel
