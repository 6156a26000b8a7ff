// Trains a GRU to say, after a sequence of tokens, which one came first: embedding, recurrent
// layer, linear output, softmax cross-entropy, gradient clipping and Adam, each called by hand.

#include <carousel/carousel.hpp>

#include <cstdio>
#include <vector>

using namespace carousel;

namespace {

constexpr std::int64_t kSteps = 12;   // T
constexpr std::int64_t kBatch = 32;   // N
constexpr std::int64_t kVocab = 8;    // V
constexpr std::int64_t kHidden = 32;  // H = E

std::uint64_t g_random = 1;
double uniform() {
    g_random = g_random * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(g_random >> 11) * 0x1.0p-53;
}

/// tokens [T,N]; the only target is at the last step, the token of the first.
void draw(std::vector<std::int32_t>& tokens, std::vector<std::int32_t>& targets) {
    for (std::int32_t& token : tokens) {
        token = static_cast<std::int32_t>(uniform() * static_cast<double>(kVocab));
    }
    targets.assign(tokens.size(), kIgnoreTarget);
    for (std::size_t n = 0; n < kBatch; ++n) {
        targets[static_cast<std::size_t>(kSteps - 1) * kBatch + n] = tokens[n];
    }
}

}  // namespace

int main() {
    try {
        const ModuleContext context(DType::kF32);
        ParameterSet params(context);
        Embedding embedding(params, "embedding", kVocab, kHidden);
        RnnSpec spec;
        spec.cell = Cell::kGru;
        spec.input_size = kHidden;
        spec.hidden_size = kHidden;
        Rnn rnn(params, "rnn", spec, kSteps, kBatch);
        Linear output(params, "output", kHidden, kVocab);
        params.allocate();
        for (std::int64_t i = 0; i < params.numel(); ++i) {
            static_cast<float*>(params.flat_values())[i] =
                static_cast<float>(0.4 * uniform() - 0.2);
        }

        constexpr std::int64_t kRows = kSteps * kBatch;
        SoftmaxCrossEntropy cross_entropy(context, kVocab, kRows);
        GradClip clip(params, 1.0);
        OptimizerOptions options;
        options.kind = OptimizerKind::kAdam;
        Optimizer optimizer(params, clip, options);

        std::vector<std::int32_t> tokens(kRows);
        std::vector<std::int32_t> targets(kRows);
        std::vector<float> x(kRows * kHidden), y(x.size()), dx(x.size()), dy(x.size());
        std::vector<float> logits(kRows * kVocab);

        double mean = 0.0;  // running mean of the loss
        for (int step = 0; step < 600; ++step) {
            draw(tokens, targets);
            embedding.forward(tokens.data(), kRows, x.data());
            RnnForwardArgs forward;
            forward.seq_len = kSteps;
            forward.batch_size = kBatch;
            forward.x = {x.data(), DType::kF32, {kSteps, kBatch, kHidden}};
            forward.y = {y.data(), DType::kF32, {kSteps, kBatch, kHidden}};
            rnn.forward_training(forward);
            output.forward(y.data(), kRows, logits.data());
            // logits are overwritten by their gradient.
            const auto loss = cross_entropy.run(logits.data(), nullptr, targets.data(), kRows,
                                                1.0 / kBatch, logits.data());

            output.backward(y.data(), kRows, logits.data(), dy.data());
            RnnBackwardArgs back;
            back.seq_len = kSteps;
            back.batch_size = kBatch;
            back.x = forward.x;
            back.y = forward.y;
            back.dy = {dy.data(), DType::kF32, {kSteps, kBatch, kHidden}};
            back.dx = {dx.data(), DType::kF32, {kSteps, kBatch, kHidden}};
            rnn.backward(back);
            embedding.backward(tokens.data(), kRows, dx.data());

            clip.measure();
            optimizer.step(5e-3);
            mean = step == 0 ? loss.mean() : 0.95 * mean + 0.05 * loss.mean();
            if (step % 100 == 99) std::printf("step %d  loss %.4f nats\n", step + 1, mean);
        }
        std::printf("guessing would give %.4f nats\n", 2.0794);  // ln 8
        return mean < 0.2 ? 0 : 1;
    } catch (const Error& error) {
        std::fprintf(stderr, "%s: %s\n", error_code_name(error.code()), error.what());
        return 1;
    }
}
