#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "carousel/tensor.hpp"
#include "simt/simt_device.hpp"
#include "src/data/batcher.hpp"
#include "src/train/lm_trainer.hpp"

// Language models small enough for the executor, on a CUDA device and on the CPU.

namespace carousel::test {

inline constexpr int kTrainDevice = 63;
inline constexpr std::int64_t kTrainVocab = 20;

/// V 20, H 8, L 2, N 3, T 5.
train::LmConfig tiny_lm(Device device, DType dtype = DType::kF32);
inline Device simt_cuda() { return Device::cuda(kTrainDevice); }

/// A text that a model can learn something of.
std::vector<std::int32_t> tiny_text(std::int64_t count);

/// A trainer and its batches.
class TinyRun {
public:
    explicit TinyRun(const train::LmConfig& config);

    train::LmTrainer::StepResult step() { return trainer.step(*batcher); }
    std::vector<train::LmTrainer::StepResult> steps(int count);

    std::vector<double> masters() const;
    std::vector<double> optimizer_state();
    std::vector<double> carried();  ///< h, then c

    train::LmTrainer trainer;
    std::unique_ptr<data::Batcher> batcher;

private:
    std::vector<std::int32_t> text_;
};

/// Numbers of a tensor on any device.
std::vector<double> read_numbers(const void* data, std::size_t numel, DType dtype, Device device);
void write_numbers(void* data, const std::vector<double>& values, DType dtype, Device device);

/// Both runs step alike: losses and norms within `limit` relatively, masters and carried state
/// within `limit` absolutely.
void expect_runs_match(const train::LmConfig& config, int steps, double limit);

}  // namespace carousel::test
