#include "src/cli/train_progress.hpp"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "carousel/loss.hpp"
#include "src/cli/common.hpp"

namespace carousel::cli {

namespace {

constexpr auto kLiveInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(5);
// The shown loss is a mean over about the last 1/(1-kSmoothing) updates.
constexpr double kSmoothing = 0.95;

}  // namespace

std::string duration_text(double seconds) {
    const auto whole = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
    char text[48];
    if (whole >= 3600) {
        std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld",
                      static_cast<long long>(whole / 3600), static_cast<long long>(whole / 60 % 60),
                      static_cast<long long>(whole % 60));
    } else {
        std::snprintf(text, sizeof(text), "%lld:%02lld", static_cast<long long>(whole / 60),
                      static_cast<long long>(whole % 60));
    }
    return text;
}

TrainProgress::TrainProgress(std::int64_t first_step, std::int64_t total_steps,
                             std::int64_t batch_size)
    : terminal_(::isatty(STDERR_FILENO) == 1),
      first_step_(first_step),
      total_steps_(total_steps),
      batch_size_(batch_size),
      step_(first_step),
      start_(Clock::now()),
      shown_(start_) {}

TrainProgress::~TrainProgress() { finish(); }

void TrainProgress::update(std::int64_t step, const train::LmTrainer::StepResult& result) {
    step_ = step;
    chars_ += result.steps * batch_size_;
    if (!result.skipped) {
        smooth_loss_ = kSmoothing * smooth_loss_ + (1.0 - kSmoothing) * result.loss();
        loss_weight_ = kSmoothing * loss_weight_ + (1.0 - kSmoothing);
    }
    lr_ = result.lr;
    grad_norm_ = result.grad_norm;
    const auto now = Clock::now();
    if (now - shown_ <
        (terminal_ ? Clock::duration(kLiveInterval) : Clock::duration(kPlainInterval))) {
        return;
    }
    show();
}

void TrainProgress::validation(double loss) { validation_loss_ = loss; }

double TrainProgress::seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_ - paused_).count();
}

double TrainProgress::chars_per_second() const {
    const double time = seconds();
    return time > 0.0 ? static_cast<double>(chars_) / time : 0.0;
}

void TrainProgress::pause_clock() { paused_at_ = Clock::now(); }
void TrainProgress::resume_clock() { paused_ += Clock::now() - paused_at_; }

std::string TrainProgress::line() const {
    const double loss = loss_weight_ > 0.0 ? smooth_loss_ / loss_weight_ : 0.0;
    char text[256];
    int used = std::snprintf(text, sizeof(text), "step %lld/%lld  loss %.4f  bits/char %.3f",
                             static_cast<long long>(step_), static_cast<long long>(total_steps_),
                             loss, bits_per_char(loss));
    std::string line(text, static_cast<std::size_t>(used));
    if (validation_loss_ >= 0.0) {
        used = std::snprintf(text, sizeof(text), "  val %.4f", validation_loss_);
        line.append(text, static_cast<std::size_t>(used));
    }
    const std::int64_t done = step_ - first_step_;
    const double eta =
        done > 0 ? seconds() / static_cast<double>(done) * static_cast<double>(total_steps_ - step_)
                 : 0.0;
    used = std::snprintf(text, sizeof(text), "  lr %.3g  grad %.3g  %.0f chars/s  ETA ", lr_,
                         grad_norm_, chars_per_second());
    line.append(text, static_cast<std::size_t>(used));
    return line + duration_text(eta);
}

void TrainProgress::show() {
    shown_ = Clock::now();
    if (!terminal_) {
        note(line());
        return;
    }
    const std::string text = "\r" + line() + "\x1b[K";
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
    live_ = true;
}

void TrainProgress::finish() {
    if (!live_) return;
    std::fputc('\n', stderr);
    live_ = false;
}

}  // namespace carousel::cli
