#include "src/plan/cuda_schedule.hpp"

#include <algorithm>
#include <bit>
#include <initializer_list>

#include "carousel/error.hpp"
#include "kernels/cuda/rnn_args.hpp"
#include "src/util/dtypes.hpp"

namespace carousel {

namespace {

// Parts of an array start at multiples of 256 bytes: what vector loads, bulk copies and the fast
// kernels of cuBLAS ask for.
constexpr std::int64_t kPartBytes = 256;

StateArray add_array(SliceLayout& slices, const char* name, std::int64_t parts, std::int64_t count,
                     DType dtype) {
    StateArray array;
    if (parts == 0 || count == 0) return array;
    const auto element = static_cast<std::int64_t>(dtype_bytes(dtype));
    const std::int64_t align = kPartBytes / element;
    array.stride = (count + align - 1) / align * align;
    array.slice = slices.add(name, parts * array.stride, static_cast<std::size_t>(element));
    return array;
}

/// A product of a step fills the device by itself if it has a tile for every multiprocessor; then
/// steps of several states side by side gain nothing. Tiles of 64 rows x 128 columns are what
/// cuBLAS takes for such shapes.
bool step_fills_device(const RnnSpec& spec, std::int64_t batch_size, const cuda::DeviceCaps& caps) {
    const std::int64_t columns = spec.num_gates() * spec.hidden_size;
    const std::int64_t tiles = ((batch_size + 63) / 64) * ((columns + 127) / 128);
    return tiles >= caps.num_sms;
}

std::string wavefront_refusal(const RnnSpec& spec, const RnnPlanOptions& options,
                              const cuda::DeviceCaps& caps, bool asked) {
    if (spec.num_states() == 1) return "one layer in one direction has nothing to overlap";
    if (asked) return "";
    if (step_fills_device(spec, options.batch_size, caps)) {
        return "one step of one layer already fills the device's " + std::to_string(caps.num_sms) +
               " multiprocessors";
    }
    return "";
}

void choose_chunks(const RnnSpec& spec, const RnnPlanOptions& options, CudaRnnConfig& config) {
    const std::int64_t T = options.seq_len, N = options.batch_size;
    // Inference keeps x W_ih^T of no more steps than 64 MB of it; training keeps all of them, in the
    // memory of the gates.
    constexpr std::int64_t kInputBytes = std::int64_t{64} << 20;
    const std::int64_t step_bytes = N * spec.num_gates() * spec.hidden_size *
                                    static_cast<std::int64_t>(dtype_bytes(spec.dtype)) *
                                    config.num_slots(spec);
    config.ring_steps = std::clamp<std::int64_t>(kInputBytes / step_bytes, 1, T);
    constexpr std::int64_t kNormBytes = std::int64_t{4} << 20;
    const std::int64_t norm_bytes =
        cuda::max_norm_blocks(spec.output_size()) * static_cast<std::int64_t>(sizeof(double));
    config.norm_steps = std::clamp<std::int64_t>(kNormBytes / norm_bytes, 1, T);
    if (!config.fronts_of_layers) return;
    // Between layers: enough rows for a product that uses its weights, few enough that the layers
    // are not far apart. The ring holds whole chunks: one being read and one being written.
    constexpr std::int64_t kChunkRows = 256, kMaxChunk = 16;
    config.chunk_steps = std::clamp<std::int64_t>(kChunkRows / N, 1, std::min(T, kMaxChunk));
    config.lag = 2 * config.chunk_steps;
    config.ring_steps = std::max<std::int64_t>(config.ring_steps / config.lag, 1) * config.lag;
}

}  // namespace

CudaRnnConfig choose_cuda_config(const RnnSpec& spec, const RnnPlanOptions& options,
                                 const cuda::DeviceCaps& caps, std::size_t gemm_workspace_bytes,
                                 std::vector<Rejection>& rejections) {
    check_countable(spec, options);
    const Algorithm asked = options.algorithm;
    const auto refuse = [&](Algorithm algorithm, const std::string& reason) {
        if (asked == algorithm) {
            throw Error(ErrorCode::kUnsupported,
                        std::string("algorithm ") + algorithm_name(algorithm) +
                            " cannot run this plan: " + reason + "; use auto");
        }
        rejections.push_back({algorithm, reason});
    };
    refuse(Algorithm::kCluster, "this release has no kernel for it yet");
    refuse(Algorithm::kGrid, "this release has no kernel for it yet");
    CudaRnnConfig config;
    config.gemm_workspace_bytes = gemm_workspace_bytes;
    const bool wants_wavefront = asked == Algorithm::kAuto || asked == Algorithm::kWavefront;
    const std::string reason =
        asked == Algorithm::kStepwise
            ? "stepwise was asked for"
            : wavefront_refusal(spec, options, caps, asked == Algorithm::kWavefront);
    if (!reason.empty()) {
        refuse(Algorithm::kWavefront, reason);
    } else if (wants_wavefront) {
        config.algorithm = Algorithm::kWavefront;
        config.fronts_of_directions = spec.bidirectional;
        config.fronts_of_layers = !spec.bidirectional;
    } else {
        throw Error(ErrorCode::kInvalidArgument, "algorithm is " +
                                                     std::to_string(static_cast<int>(asked)) +
                                                     "; expected one of the Algorithm enumerators");
    }
    const bool two_branches = config.algorithm == Algorithm::kStepwise && spec.bidirectional;
    config.num_queues = config.fronts_of_layers || two_branches ? 2 : 1;
    choose_chunks(spec, options, config);
    return config;
}

void add_cuda_weights(const RnnSpec& spec, SliceLayout& slices, CudaWeightLayout& layout) {
    const std::int64_t S = spec.num_states(), rows = spec.num_gates() * spec.hidden_size;
    const std::int64_t widest =
        spec.num_layers > 1 ? std::max(spec.input_size, spec.layer_input_size(1)) : spec.input_size;
    layout.w_ih = add_array(slices, "w_ih", S, rows * widest, spec.dtype);
    layout.w_hh = add_array(slices, "w_hh", S, rows * spec.output_size(), spec.dtype);
    layout.w_hr = add_array(slices, "w_hr", S, spec.proj_size * spec.hidden_size, spec.dtype);
    if (spec.bias != BiasMode::kNone) layout.b_ih = add_array(slices, "b_ih", S, rows, spec.dtype);
    if (spec.bias == BiasMode::kDouble)
        layout.b_hh = add_array(slices, "b_hh", S, rows, spec.dtype);
}

namespace {

struct Sizes {
    Sizes(const RnnSpec& spec_, const RnnPlanOptions& options, const CudaRnnConfig& config)
        : spec(spec_),
          T(options.seq_len),
          N(options.batch_size),
          H(spec_.hidden_size),
          O(spec_.output_size()),
          S(spec_.num_states()),
          wide(spec_.num_directions() * spec_.output_size()),
          slots(config.num_slots(spec_)),
          rows(T * N),
          accumulator(accumulator_dtype(spec_.dtype)) {}
    const RnnSpec& spec;
    std::int64_t T, N, H, O, S, wide, slots, rows;
    DType accumulator;
    bool lstm() const { return cell_has_c(spec.cell); }
    bool reset_before() const { return spec.cell == Cell::kGruResetBefore; }
    bool has_aux() const { return reset_before() || spec.proj_size > 0; }
};

void add_forward_scratch(const Sizes& s, const CudaRnnConfig& config,
                         CudaRnnSchedule::Workspace& work) {
    for (int queue = 0; queue < config.num_queues; ++queue) {
        work.gemm.push_back(work.slices.add("products, queue " + std::to_string(queue),
                                            static_cast<std::int64_t>(config.gemm_workspace_bytes),
                                            1));
    }
    if (config.algorithm == Algorithm::kWavefront)
        add_cuda_weights(s.spec, work.slices, work.weights);
    const std::int64_t gates = s.reset_before() ? 2 : s.spec.num_gates();
    work.h_preact = add_array(work.slices, "h W_hh^T", s.slots, s.N * gates * s.H, s.accumulator);
    if (s.reset_before()) {
        work.h_preact_n = add_array(work.slices, "(r*h) W_hn^T", s.slots, s.N * s.H, s.accumulator);
    }
    work.projected =
        add_array(work.slices, "h W_hr^T", s.slots, s.N * s.spec.proj_size, s.accumulator);
}

void lay_out_inference(const Sizes& s, const CudaRnnConfig& config,
                       CudaRnnSchedule::Workspace& work) {
    add_forward_scratch(s, config, work);
    const DType dtype = s.spec.dtype;
    work.x_preact = add_array(work.slices, "x W_ih^T", s.slots,
                              config.ring_steps * s.N * s.spec.num_gates() * s.H, dtype);
    if (s.lstm()) work.c = add_array(work.slices, "c", s.slots, s.N * s.H, s.accumulator);
    work.h_in = add_array(work.slices, "h", s.slots, 2 * s.N * s.O, dtype);
    if (s.has_aux())
        work.aux = add_array(work.slices, "h before projection, or r*h", s.slots, s.N * s.H, dtype);
    const std::int64_t between = s.spec.num_layers - 1;
    const std::int64_t outputs =
        config.fronts_of_layers ? between : std::min<std::int64_t>(between, 2);
    work.y = add_array(work.slices, "layer outputs", outputs, s.rows * s.wide, dtype);
}

void lay_out_reserve(const Sizes& s, CudaRnnSchedule& schedule) {
    SliceLayout& reserve = schedule.reserve;
    const DType dtype = s.spec.dtype;
    schedule.gates =
        add_array(reserve, "gates", s.S, s.rows * gate_slots(s.spec.cell) * s.H, dtype);
    if (s.lstm()) schedule.c = add_array(reserve, "c", s.S, s.rows * s.H, s.accumulator);
    schedule.h_in = add_array(reserve, "h read by each step", s.S, s.rows * s.O, dtype);
    if (s.has_aux())
        schedule.aux = add_array(reserve, "h before projection, or r*h", s.S, s.rows * s.H, dtype);
    schedule.y = add_array(reserve, "layer outputs", s.spec.num_layers - 1, s.rows * s.wide, dtype);
    // Last: it is no multiple of kPartBytes, and what followed it would not start at one.
    schedule.key = reserve.add("dropout key, stamp", 3, sizeof(std::uint64_t));
}

/// FNV-1a, by words.
std::uint64_t mixed(std::uint64_t hash, std::initializer_list<std::int64_t> words) {
    for (const std::int64_t word : words) {
        for (int byte = 0; byte < 8; ++byte) {
            hash ^= (static_cast<std::uint64_t>(word) >> (8 * byte)) & 0xff;
            hash *= 1099511628211ULL;
        }
    }
    return hash;
}

/// All that the meaning of a reserve's bytes depends on, the sizes of the run aside.
std::uint64_t stamp_seed(const RnnSpec& spec, const RnnPlanOptions& options) {
    return mixed(14695981039346656037ULL,
                 {static_cast<std::int64_t>(spec.cell), static_cast<std::int64_t>(spec.dtype),
                  spec.input_size, spec.hidden_size, spec.proj_size, spec.num_layers,
                  spec.num_directions(), static_cast<std::int64_t>(spec.bias),
                  std::bit_cast<std::int64_t>(spec.dropout), options.seq_len, options.batch_size});
}

void lay_out_grads(const Sizes& s, const CudaRnnConfig& config, CudaRnnSchedule& schedule) {
    CudaRnnSchedule::Workspace& work = schedule.grads;
    SliceLayout& slices = work.slices;
    const DType dtype = s.spec.dtype, sum = s.accumulator;
    for (int queue = 0; queue < config.num_queues; ++queue) {
        work.gemm.push_back(slices.add("products, queue " + std::to_string(queue),
                                       static_cast<std::int64_t>(config.gemm_workspace_bytes), 1));
    }
    if (config.algorithm == Algorithm::kWavefront) add_cuda_weights(s.spec, slices, work.weights);
    const std::int64_t grads = grad_slots(s.spec.cell) * s.H, between = s.spec.num_layers - 1;
    work.dgates = add_array(slices, "gate gradients", s.slots, s.rows * grads, dtype);
    const std::int64_t outputs =
        config.fronts_of_layers ? between : std::min<std::int64_t>(between, 2);
    work.dy = add_array(slices, "gradients of layer outputs", outputs, s.rows * s.wide, dtype);
    work.dh_state = add_array(slices, "dh", s.slots, s.N * s.O, sum);
    if (s.lstm()) work.dc = add_array(slices, "dc", s.slots, s.N * s.H, sum);
    if (s.spec.proj_size > 0) {
        work.dh = add_array(slices, "dh before projection", s.slots, s.N * s.H, sum);
        work.dp = add_array(slices, "dh after projection", s.slots, s.rows * s.O, dtype);
    }
    if (s.reset_before()) work.drh = add_array(slices, "d(r*h)", s.slots, s.N * s.H, sum);
    work.db_partials =
        add_array(slices, "sums of gate gradients", s.slots, cuda::kMaxRowBlocks * grads, sum);
    work.norm_partials = add_array(slices, "sums of dh^2", s.slots,
                                   config.norm_steps * cuda::max_norm_blocks(s.O), sum);
    // Rows of x are copied where padding must not be read, a bounded number of steps at a time.
    constexpr std::int64_t kCopyBytes = std::int64_t{64} << 20;
    const std::int64_t step_bytes =
        s.N * s.spec.input_size * static_cast<std::int64_t>(dtype_bytes(dtype));
    work.x_rows_steps = std::clamp<std::int64_t>(kCopyBytes / step_bytes, 1, s.T);
    work.x_rows = add_array(slices, "valid rows of x", config.num_queues,
                            work.x_rows_steps * s.N * s.spec.input_size, dtype);
}

}  // namespace

std::uint64_t CudaRnnSchedule::pass_stamp(std::int64_t seq_len,
                                          std::int64_t batch_size) const noexcept {
    return mixed(stamp_seed, {seq_len, batch_size}) | 1U;  // fresh memory is often zero
}

CudaRnnSchedule build_cuda_schedule(const RnnSpec& spec, const RnnPlanOptions& options,
                                    const CudaRnnConfig& config) {
    CudaRnnSchedule schedule;
    const Sizes sizes(spec, options, config);
    lay_out_inference(sizes, config, schedule.inference);
    if (options.training) {
        schedule.stamp_seed = stamp_seed(spec, options);
        add_forward_scratch(sizes, config, schedule.training);
        lay_out_reserve(sizes, schedule);
        lay_out_grads(sizes, config, schedule);
    }
    return schedule;
}

}  // namespace carousel
