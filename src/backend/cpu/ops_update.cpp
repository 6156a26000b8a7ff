#include <algorithm>
#include <cmath>

#include "src/backend/cpu/ops_cpu.hpp"

// Clipping and the optimiser: a global norm by an ordered two-stage sum, and one pass over all
// parameters that reads its scale and skip flag from the StepControl.

namespace carousel::cpu {

namespace {

constexpr std::int64_t kElementGrain = kNormChunk;
constexpr double kNormEps = 1e-6;  // as torch.nn.utils.clip_grad_norm_

/// The factor that takes the scale out of the gradients just measured; sets the scale of the next.
double move_loss_scale(LossScale& state, bool finite) {
    state.unscale = 1.0 / state.scale;
    if (!finite) {
        state.scale = std::max(state.min_scale, state.scale * state.backoff);
        state.good_steps = 0;
    } else if (++state.good_steps >= state.growth_interval) {
        state.scale = std::min(state.max_scale, state.scale * state.growth);
        state.good_steps = 0;
    }
    return state.unscale;
}

/// Stage 2 and the decision, on one thread.
void decide(const GradNormArgs& args, std::int64_t count) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < count; ++i) sum += args.partials[i];
    double norm = std::sqrt(sum);
    const bool finite = std::isfinite(norm);
    if (args.loss_scale != nullptr) norm *= move_loss_scale(*args.loss_scale, finite);
    StepControl* control = args.control;
    control->grad_norm = norm;
    control->skip = finite ? 0 : 1;
    control->scale = args.max_norm > 0.0 ? std::min(1.0, args.max_norm / (norm + kNormEps)) : 1.0;
}

/// Factors that depend on the number of the update.
UpdateArgs resolve(const OptimizerStepArgs& args) {
    UpdateArgs update = args.update;
    update.scale = args.control->scale;
    if (args.loss_scale != nullptr) update.scale *= args.loss_scale->unscale;
    if (args.lr != nullptr) update.lr = *args.lr;
    const auto t = static_cast<double>(args.control->applied_steps + 1);
    if (update.rule == UpdateRule::kAdam || update.rule == UpdateRule::kAdamW) {
        update.step_size = update.lr / (1.0 - std::pow(update.beta1, t));
        update.inv_sqrt_bias2 = 1.0 / std::sqrt(1.0 - std::pow(update.beta2, t));
    }
    if (update.rule == UpdateRule::kAdamW) update.weight_decay *= update.lr;
    return update;
}

}  // namespace

template <class T>
void CpuOps<T>::grad_norm(const GradNormArgs& args) {
    std::int64_t used = 0;
    for (std::size_t s = 0; s < args.num_spans; ++s) {
        const T* data = static_cast<const T*>(args.spans[s].data);
        const std::int64_t numel = args.spans[s].numel;
        const std::int64_t chunks = norm_partials(numel);
        double* out = args.partials + used;
        split(chunks, 1, numel, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) {
                const std::int64_t first = c * kNormChunk;
                out[c] = kernels_.sum_squares(data + first, std::min(kNormChunk, numel - first));
            }
        });
        used += chunks;
    }
    const RowSet& set = args.rows;
    if (set.num_rows > 0) {
        double* out = args.partials + used;
        split(set.num_rows, 1, set.num_rows * set.row_size,
              [&](std::int64_t begin, std::int64_t end) {
                  for (std::int64_t r = begin; r < end; ++r) {
                      const std::int64_t first = set.rows[r] * set.row_size;
                      out[r] = kernels_.sum_squares(static_cast<const T*>(args.table) + first,
                                                    set.row_size);
                  }
              });
        used += set.num_rows;
    }
    decide(args, used);
}

template <class T>
void CpuOps<T>::reset_scale(StepControl* control, LossScale* loss_scale) {
    control->scale = 1.0;
    if (loss_scale != nullptr) loss_scale->unscale = 1.0;
}

template <class T>
void CpuOps<T>::optimizer_step(const OptimizerStepArgs& args) {
    if (args.control->skip != 0) {
        ++args.control->skipped_steps;
        return;
    }
    const UpdateArgs update = resolve(args);
    const auto run = [&](std::int64_t first, std::int64_t last) {
        if (first >= last) return;
        split(last - first, kElementGrain, last - first, [&](std::int64_t begin, std::int64_t end) {
            kernels_.update(update, first + begin, first + end);
        });
    };
    if (args.row_set.rows == nullptr) {
        run(0, args.numel);
    } else {
        run(0, args.row_begin);
        run(args.row_begin + args.row_numel, args.numel);
        const RowSet& set = args.row_set;
        split(set.num_rows, 1, set.num_rows * set.row_size,
              [&](std::int64_t begin, std::int64_t end) {
                  for (std::int64_t r = begin; r < end; ++r) {
                      const std::int64_t first = args.row_begin + set.rows[r] * set.row_size;
                      kernels_.update(update, first, first + set.row_size);
                  }
              });
    }
    ++args.control->applied_steps;
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace carousel::cpu
