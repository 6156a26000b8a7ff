#include "src/plan/cuda_order.hpp"

#include <array>
#include <map>
#include <utility>

namespace carousel {

const char* cuda_array_name(CudaArray array) noexcept {
    static constexpr const char* kNames[] = {"x",
                                             "hx",
                                             "cx",
                                             "y",
                                             "hy",
                                             "cy",
                                             "dy",
                                             "dx",
                                             "dhx",
                                             "dcx",
                                             "dw",
                                             "db",
                                             "dh_norms",
                                             "dropout key",
                                             "weights",
                                             "x W_ih^T",
                                             "h W_hh^T",
                                             "(r*h) W_hn^T",
                                             "h W_hr^T",
                                             "c",
                                             "h",
                                             "aux",
                                             "layer output",
                                             "gate gradients",
                                             "layer dy",
                                             "dh",
                                             "dc",
                                             "dh before projection",
                                             "d(r*h)",
                                             "dp",
                                             "sums of gate gradients",
                                             "sums of dh^2",
                                             "valid rows of x",
                                             "workspace of products"};
    return kNames[static_cast<std::size_t>(array)];
}

namespace {

/// Appends the accesses of one step, one state of its front after the other.
class Accesses {
public:
    Accesses(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len, bool training,
             const CudaStep& step, std::vector<CudaAccess>& out)
        : spec_(spec), config_(config), T_(seq_len), training_(training), step_(step), out_(out) {}

    void append() {
        for (std::int64_t i = 0; i < step_.num_states; ++i) {
            state_ = step_.first_state + i;
            walk_ = step_.walk - i * step_.lag;
            layer_ = state_ / spec_.num_directions();
            slot_ = config_.slot(spec_, state_);
            forward_step();
            backward_step();
        }
    }

private:
    std::int64_t time(std::int64_t walk) const { return walk_time(spec_, T_, state_, walk); }
    std::int64_t first_time() const {
        return state_ % spec_.num_directions() == 1 ? T_ - walk_ - step_.count : walk_;
    }
    void touch(CudaArray array, std::int64_t part, std::int64_t begin, std::int64_t end,
               bool writes) {
        out_.push_back({array, part, begin, end, writes});
    }
    void read(CudaArray array, std::int64_t part, std::int64_t at = 0) {
        touch(array, part, at, at + 1, false);
    }
    void write(CudaArray array, std::int64_t part, std::int64_t at = 0) {
        touch(array, part, at, at + 1, true);
    }
    /// Position of a time step in the ring of inputs; training keeps all of them.
    void x_preact(std::int64_t first, std::int64_t count, bool writes) {
        if (training_) return touch(CudaArray::kXPreact, state_, first, first + count, writes);
        const std::int64_t ring = config_.ring_steps;
        const bool reverse = state_ % spec_.num_directions() == 1;
        const std::int64_t at = (first + (reverse ? (ring - T_ % ring) % ring : 0)) % ring;
        touch(CudaArray::kXPreact, slot_, at, at + count, writes);
    }
    void h_in(std::int64_t walk, bool writes) {
        if (walk >= T_) return;
        if (training_) return touch(CudaArray::kHIn, state_, time(walk), time(walk) + 1, writes);
        touch(CudaArray::kHIn, slot_, walk % 2, walk % 2 + 1, writes);
    }
    void c(std::int64_t walk, bool writes) {
        if (!cell_has_c(spec_.cell)) return;
        if (walk < 0) return read(CudaArray::kCx, state_);
        if (training_) return touch(CudaArray::kC, state_, time(walk), time(walk) + 1, writes);
        touch(CudaArray::kC, slot_, 0, 1, writes);
    }
    void aux(std::int64_t walk, bool writes) {
        if (training_) return touch(CudaArray::kAux, state_, time(walk), time(walk) + 1, writes);
        touch(CudaArray::kAux, slot_, 0, 1, writes);
    }
    std::int64_t layer_part(std::int64_t layer) const {
        return training_ || config_.fronts_of_layers ? layer : layer % 2;
    }
    std::int64_t dy_part(std::int64_t layer) const {
        return config_.fronts_of_layers ? layer : layer % 2;
    }
    /// Columns of the two directions are apart: half steps.
    void sequence(CudaArray array, std::int64_t part, std::int64_t t, bool writes) {
        const std::int64_t D = spec_.num_directions(), dir = state_ % D;
        touch(array, part, t * D + dir, t * D + dir + 1, writes);
    }
    void sequences(CudaArray array, std::int64_t part, std::int64_t first, std::int64_t count,
                   bool writes) {
        const std::int64_t D = spec_.num_directions();
        touch(array, part, first * D, (first + count) * D, writes);
    }
    void outputs() {
        const std::int64_t t = time(walk_);
        h_in(walk_ + 1, true);
        if (walk_ + 1 == T_) write(CudaArray::kHy, state_);
        if (layer_ + 1 < spec_.num_layers) {
            if (spec_.dropout > 0 && training_) read(CudaArray::kKey, 0);
            return sequence(CudaArray::kLayerY, layer_part(layer_), t, true);
        }
        sequence(CudaArray::kY, 0, t, true);
    }
    void product() { write(CudaArray::kGemm, step_.queue); }

    void forward_step();
    void backward_step();
    void gradient_in();
    void cell_forward(bool second);
    void cell_backward(bool second);

    const RnnSpec& spec_;
    const CudaRnnConfig& config_;
    std::int64_t T_;
    bool training_;
    const CudaStep& step_;
    std::vector<CudaAccess>& out_;
    std::int64_t state_ = 0, walk_ = 0, layer_ = 0, slot_ = 0;
};

void Accesses::cell_forward(bool second) {
    const std::int64_t t = time(walk_);
    x_preact(t, 1, false);
    x_preact(t, 1, true);
    read(CudaArray::kHPreact, slot_);
    h_in(walk_, false);
    c(walk_ - 1, false);
    c(walk_, true);
    if (walk_ + 1 == T_ && cell_has_c(spec_.cell)) write(CudaArray::kCy, state_);
    const bool first_of_two = spec_.cell == Cell::kGruResetBefore && !second;
    if (first_of_two || spec_.proj_size > 0) return aux(walk_, true);
    if (second) read(CudaArray::kHPreactN, slot_);
    outputs();
}

void Accesses::forward_step() {
    switch (step_.kind) {
        case CudaStepKind::kSetKey:
            return write(CudaArray::kKey, 0);
        case CudaStepKind::kPackWeights:
            return write(CudaArray::kWeights, state_);
        case CudaStepKind::kStateIn:
            walk_ = 0;
            read(CudaArray::kHx, state_);
            return h_in(0, true);
        case CudaStepKind::kInputProduct:
            product();
            read(CudaArray::kWeights, state_);
            if (layer_ == 0) {
                touch(CudaArray::kX, 0, first_time(), first_time() + step_.count, false);
            } else {
                sequences(CudaArray::kLayerY, layer_part(layer_ - 1), first_time(), step_.count,
                          false);
            }
            return x_preact(first_time(), step_.count, true);
        case CudaStepKind::kRecurrentProduct:
            product();
            read(CudaArray::kWeights, state_);
            h_in(walk_, false);
            return write(CudaArray::kHPreact, slot_);
        case CudaStepKind::kCellForward:
            return cell_forward(false);
        case CudaStepKind::kResetProduct:
            product();
            read(CudaArray::kWeights, state_);
            aux(walk_, false);
            return write(CudaArray::kHPreactN, slot_);
        case CudaStepKind::kCellForwardSecond:
            return cell_forward(true);
        case CudaStepKind::kProjectProduct:
            product();
            read(CudaArray::kWeights, state_);
            aux(walk_, false);
            return write(CudaArray::kProjected, slot_);
        case CudaStepKind::kProjectForward:
            read(CudaArray::kProjected, slot_);
            h_in(walk_, false);
            return outputs();
        default:
            return;
    }
}

void Accesses::gradient_in() {
    const std::int64_t t = time(walk_);
    if (layer_ + 1 < spec_.num_layers) {
        sequence(CudaArray::kLayerDy, dy_part(layer_), t, false);
    } else {
        sequence(CudaArray::kDy, 0, t, false);
    }
    write(CudaArray::kDhState, slot_);
    write(CudaArray::kNormPartials, slot_);
}

void Accesses::cell_backward(bool second) {
    const std::int64_t t = time(walk_);
    if (spec_.proj_size > 0) {
        read(CudaArray::kDh, slot_);
    } else if (!second) {
        gradient_in();
    } else {
        write(CudaArray::kDhState, slot_);
        read(CudaArray::kDrh, slot_);
    }
    x_preact(t, 1, false);
    c(walk_, false);
    c(walk_ - 1, false);
    h_in(walk_, false);
    if (cell_has_c(spec_.cell)) write(CudaArray::kDc, slot_);
    touch(CudaArray::kDgates, slot_, t, t + 1, true);
    write(CudaArray::kDbPartials, slot_);
}

void Accesses::backward_step() {
    const std::int64_t t = step_.kind == CudaStepKind::kInputGradProduct ? 0 : time(walk_);
    switch (step_.kind) {
        case CudaStepKind::kStateGradIn:
            write(CudaArray::kDhState, slot_);
            write(CudaArray::kDc, slot_);
            return write(CudaArray::kDbPartials, slot_);
        case CudaStepKind::kProjectBackward:
            gradient_in();
            return touch(CudaArray::kDp, slot_, t, t + 1, true);
        case CudaStepKind::kProjectGradProduct:
            product();
            read(CudaArray::kWeights, state_);
            touch(CudaArray::kDp, slot_, t, t + 1, false);
            return write(CudaArray::kDh, slot_);
        case CudaStepKind::kCellBackward:
            return cell_backward(false);
        case CudaStepKind::kResetGradProduct:
            product();
            read(CudaArray::kWeights, state_);
            touch(CudaArray::kDgates, slot_, t, t + 1, false);
            return write(CudaArray::kDrh, slot_);
        case CudaStepKind::kCellBackwardSecond:
            return cell_backward(true);
        case CudaStepKind::kRecurrentGradProduct:
            product();
            read(CudaArray::kWeights, state_);
            touch(CudaArray::kDgates, slot_, t, t + 1, false);
            return write(CudaArray::kDhState, slot_);
        case CudaStepKind::kInputGradProduct:
            product();
            read(CudaArray::kWeights, state_);
            touch(CudaArray::kDgates, slot_, first_time(), first_time() + step_.count, false);
            if (layer_ == 0)
                return touch(CudaArray::kDx, 0, first_time(), first_time() + step_.count, true);
            return sequences(CudaArray::kLayerDy, dy_part(layer_ - 1), first_time(), step_.count,
                             true);
        case CudaStepKind::kStateGradOut:
            read(CudaArray::kDhState, slot_);
            read(CudaArray::kDc, slot_);
            write(CudaArray::kDhx, state_);
            return write(CudaArray::kDcx, state_);
        case CudaStepKind::kWeightGrads:
            product();
            write(CudaArray::kXRows, step_.queue);
            touch(CudaArray::kDgates, slot_, 0, T_, false);
            touch(CudaArray::kHIn, state_, 0, T_, false);
            touch(CudaArray::kAux, state_, 0, T_, false);
            if (spec_.proj_size > 0) touch(CudaArray::kDp, slot_, 0, T_, false);
            if (layer_ > 0) sequences(CudaArray::kLayerY, layer_ - 1, 0, T_, false);
            return write(CudaArray::kDw, state_);
        case CudaStepKind::kBiasGrads:
            read(CudaArray::kDbPartials, slot_);
            return write(CudaArray::kDb, state_);
        case CudaStepKind::kNorms:
            read(CudaArray::kNormPartials, slot_);
            return touch(CudaArray::kNorms, state_, first_time(), first_time() + step_.count, true);
        default:
            return;
    }
}

constexpr int kMaxQueues = 4;
using Clock = std::array<std::int64_t, kMaxQueues>;

void merge(Clock& into, const Clock& other) {
    for (std::size_t q = 0; q < other.size(); ++q) into[q] = std::max(into[q], other[q]);
}

struct Earlier {
    CudaAccess access;
    CudaStep step;
    int queue;
    std::int64_t at;
};

std::string sentence(const CudaStep& first, const CudaStep& second, const CudaAccess& access) {
    const auto text = [](const CudaStep& step) {
        return std::string(cuda_step_name(step.kind)) + " (queue " + std::to_string(step.queue) +
               ", state " + std::to_string(step.first_state) + ", step " +
               std::to_string(step.walk) + ")";
    };
    return "nothing orders " + text(second) + " after " + text(first) + ", and both touch '" +
           cuda_array_name(access.array) + "' part " + std::to_string(access.part);
}

}  // namespace

void append_accesses(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                     bool training, const CudaStep& step, std::vector<CudaAccess>& accesses) {
    Accesses(spec, config, seq_len, training, step, accesses).append();
}

std::string find_unordered(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                           bool training, const std::vector<CudaStep>& steps) {
    Clock clocks[kMaxQueues] = {};
    std::map<int, Clock> events;
    std::map<std::pair<CudaArray, std::int64_t>, std::vector<Earlier>> history;
    std::vector<CudaAccess> accesses;
    // What the caller enqueued before the call, on queue 0, is the first thing there.
    clocks[0][0] = 1;
    for (const CudaStep& step : steps) {
        Clock& clock = clocks[step.queue];
        if (step.kind == CudaStepKind::kRecord) {
            events[step.event] = clock;
            continue;
        }
        if (step.kind == CudaStepKind::kWait) {
            merge(clock, events[step.event]);
            continue;
        }
        if (clock[0] == 0) {
            return "queue " + std::to_string(step.queue) +
                   " starts without waiting for what the caller enqueued before";
        }
        const std::int64_t now = ++clock[static_cast<std::size_t>(step.queue)];
        accesses.clear();
        append_accesses(spec, config, seq_len, training, step, accesses);
        for (const CudaAccess& access : accesses) {
            std::vector<Earlier>& earlier = history[{access.array, access.part}];
            for (const Earlier& other : earlier) {
                const bool overlap =
                    other.access.begin < access.end && access.begin < other.access.end;
                if (!overlap || (!access.writes && !other.access.writes)) continue;
                if (other.at > clock[static_cast<std::size_t>(other.queue)])
                    return sentence(other.step, step, access);
            }
            earlier.push_back({access, step, step.queue, now});
        }
    }
    // The caller's queue must be behind everything when the call returns.
    for (int q = 1; q < kMaxQueues; ++q) {
        if (clocks[q][static_cast<std::size_t>(q)] > clocks[0][static_cast<std::size_t>(q)])
            return "queue 0 does not wait for the end of queue " + std::to_string(q);
    }
    return "";
}

}  // namespace carousel
