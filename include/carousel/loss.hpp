#pragma once

#include <cstdint>
#include <memory>

#include "carousel/grad_clip.hpp"
#include "carousel/module.hpp"

namespace carousel {

/// Target that marks padding: the position adds nothing to the loss and its gradient is zero.
inline constexpr std::int32_t kIgnoreTarget = -1;

/// Softmax cross-entropy over rows of logits, forward and backward in one pass per row.
///
///   z = logits + bias;  lse = m + log(sum_j exp(z_j - m)), m = max_j z_j
///   loss = sum over rows with target k >= 0 of (lse - z_k)
///   dlogits_j = scale * (exp(z_j - lse) - [j = k]);  0 where the target is kIgnoreTarget
///
/// In       logits [n,V]; bias [V] or null (a Linear's bias, added here instead of in a pass of its
///          own); targets [n] i32 in host memory, or an IdBuffer.
/// Out      dlogits [n,V], may be the same memory as logits; null = loss only.
/// Returns  the sum of losses in nats (accumulated in f64) and the number of unmasked rows.
/// Errors   InvalidArgument: a target outside [0,V) that is not kIgnoreTarget, with its position; on a
///          CUDA device, one in an IdBuffer is ignored and reported when the result is read.
class CAROUSEL_API SoftmaxCrossEntropy {
public:
    struct Result {
        double loss_sum = 0.0;
        std::int64_t count = 0;
        double mean() const noexcept {
            return count > 0 ? loss_sum / static_cast<double>(count) : 0.0;
        }
    };

    /// `max_rows` rows at most in one call.
    SoftmaxCrossEntropy(const ModuleContext& context, std::int64_t num_classes,
                        std::int64_t max_rows);
    Result run(const void* logits, const void* bias, const std::int32_t* targets, std::int64_t n,
               double scale, void* dlogits);

    /// As run, without waiting: the sums stay on the device, those of this call alone or, with
    /// `accumulate`, of the calls before too. Only enqueues, and can be captured in a graph.
    void enqueue(const void* logits, const void* bias, const IdBuffer& targets, std::int64_t n,
                 double scale, void* dlogits, bool accumulate = false);
    /// Enqueues the copy of the sums to the host. Up to 16 results may wait to be read.
    using Ticket = std::uint64_t;
    Ticket begin_read();
    /// Waits for that copy. InvalidArgument: an id or a target out of range that a kernel met, or a
    /// length; this result and later ones up to now are without it.
    Result finish_read(Ticket ticket);

    /// Gradients are multiplied by the scaler's scale, too; null = not.
    void set_loss_scaler(const LossScaler* scaler) noexcept { scaler_ = scaler; }

    /// Rows of `targets` that count.
    static std::int64_t count_unmasked(const std::int32_t* targets, std::int64_t n) noexcept;

private:
    ModuleContext context_;
    std::int64_t num_classes_, max_rows_;
    void launch(const void* logits, const void* bias, const std::int32_t* device_targets,
                std::int64_t n, double scale, void* dlogits, bool accumulate);
    void check_rows(std::int64_t n) const;

    Buffer row_losses_;                 ///< [max_rows] f64
    Buffer record_;                     ///< one LossRecord
    std::unique_ptr<IdBuffer> staged_;  ///< targets that came from the host
    const LossScaler* scaler_ = nullptr;
};

/// exp of the mean negative log-likelihood per token.
CAROUSEL_API double perplexity(double mean_loss_nats) noexcept;
/// Mean negative log-likelihood in bits.
CAROUSEL_API double bits_per_char(double mean_loss_nats) noexcept;
/// Perplexity per word of a model that scored the text in other units: exp(total nats / words).
CAROUSEL_API double perplexity_per_word(double total_nats, std::int64_t num_words) noexcept;

}  // namespace carousel
