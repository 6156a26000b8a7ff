#include "bench/probes/measure.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <regex>
#include <utility>
#include <vector>

#include "bench/core/driver.hpp"
#include "bench/core/environment.hpp"
#include "bench/gpu/cuda_timer.hpp"
#include "bench/gpu/environment.hpp"
#include "carousel/error.hpp"

namespace carousel::bench::probes {

namespace {

constexpr int kTrials = 7;
constexpr std::size_t kScratchBytes = std::size_t{64} << 20;
constexpr std::size_t kClearedBytes = std::size_t{1} << 20;
constexpr std::size_t kFlagBytes = 128 * 32 * sizeof(std::uint32_t);

}  // namespace

void print(const Json& line) {
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
}

double rounded(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value);
    return std::strtod(text.data(), nullptr);
}

Probes::Probes(int device, const std::string& only, std::function<void()> alive)
    : api_(cuda::device_api(device)),
      queue_(api_->default_queue()),
      timer_(make_cuda_timer()),
      only_(only),
      alive_(std::move(alive)),
      device_(device),
      scratch_(kScratchBytes, api_->device(), "scratch of the probes"),
      flags_(kFlagBytes, api_->device(), "flags"),
      status_(256, api_->device(), "status") {
    scratch_.zero();
}

void Probes::header() const {
    const cuda::DeviceCaps& caps = api_->caps();
    print({{"probe", "machine"},
           {"gpu", caps.name},
           {"sms", caps.num_sms},
           {"driver_cuda", cuda_version_text(caps.driver_version)},
           {"cuda_runtime", cuda_version_text(caps.runtime_version)},
           {"cublaslt", cublaslt_version()},
           {"smi", smi_report(device_)},
           {"commit", source_commit()},
           {"date", utc_now()}});
}

void Probes::footer() const { print({{"probe", "end"}, {"smi", smi_report(device_)}}); }

bool Probes::wanted(const std::string& name) const {
    return std::regex_search(name, std::regex(only_));
}

void Probes::line(Json about, const std::function<void(Json&)>& measure) {
    alive_();
    try {
        measure(about);
    } catch (const Error& error) {
        about["error"] = error.what();
        if (error.code() == ErrorCode::kDeviceLost) {
            print(about);
            throw;
        }
    }
    print(about);
}

double Probes::queue_ms(const std::function<void()>& enqueue) {
    timer_->mark(queue_, 0);
    enqueue();
    timer_->mark(queue_, 1);
    return timer_->between_ms(0, 1);
}

double Probes::run_ms(const std::function<cuda::Launch(const Common&)>& make,
                      std::uint32_t iterations) {
    api_->zero(queue_, flags_.data(), flags_.bytes());
    api_->zero(queue_, scratch_.data(), kClearedBytes);
    api_->zero(queue_, status_.data(), status_.bytes());
    Common common;
    common.iterations = iterations;
    common.status = status_.as<std::uint32_t>();
    const cuda::Launch launch = make(common);
    const double ms = queue_ms([&] { api_->launch(queue_, launch); });
    api_->synchronize(queue_);
    std::uint32_t status = kFine;
    copy_to_host(&status, status_.data(), sizeof status, api_->device());
    if (status == kFine) return ms;
    throw Error(ErrorCode::kInternal,
                status == kTimedOut ? "a wait ran out" : "wrong data arrived");
}

double Probes::us_per_iteration(const std::function<cuda::Launch(const Common&)>& make,
                                std::uint32_t few, std::uint32_t many) {
    run_ms(make, few);
    std::vector<double> trials;
    for (int i = 0; i < kTrials; ++i) {
        const double short_ms = run_ms(make, few), long_ms = run_ms(make, many);
        trials.push_back((long_ms - short_ms) * 1e3 / static_cast<double>(many - few));
    }
    return quantiles_of(trials).median;
}

}  // namespace carousel::bench::probes
