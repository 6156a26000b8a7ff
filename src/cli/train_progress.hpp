#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "src/train/lm_trainer.hpp"

namespace carousel::cli {

/// What the user sees while training: one line that is rewritten on a terminal, a line now and then
/// elsewhere. On stderr.
class TrainProgress {
public:
    TrainProgress(std::int64_t first_step, std::int64_t total_steps, std::int64_t batch_size);
    ~TrainProgress();

    void update(std::int64_t step, const train::LmTrainer::StepResult& result);
    void validation(double loss);
    /// Ends the live line, if there is one, so that other text can follow.
    void finish();
    /// Shows the newest numbers now.
    void show();

    /// Input characters per second since the start, evaluations and saving left out.
    double chars_per_second() const;
    /// Leaves the time until resume_clock() out of the speed.
    void pause_clock();
    void resume_clock();

private:
    using Clock = std::chrono::steady_clock;
    std::string line() const;
    double seconds() const;

    bool terminal_;
    bool live_ = false;  ///< a line without newline is on the terminal
    std::int64_t first_step_, total_steps_, batch_size_;
    std::int64_t step_;
    std::int64_t chars_ = 0;
    double smooth_loss_ = 0.0, loss_weight_ = 0.0;
    double validation_loss_ = -1.0;
    double lr_ = 0.0, grad_norm_ = 0.0;
    Clock::time_point start_, shown_, paused_at_;
    Clock::duration paused_{};
};

/// "1:02:03" or "2:03".
std::string duration_text(double seconds);

}  // namespace carousel::cli
