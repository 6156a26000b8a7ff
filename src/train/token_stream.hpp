#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "src/train/lm_sampler.hpp"

namespace carousel::train {

/// What a token stream draws, and after what.
struct StreamOptions {
    SampleOptions draw;
    std::uint64_t seed = 1;
    std::vector<std::int32_t> prompt;  ///< at least one token; read before the first draw
    /// Tokens that next() will be asked for; none beyond is computed.
    std::int64_t length = std::numeric_limits<std::int64_t>::max();
    bool graphs = true;  ///< on a CUDA device
};

/// The tokens that a trained model writes after a prompt, one by one. Token i is drawn with random
/// number i of the seed, so equal models and options give equal tokens on every run on one device;
/// devices differ in the last bits of the logits, and so, where a number drawn lies that close to the
/// border between two tokens, in what follows it.
///
/// On the CPU each next() computes one token. On a CUDA device everything stays there, the draw and
/// what it is fed back to included: batches of batch_size() tokens are enqueued (from the second of a
/// size on as one graph), one batch ahead of the one that is handed out, and the host waits once a
/// batch, for its ids.
class TokenStream {
public:
    virtual ~TokenStream() = default;
    /// On the model's device, in its type (on the CPU that of its masters). The stream has its own
    /// copies of the weights; the model may go. Errors: InvalidArgument: options, or a token of the
    /// prompt that is outside the vocabulary.
    static std::unique_ptr<TokenStream> make(LmModel& model, StreamOptions options);

    /// Errors: InvalidArgument beyond the length.
    virtual std::int32_t next() = 0;
    /// Tokens that become ready at once.
    virtual std::int64_t batch_size() const noexcept = 0;
};

}  // namespace carousel::train
