#include "src/train/token_stream.hpp"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/ops.hpp"
#include "src/backend/step_graphs.hpp"
#include "src/nn/check.hpp"
#include "src/train/random.hpp"

namespace carousel::train {

namespace {

/// Counts the tokens handed out.
class CountedStream : public TokenStream {
public:
    explicit CountedStream(std::int64_t length) : length_(length) {}
    std::int32_t next() final {
        if (given_ == length_) {
            throw Error(ErrorCode::kInvalidArgument, "this stream was made for " +
                                                         std::to_string(length_) +
                                                         " tokens, which have been handed out");
        }
        const std::int32_t token = draw();
        ++given_;
        return token;
    }

protected:
    virtual std::int32_t draw() = 0;
    std::int64_t given() const noexcept { return given_; }

private:
    std::int64_t length_, given_ = 0;
};

class HostStream final : public CountedStream {
public:
    HostStream(LmModel& model, const StreamOptions& options)
        : CountedStream(options.length), sampler_(model), draw_(options.draw), seed_(options.seed) {
        const std::size_t last = options.prompt.size() - 1;
        for (std::size_t i = 0; i < last; ++i) sampler_.next(options.prompt[i]);
        token_ = options.prompt[last];
    }
    std::int64_t batch_size() const noexcept override { return 1; }

private:
    std::int32_t draw() override {
        const double uniform =
            random_uniform(seed_, RandomStream::kSample, static_cast<std::uint64_t>(given()));
        return token_ = sampler_.sample(token_, draw_, uniform);
    }

    LmSampler sampler_;
    TokenDraw draw_;
    std::uint64_t seed_;
    std::int32_t token_ = 0;
};

// Tokens of one batch: few enough for text to flow on a terminal, were a token to take a millisecond;
// they share a wait of the host, a copy each way and the launch of a graph.
constexpr std::int64_t kBatch = 16;

class DeviceStream final : public CountedStream {
public:
    DeviceStream(LmModel& model, const StreamOptions& options)
        : CountedStream(options.length),
          step_(model, model.config()),
          draw_(options.draw),
          seed_(options.seed),
          left_(options.length),
          graphs_(step_.context().device(), options.graphs) {
        const Device device = step_.context().device();
        tokens_ = Buffer((kBatch + 1) * sizeof(std::int32_t), device, "tokens drawn");
        keys_ = Buffer(2 * kBatch * sizeof(std::uint64_t), device, "keys of draws");
        read_prompt(options.prompt);
    }
    ~DeviceStream() override {
        for (const Batch& batch : enqueued_) drop(batch.ids);
    }
    std::int64_t batch_size() const noexcept override { return kBatch; }

private:
    struct Batch {
        Ops::Ticket ids = 0;
        std::int64_t size = 0;
    };
    Ops& ops() const { return step_.context().ops(); }

    void drop(Ops::Ticket ids) noexcept {
        try {
            ops().drop(ids);
        } catch (...) {  // NOLINT(bugprone-empty-catch)
            // One that was collected has no slot to give back.
        }
    }

    /// All but the last token, which the first draw is after.
    void read_prompt(const std::vector<std::int32_t>& prompt) {
        const auto feeds = static_cast<std::int64_t>(prompt.size()) - 1;
        for (std::int64_t i = 0; i < feeds; i += kBatch) {
            const std::int64_t size = std::min(kBatch, feeds - i);
            ops().upload(tokens_.data(), prompt.data() + i,
                         static_cast<std::size_t>(size) * sizeof(std::int32_t));
            enqueue(size, false);
        }
        ops().upload(tokens_.data(), &prompt.back(), sizeof prompt.back());
    }

    /// Tokens 0 .. size-1 go through the model. Drawing, each draw is the next token, and the last
    /// one becomes token 0 of the next batch.
    void enqueue(std::int64_t size, bool draws) {
        const auto add_key = [&](cuda::GraphKey& key) { key.add(size).add(std::int64_t{draws}); };
        graphs_.run(add_key, [&] {
            auto* tokens = tokens_.as<std::int32_t>();
            for (std::int64_t i = 0; i < size; ++i) {
                step_.feed(tokens + i);
                if (!draws) continue;
                step_.score();
                SampleTokensArgs args;
                args.logits = step_.logits();
                args.rows = 1;
                args.vocab_size = step_.config().vocab_size;
                args.temperature = draw_.temperature;
                args.top_k = draw_.top_k;
                args.top_p = draw_.top_p;
                args.key = keys_.as<std::uint64_t>() + 2 * i;
                args.tokens = tokens + i + 1;
                ops().sample_tokens(args);
            }
            if (draws) ops().copy(tokens + size, tokens, sizeof *tokens);
        });
    }

    void enqueue_batch() {
        Batch batch;
        batch.size = std::min(kBatch, left_);
        std::uint64_t keys[2 * kBatch];
        for (std::int64_t i = 0; i < batch.size; ++i) {
            keys[2 * i] = seed_;
            keys[2 * i + 1] = number_++;
        }
        const auto count = static_cast<std::size_t>(batch.size);
        ops().upload(keys_.data(), keys, 2 * count * sizeof *keys);
        enqueue(batch.size, true);
        left_ -= batch.size;
        batch.ids = ops().read_back(tokens_.as<std::int32_t>() + 1, count * sizeof(std::int32_t));
        enqueued_.push_back(batch);
    }

    std::int32_t draw() override {
        if (taken_ == ready_.size()) {
            while (left_ > 0 && enqueued_.size() < 2) enqueue_batch();
            const Batch batch = enqueued_.front();
            enqueued_.pop_front();
            ready_.resize(static_cast<std::size_t>(batch.size));
            taken_ = 0;
            ops().collect(batch.ids, ready_.data());
        }
        return ready_[taken_++];
    }

    TokenStep step_;
    SampleOptions draw_;
    std::uint64_t seed_, number_ = 0;  ///< of the next draw
    std::int64_t left_;                ///< tokens not yet enqueued
    StepGraphs graphs_;
    Buffer tokens_;  ///< [kBatch + 1], the first of which is fed first
    Buffer keys_;    ///< [kBatch,2]
    std::deque<Batch> enqueued_;
    std::vector<std::int32_t> ready_;
    std::size_t taken_ = 0;  ///< of them
};

}  // namespace

std::unique_ptr<TokenStream> TokenStream::make(LmModel& model, StreamOptions options) {
    validate(options.draw);
    if (options.prompt.empty()) {
        throw Error(ErrorCode::kInvalidArgument,
                    "the prompt has no token; a draw needs at least one to come after");
    }
    nn::check_ids("prompt", options.prompt.data(), static_cast<std::int64_t>(options.prompt.size()),
                  model.config().vocab_size);
    if (model.config().device.type == DeviceType::kCuda) {
        return std::make_unique<DeviceStream>(model, options);
    }
    return std::make_unique<HostStream>(model, options);
}

}  // namespace carousel::train
