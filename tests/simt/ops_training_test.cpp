#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "carousel/error.hpp"
#include "carousel/grad_clip.hpp"
#include "carousel/loss.hpp"
#include "carousel/optimizer.hpp"
#include "simt/nn_data.hpp"
#include "simt/simt_device.hpp"
#include "src/backend/ops.hpp"
#include "tests/support/expect_error.hpp"

// Training loops of the layer's modules on a CUDA device (the host code that drives a card, the
// kernels' sources on the CPU) against the same loops on the CPU.

namespace carousel::test {
namespace {

constexpr int kDevice = 63;
constexpr std::int64_t kVocab = 19, kSize = 6, kRows = 23;

/// A bigram model, token -> embedding -> dropout -> linear -> cross-entropy, and its optimiser.
class Bigram {
public:
    explicit Bigram(const ModuleContext& context, const OptimizerOptions& options = {},
                    bool scales_loss = false)
        : context_(context),
          params_(context),
          embedding_(params_, "embedding", kVocab, kSize),
          linear_(params_, "output", kSize, kVocab),
          dropout_(context, 0.2, 4),
          loss_(context, kVocab, kRows),
          ids_(context, kRows),
          targets_(context, kRows),
          key_(2 * sizeof(std::uint64_t), context.device()) {
        params_.allocate();
        const auto bytes = [&](std::int64_t n) {
            return static_cast<std::size_t>(n) * dtype_bytes(context.dtype());
        };
        x_ = Buffer(bytes(kRows * kSize), context.device());
        dropped_ = Buffer(x_.bytes(), context.device());
        logits_ = Buffer(bytes(kRows * kVocab), context.device());
        clip_ = std::make_unique<GradClip>(params_, 0.05);
        optimizer_ = std::make_unique<Optimizer>(params_, *clip_, options);
        if (scales_loss) {
            scaler_ = std::make_unique<LossScaler>(context);
            clip_->set_loss_scaler(scaler_.get());
            loss_.set_loss_scaler(scaler_.get());
        }
        write_masters(numbers(static_cast<std::size_t>(params_.numel()), 1, 0.5));
    }

    /// What differs from step to step goes to the device.
    void upload(int step) {
        const auto seed = static_cast<std::uint64_t>(step);
        ids_.upload(ids(kRows, kVocab, 100 + seed).data(), kRows);
        std::vector<std::int32_t> targets = ids(kRows, kVocab, 100 + seed);
        for (std::int32_t& target : targets) target = (target * 7 + 3) % kVocab;
        targets[static_cast<std::size_t>(step)] = kIgnoreTarget;
        targets_.upload(targets.data(), kRows);
        const std::uint64_t key[2] = {5, seed};
        context_.ops().upload(key_.data(), key, sizeof key);
        optimizer_->set_lr(0.02 + 0.01 * step);
    }
    /// Forward, backward, clipping and update: nothing but what the device reads from its memory.
    void enqueue() {
        const auto* key = key_.as<std::uint64_t>();
        const std::int64_t numel = kRows * kSize;
        embedding_.forward(ids_, kRows, x_.data());
        dropout_.apply(x_.data(), numel, key, dropped_.data());
        linear_.forward_no_bias(dropped_.data(), kRows, logits_.data());
        loss_.enqueue(logits_.data(), linear_.bias_data(), targets_, kRows, 1.0 / (kRows - 1),
                      logits_.data());
        linear_.backward(dropped_.data(), kRows, logits_.data(), x_.data());
        dropout_.apply(x_.data(), numel, key, x_.data());
        embedding_.backward(ids_, kRows, x_.data());
        clip_->measure();
        optimizer_->step();
    }
    double step(int number) {
        upload(number);
        enqueue();
        return loss_.finish_read(loss_.begin_read()).mean();
    }

    std::vector<double> masters() const {
        return read(params_.flat_masters(), context_.ops().state_dtype());
    }
    std::vector<double> values() const { return read(params_.flat_values(), context_.dtype()); }

    ModuleContext context_;
    ParameterSet params_;
    Embedding embedding_;
    Linear linear_;
    Dropout dropout_;
    SoftmaxCrossEntropy loss_;
    IdBuffer ids_, targets_;
    Buffer key_, x_, dropped_, logits_;
    std::unique_ptr<GradClip> clip_;
    std::unique_ptr<Optimizer> optimizer_;
    std::unique_ptr<LossScaler> scaler_;

private:
    std::vector<double> read(const void* data, DType dtype) const {
        const auto n = static_cast<std::size_t>(params_.numel());
        const NnTensor copy(dtype, n, "copy");
        context_.ops().download(copy.data(), data, n * dtype_bytes(dtype));
        return copy.read();
    }
    void write_masters(const std::vector<double>& values) {
        const DType wide = context_.ops().state_dtype();
        const NnTensor copy(wide, values, "initial values");
        context_.ops().upload(params_.flat_masters(), copy.data(),
                              values.size() * dtype_bytes(wide));
        params_.values_from_masters();
    }
};

ModuleContext cuda_context(DType dtype) { return ModuleContext(dtype, Device::cuda(kDevice)); }
ModuleContext cpu_context(DType dtype) {
    return ModuleContext(dtype, Device::cpu(), std::make_shared<ThreadPool>(1));
}

const std::vector<OptimizerOptions>& optimizers() {
    static const std::vector<OptimizerOptions> all = [] {
        std::vector<OptimizerOptions> options(4);
        options[0].kind = OptimizerKind::kSgd;
        options[1].kind = OptimizerKind::kSgd;
        options[1].momentum = 0.9;
        options[2].kind = OptimizerKind::kRmsprop;
        options[2].clip_value = 0.01;
        options[3].kind = OptimizerKind::kAdamW;
        options[3].weight_decay = 0.05;
        return options;
    }();
    return all;
}

TEST(SimtTraining, LoopsMatchTheCpu) {
    for (const simt::Options& schedule : nn_schedules()) {
        const simt::InstalledDevice device(kDevice, {schedule});
        for (const OptimizerOptions& options : optimizers()) {
            SCOPED_TRACE(optimizer_name(options.kind));
            for (const DType dtype : {DType::kF64, DType::kF32}) {
                Bigram cpu(cpu_context(dtype), options), cuda(cuda_context(dtype), options);
                // RMSProp divides by roots of tiny squares: rounding of the gradient grows there.
                const double limit = 4096 * unit_roundoff(dtype);
                for (int t = 0; t < 4; ++t) {
                    const double expected = cpu.step(t);
                    EXPECT_NEAR(cuda.step(t), expected, limit * expected);
                    EXPECT_NEAR(cuda.clip_->read().norm, cpu.clip_->read().norm, limit);
                }
                expect_near(cuda.values(), cpu.values(), limit, "parameters");
                EXPECT_EQ(cuda.optimizer_->applied_steps(), 4);
            }
        }
    }
}

TEST(SimtTraining, NarrowTypesFollowF32WithMasterWeights) {
    const simt::InstalledDevice device(kDevice);
    for (const DType dtype : {DType::kBf16, DType::kF16}) {
        for (const bool scales : {false, true}) {
            Bigram wide(cuda_context(DType::kF32)), narrow(cuda_context(dtype), {}, scales);
            for (int t = 0; t < 6; ++t) {
                const double expected = wide.step(t);
                EXPECT_NEAR(narrow.step(t), expected, 2e-2 * expected);
                EXPECT_NEAR(narrow.clip_->read().norm, wide.clip_->read().norm,
                            5e-2 * wide.clip_->read().norm);
            }
            EXPECT_EQ(narrow.values(), rounded(narrow.masters(), dtype));
            EXPECT_EQ(narrow.optimizer_->applied_steps(), 6);
            // Adam's steps are smaller than a unit of bf16: without masters they would be lost.
            expect_near(narrow.masters(), wide.masters(), 6 * 0.08, "masters");
        }
    }
}

TEST(SimtTraining, OverflowInF16LowersTheScaleAndSkips) {
    const simt::InstalledDevice device(kDevice);
    Bigram model(cuda_context(DType::kF16), {}, true);
    // Gradients of a loss scaled by 2^24 / (kRows - 1) leave the range of f16, 65504.
    LossScale state;
    model.context_.ops().download(&state, model.scaler_->state(), sizeof state);
    state.scale = 16777216.0;
    model.context_.ops().upload(model.scaler_->state(), &state, sizeof state);
    const std::vector<double> before = model.values();
    int skipped = 0;
    for (; skipped < 12; ++skipped) {
        model.step(0);
        if (!model.clip_->read().skipped) break;
        EXPECT_EQ(model.values(), before);
        EXPECT_EQ(model.optimizer_->applied_steps(), 0);
    }
    EXPECT_GE(skipped, 1);
    EXPECT_LT(skipped, 12);
    EXPECT_EQ(model.scaler_->scale(), 16777216.0 * std::pow(0.5, skipped));
    EXPECT_NE(model.values(), before);
    EXPECT_EQ(model.optimizer_->applied_steps(), 1);
}

TEST(SimtTraining, AGraphOfAStepSeesNewBatchesKeysAndLearningRates) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
        const simt::InstalledDevice device(kDevice);
        OptimizerOptions options;
        options.kind = OptimizerKind::kAdamW;
        options.weight_decay = 0.05;
        Bigram direct(cuda_context(dtype), options), replayed(cuda_context(dtype), options);
        const double first = direct.step(0);
        EXPECT_EQ(replayed.step(0), first);  // the warm-up
        cuda::DeviceApi& api = *cuda::device_api(kDevice);
        const cuda::Queue queue = api.default_queue();
        api.begin_capture(queue);
        replayed.enqueue();
        void* graph = api.end_capture(queue, true);
        ASSERT_NE(graph, nullptr);
        for (int t = 1; t < 5; ++t) {
            const double expected = direct.step(t);
            replayed.upload(t);
            api.launch_graph(queue, graph);
            const auto ticket = replayed.loss_.begin_read();
            EXPECT_EQ(replayed.loss_.finish_read(ticket).mean(), expected);
            EXPECT_EQ(replayed.masters(), direct.masters());
        }
        EXPECT_EQ(replayed.optimizer_->applied_steps(), 5);
        api.release_graph(graph);
    }
}

TEST(SimtTraining, AStepNeitherWaitsNorAllocates) {
    simt::InstalledDevice device(kDevice);
    Bigram model(cuda_context(DType::kF32));
    model.step(0);
    device->synchronize(device->default_queue());
    device->reset_counts();
    model.upload(1);
    model.enqueue();
    const auto loss = model.loss_.begin_read();
    const auto norm = model.clip_->begin_read();
    EXPECT_EQ(device->counts().host_waits, 0);
    EXPECT_EQ(device->counts().allocations, 0);
    EXPECT_GT(device->counts().launches, 10);
    EXPECT_GT(model.clip_->finish_read(norm).norm, 0.0);
    EXPECT_EQ(model.loss_.finish_read(loss).count, kRows - 1);
}

TEST(SimtTraining, HostIdsAndTargetsAreCheckedAndStaged) {
    const simt::InstalledDevice device(kDevice);
    Bigram cpu(cpu_context(DType::kF32)), cuda(cuda_context(DType::kF32));
    const std::vector<std::int32_t> id = ids(kRows, kVocab, 3), target = ids(kRows, kVocab, 4);
    double losses[2];
    int i = 0;
    for (Bigram* model : {&cpu, &cuda}) {
        model->embedding_.forward(id.data(), kRows, model->x_.data());
        model->linear_.forward(model->x_.data(), kRows, model->logits_.data());
        losses[i++] = model->loss_
                          .run(model->logits_.data(), nullptr, target.data(), kRows, 1.0,
                               model->logits_.data())
                          .loss_sum;
        model->linear_.backward(model->x_.data(), kRows, model->logits_.data(), model->x_.data());
        for (int repeat = 0; repeat < 2; ++repeat) {  // the second clears the first
            model->embedding_.backward(id.data(), kRows, model->x_.data());
        }
        clip_grad_value(model->params_, 0.5);
        model->clip_->measure();
        model->clip_->apply();
        EXPECT_EQ(model->clip_->read().scale, 1.0);
        model->clip_->measure();
        EXPECT_NEAR(model->clip_->read().norm, 0.05, 1e-4);
        std::vector<std::int32_t> bad = id;
        bad[5] = kVocab;
        expect_error(ErrorCode::kInvalidArgument, "ids",
                     [&] { model->embedding_.forward(bad.data(), kRows, model->x_.data()); });
    }
    EXPECT_NEAR(losses[1], losses[0], 1e-5 * losses[0]);
    cpu.optimizer_->step(0.1);
    cuda.optimizer_->step(0.1);
    expect_near(cuda.values(), cpu.values(), 1e-5, "parameters");
}

TEST(SimtTraining, BadIdsOnTheDeviceAreReportedWithTheLoss) {
    const simt::InstalledDevice device(kDevice);
    Bigram model(cuda_context(DType::kF32));
    model.step(0);
    model.upload(1);
    std::vector<std::int32_t> bad = ids(kRows, kVocab, 5);
    bad[7] = 1000000;
    model.ids_.upload(bad.data(), kRows);
    bad[7] = -2;
    model.targets_.upload(bad.data(), kRows);
    model.enqueue();
    const auto ticket = model.loss_.begin_read();
    const std::string text = expect_error(ErrorCode::kInvalidArgument, "vocabulary",
                                          [&] { model.loss_.finish_read(ticket); });
    EXPECT_NE(text.find("token"), std::string::npos) << text;
    EXPECT_NE(text.find("target"), std::string::npos) << text;
    EXPECT_GT(model.step(2), 0.0);  // told once
}

TEST(SimtTraining, CountersCanBeSet) {
    const simt::InstalledDevice device(kDevice);
    Bigram model(cuda_context(DType::kF32));
    model.optimizer_->set_applied_steps(41);
    model.step(0);
    EXPECT_EQ(model.optimizer_->applied_steps(), 42);
    for (const Optimizer::StateTensor& state : model.optimizer_->state()) {
        EXPECT_EQ(state.view.dtype, DType::kF32);
        EXPECT_EQ(state.view.device, Device::cuda(kDevice));
    }
}

}  // namespace
}  // namespace carousel::test
