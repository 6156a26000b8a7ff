#include "src/plan/cuda_walk.hpp"

#include <algorithm>

namespace carousel {

const char* cuda_step_name(CudaStepKind kind) noexcept {
    switch (kind) {
        case CudaStepKind::kSetKey:
            return "dropout key";
        case CudaStepKind::kPackWeights:
            return "pack weights";
        case CudaStepKind::kStateIn:
            return "initial state";
        case CudaStepKind::kInputProduct:
            return "input product";
        case CudaStepKind::kRecurrentProduct:
            return "recurrent product";
        case CudaStepKind::kCellForward:
            return "cell forward";
        case CudaStepKind::kResetProduct:
            return "product of reset state";
        case CudaStepKind::kCellForwardSecond:
            return "cell forward, second half";
        case CudaStepKind::kProjectProduct:
            return "projection product";
        case CudaStepKind::kProjectForward:
            return "projection forward";
        case CudaStepKind::kStateGradIn:
            return "gradient of final state";
        case CudaStepKind::kProjectBackward:
            return "projection backward";
        case CudaStepKind::kProjectGradProduct:
            return "projection gradient product";
        case CudaStepKind::kCellBackward:
            return "cell backward";
        case CudaStepKind::kResetGradProduct:
            return "gradient product of reset state";
        case CudaStepKind::kCellBackwardSecond:
            return "cell backward, second half";
        case CudaStepKind::kRecurrentGradProduct:
            return "recurrent gradient product";
        case CudaStepKind::kInputGradProduct:
            return "input gradient product";
        case CudaStepKind::kStateGradOut:
            return "gradient of initial state";
        case CudaStepKind::kWeightGrads:
            return "weight gradients";
        case CudaStepKind::kBiasGrads:
            return "bias gradients";
        case CudaStepKind::kNorms:
            return "norms";
        case CudaStepKind::kRecord:
            return "record";
        case CudaStepKind::kWait:
            return "wait";
    }
    return "?";
}

namespace {

// Events by what they say. Each is recorded again and again; a wait means the latest record before
// it in the order of emission.
enum WalkEvent : int {
    kForked = 0,    ///< queue 0 has come this far: the side queue may start
    kJoined = 1,    ///< the side queue has come this far
    kProduced = 2,  ///< the side queue's products of one boundary of chunks are done
    kMoved = 3,     ///< queue 0 has passed a boundary of chunks
};

class Walk {
public:
    Walk(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
         const CudaStepSink& sink)
        : spec_(spec), config_(config), sink_(sink), T_(seq_len) {}

    void forward(bool training, bool packs);
    void backward(const CudaBackwardWants& wants, bool packs);

private:
    void emit(CudaStepKind kind, int queue, std::int64_t first_state, std::int64_t num_states = 1,
              std::int64_t walk = 0, std::int64_t count = 1) {
        CudaStep step{kind, queue};
        step.first_state = first_state;
        step.num_states = num_states;
        step.walk = walk;
        step.count = count;
        step.lag = config_.lag;
        sink_(step);
    }
    void record(int queue, int event) {
        CudaStep step{CudaStepKind::kRecord, queue};
        step.event = event;
        sink_(step);
    }
    void wait(int queue, int event) {
        CudaStep step{CudaStepKind::kWait, queue};
        step.event = event;
        sink_(step);
    }
    void fork() {
        record(0, kForked);
        wait(1, kForked);
    }
    void join() {
        record(1, kJoined);
        wait(0, kJoined);
    }
    void pack(bool packs) {
        if (!packs) return;
        for (std::int64_t state = 0; state < spec_.num_states(); ++state)
            emit(CudaStepKind::kPackWeights, 0, state);
    }

    void front_forward(int queue, std::int64_t first, std::int64_t count, std::int64_t walk);
    void front_backward(int queue, std::int64_t first, std::int64_t count, std::int64_t walk,
                        const CudaBackwardWants& wants);
    /// All steps of one front of states without lag, on one queue.
    void sweep_forward(int queue, std::int64_t first, std::int64_t count);
    void sweep_backward(int queue, std::int64_t first, std::int64_t count,
                        const CudaBackwardWants& wants);
    void after_backward(int queue, std::int64_t state, const CudaBackwardWants& wants);
    void layers_forward();
    void diagonals_forward();
    void layers_backward(const CudaBackwardWants& wants);
    void diagonals_backward(const CudaBackwardWants& wants);
    /// Products between layers at front `d`, a boundary of chunks: for each layer whose neighbour has
    /// just finished a chunk.
    bool boundary(std::int64_t d, bool backward);

    const RnnSpec& spec_;
    const CudaRnnConfig& config_;
    const CudaStepSink& sink_;
    std::int64_t T_;
    std::int64_t input_steps_ =
        1;  ///< of one product with the input of the whole pass, or of a layer
};

void Walk::front_forward(int queue, std::int64_t first, std::int64_t count, std::int64_t walk) {
    emit(CudaStepKind::kRecurrentProduct, queue, first, count, walk);
    emit(CudaStepKind::kCellForward, queue, first, count, walk);
    if (spec_.cell == Cell::kGruResetBefore) {
        emit(CudaStepKind::kResetProduct, queue, first, count, walk);
        emit(CudaStepKind::kCellForwardSecond, queue, first, count, walk);
    }
    if (spec_.proj_size > 0) {
        emit(CudaStepKind::kProjectProduct, queue, first, count, walk);
        emit(CudaStepKind::kProjectForward, queue, first, count, walk);
    }
}

void Walk::front_backward(int queue, std::int64_t first, std::int64_t count, std::int64_t walk,
                          const CudaBackwardWants& wants) {
    if (spec_.proj_size > 0) {
        emit(CudaStepKind::kProjectBackward, queue, first, count, walk);
        emit(CudaStepKind::kProjectGradProduct, queue, first, count, walk);
    }
    emit(CudaStepKind::kCellBackward, queue, first, count, walk);
    if (spec_.cell == Cell::kGruResetBefore) {
        emit(CudaStepKind::kResetGradProduct, queue, first, count, walk);
        emit(CudaStepKind::kCellBackwardSecond, queue, first, count, walk);
    }
    // What reaches the initial state may not be wanted. A front on a diagonal has states at other
    // steps too, so only fronts that are all at their first step can leave it out.
    const bool last = walk - (count - 1) * config_.lag == 0 && walk == 0;
    if (!last || wants.state_grads) {
        emit(CudaStepKind::kRecurrentGradProduct, queue, first, count, walk);
    }
    if (!wants.norms) return;
    // The sums of a step's blocks lie in a ring of norm_steps steps, which is emptied when full.
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t step = walk - i * config_.lag, rest = (T_ - step) % config_.norm_steps;
        if (rest != 0 && step != 0) continue;
        emit(CudaStepKind::kNorms, queue, first + i, 1, step,
             rest != 0 ? rest : config_.norm_steps);
    }
}

void Walk::sweep_forward(int queue, std::int64_t first, std::int64_t count) {
    emit(CudaStepKind::kStateIn, queue, first, count);
    for (std::int64_t begin = 0; begin < T_; begin += input_steps_) {
        const std::int64_t end = std::min(T_, begin + input_steps_);
        emit(CudaStepKind::kInputProduct, queue, first, count, begin, end - begin);
        for (std::int64_t walk = begin; walk < end; ++walk)
            front_forward(queue, first, count, walk);
    }
}

void Walk::sweep_backward(int queue, std::int64_t first, std::int64_t count,
                          const CudaBackwardWants& wants) {
    emit(CudaStepKind::kStateGradIn, queue, first, count);
    for (std::int64_t walk = T_; walk-- > 0;) front_backward(queue, first, count, walk, wants);
    if (wants.state_grads) emit(CudaStepKind::kStateGradOut, queue, first, count);
}

void Walk::after_backward(int queue, std::int64_t state, const CudaBackwardWants& wants) {
    if (wants.weight_grads) {
        emit(CudaStepKind::kWeightGrads, queue, state);
        emit(CudaStepKind::kBiasGrads, queue, state);
    }
}

void Walk::layers_forward() {
    const std::int64_t D = spec_.num_directions();
    for (std::int64_t layer = 0; layer < spec_.num_layers; ++layer) {
        if (config_.fronts_of_directions || D == 1) {
            sweep_forward(0, layer * D, D);
            continue;
        }
        fork();
        sweep_forward(0, layer * D, 1);
        sweep_forward(1, layer * D + 1, 1);
        join();
    }
}

void Walk::layers_backward(const CudaBackwardWants& wants) {
    const std::int64_t D = spec_.num_directions();
    for (std::int64_t layer = spec_.num_layers; layer-- > 0;) {
        const std::int64_t first = layer * D;
        if (config_.fronts_of_directions || D == 1) {
            sweep_backward(0, first, D, wants);
            for (std::int64_t dir = 0; dir < D; ++dir) after_backward(0, first + dir, wants);
        } else {
            fork();
            sweep_backward(0, first, 1, wants);
            after_backward(0, first, wants);
            sweep_backward(1, first + 1, 1, wants);
            after_backward(1, first + 1, wants);
            join();
        }
        // Both directions add to the gradient of the layer's input: one after the other.
        if (layer > 0 || wants.dx) {
            for (std::int64_t dir = 0; dir < D; ++dir)
                emit(CudaStepKind::kInputGradProduct, 0, first + dir, 1, 0, T_);
        }
    }
}

// Diagonals. The layers of a stack in the order in which the pass visits them have positions
// p = 0 .. L-1 (forward p = layer, backward p = L-1-layer); at front d, position p does its step
// d - p*lag if that is one of 0 .. T-1. lag is two chunks: when position p-1 has finished a chunk, at
// a boundary of chunks, the side queue gets one chunk's time for the product between the two layers
// before position p needs it.
bool Walk::boundary(std::int64_t d, bool backward) {
    const std::int64_t L = spec_.num_layers, K = config_.chunk_steps, lag = config_.lag;
    bool any = false;
    // Positions whose chunk is a whole one form one range; the one with a rest goes alone.
    std::int64_t first = -1, count = 0;
    const auto product = [&](std::int64_t p, std::int64_t n, std::int64_t steps) {
        if (!any) {
            record(0, kMoved);
            wait(1, kMoved);
            any = true;
        }
        const std::int64_t chunk = (d - (p - 1) * lag) / K - 1;
        if (!backward) {
            emit(CudaStepKind::kInputProduct, 1, p, n, chunk * K, steps);
            return;
        }
        // The product of position p reads the gate gradients of position p-1: the layer above. In
        // order of states the range starts at its last position.
        const std::int64_t q = p + n - 1;
        const std::int64_t done = ((d - (q - 1) * lag) / K - 1) * K;
        emit(CudaStepKind::kInputGradProduct, 1, L - q, n, T_ - done - steps, steps);
    };
    for (std::int64_t p = 1; p < L; ++p) {
        const std::int64_t passed = d - (p - 1) * lag;
        const std::int64_t chunk = passed / K - 1;
        if (passed < K || chunk * K >= T_) {
            continue;
        }
        const std::int64_t steps = std::min(K, T_ - chunk * K);
        if (steps < K) {
            product(p, 1, steps);
            continue;
        }
        if (count == 0) first = p;
        ++count;
    }
    if (count > 0) product(first, count, K);
    if (any) record(1, kProduced);
    return any;
}

void Walk::diagonals_forward() {
    const std::int64_t L = spec_.num_layers, lag = config_.lag, K = config_.chunk_steps;
    emit(CudaStepKind::kStateIn, 0, 0, L);
    bool pending = false;
    for (std::int64_t d = 0; d < T_ + (L - 1) * lag; ++d) {
        if (d % K == 0) {
            if (pending) wait(0, kProduced);
            pending = boundary(d, false);
        }
        if (d < T_ && d % input_steps_ == 0) {
            emit(CudaStepKind::kInputProduct, 0, 0, 1, d, std::min(input_steps_, T_ - d));
        }
        const std::int64_t low = d < T_ ? 0 : (d - T_) / lag + 1, high = std::min(L - 1, d / lag);
        if (low <= high) front_forward(0, low, high - low + 1, d - low * lag);
    }
    if (pending) wait(0, kProduced);
}

void Walk::diagonals_backward(const CudaBackwardWants& wants) {
    const std::int64_t L = spec_.num_layers, lag = config_.lag, K = config_.chunk_steps;
    emit(CudaStepKind::kStateGradIn, 0, 0, L);
    bool pending = false;
    for (std::int64_t d = 0; d < T_ + (L - 1) * lag; ++d) {
        if (d % K == 0) {
            if (pending) wait(0, kProduced);
            pending = boundary(d, true);
        }
        const std::int64_t low = d < T_ ? 0 : (d - T_) / lag + 1, high = std::min(L - 1, d / lag);
        if (low > high) continue;
        // Positions low .. high are layers L-1-high .. L-1-low.
        front_backward(0, L - 1 - high, high - low + 1, T_ - 1 - (d - high * lag), wants);
    }
    if (pending) wait(0, kProduced);
    if (wants.state_grads) emit(CudaStepKind::kStateGradOut, 0, 0, L);
    for (std::int64_t state = L; state-- > 0;) after_backward(0, state, wants);
    if (wants.dx) emit(CudaStepKind::kInputGradProduct, 0, 0, 1, 0, T_);
}

void Walk::forward(bool training, bool packs) {
    input_steps_ = training ? T_ : config_.ring_steps;
    if (training && spec_.dropout > 0 && spec_.num_layers > 1) emit(CudaStepKind::kSetKey, 0, 0);
    pack(packs);
    if (config_.fronts_of_layers) {
        diagonals_forward();
    } else {
        layers_forward();
    }
}

void Walk::backward(const CudaBackwardWants& wants, bool packs) {
    pack(packs);
    if (config_.fronts_of_layers) {
        diagonals_backward(wants);
    } else {
        layers_backward(wants);
    }
}

}  // namespace

void walk_forward(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                  bool training, bool packs, const CudaStepSink& sink) {
    Walk(spec, config, seq_len, sink).forward(training, packs);
}

void walk_backward(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                   const CudaBackwardWants& wants, bool packs, const CudaStepSink& sink) {
    Walk(spec, config, seq_len, sink).backward(wants, packs);
}

}  // namespace carousel
