#include <algorithm>
#include <cmath>

#include "src/backend/cpu/ops_cpu.hpp"

// Clipping and the optimiser: a global norm by an ordered two-stage sum, and one pass over all
// parameters that reads its scale and skip flag from the StepControl.

namespace carousel::cpu {

namespace {

constexpr std::int64_t kElementGrain = kNormChunk;
constexpr double kNormEps = 1e-6;  // as torch.nn.utils.clip_grad_norm_

/// Stage 2 and the decision, on one thread.
void decide(const double* partials, std::int64_t count, double max_norm, StepControl* control) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < count; ++i) sum += partials[i];
    const double norm = std::sqrt(sum);
    control->grad_norm = norm;
    control->skip = std::isfinite(norm) ? 0 : 1;
    control->scale = max_norm > 0.0 ? std::min(1.0, max_norm / (norm + kNormEps)) : 1.0;
}

/// Factors that depend on the number of the update.
UpdateArgs resolve(const OptimizerStepArgs& args) {
    UpdateArgs update = args.update;
    update.scale = args.control->scale;
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
void CpuOps<T>::grad_norm(const NormSpan* spans, std::size_t num_spans, const void* table,
                          const RowSet& set, double max_norm, double* partials,
                          StepControl* control) {
    std::int64_t used = 0;
    for (std::size_t s = 0; s < num_spans; ++s) {
        const T* data = static_cast<const T*>(spans[s].data);
        const std::int64_t numel = spans[s].numel;
        const std::int64_t chunks = norm_partials(numel);
        double* out = partials + used;
        split(chunks, 1, numel, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) {
                const std::int64_t first = c * kNormChunk;
                out[c] = kernels_.sum_squares(data + first, std::min(kNormChunk, numel - first));
            }
        });
        used += chunks;
    }
    if (set.num_rows > 0) {
        double* out = partials + used;
        split(set.num_rows, 1, set.num_rows * set.row_size,
              [&](std::int64_t begin, std::int64_t end) {
                  for (std::int64_t r = begin; r < end; ++r) {
                      out[r] = kernels_.sum_squares(
                          static_cast<const T*>(table) + set.rows[r] * set.row_size, set.row_size);
                  }
              });
        used += set.num_rows;
    }
    decide(partials, used, max_norm, control);
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
