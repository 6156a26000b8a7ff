#include "bench/cpu/cpu_venue.hpp"

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "bench/cpu/cpu_bound.hpp"
#include "bench/cpu/fma_peak.hpp"
#include "bench/cpu/handoff.hpp"
#include "bench/cpu/read_bandwidth.hpp"

namespace carousel::bench {

namespace {

constexpr std::size_t kFewest = 3;  // repetitions of a turn, if they are short

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/// One side and pass.
class CpuContender {
public:
    CpuContender(const CpuVenue& venue, Side& side, Pass pass)
        : rest_ms_(venue.rest_ms),
          lengths_(venue.turn),
          long_ms_(venue.long_repetition_ms),
          side_(side),
          pass_(pass) {}

    void warm_up() {
        begin();
        one_ms_ = repetition_ms();
        if (one_ms_ < long_ms_) one_ms_ = repetition_ms();
    }

    double turn_ms() {
        std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(rest_ms_));
        const bool is_long = one_ms_ >= long_ms_;
        const TurnLengths lengths = is_long ? TurnLengths{} : lengths_;
        if (const auto own = side_.own_turn_ms(pass_, lengths); own.has_value()) return *own;
        begin();
        if (is_long) return repetition_ms();
        for (const double start = now_ms(); now_ms() - start < lengths.lead_in_ms;) repetition_ms();
        std::vector<double> turn;
        for (const double start = now_ms();
             turn.size() < kFewest || now_ms() - start < lengths.timed_ms;) {
            turn.push_back(repetition_ms());
        }
        return quantiles_of(turn).median;
    }

private:
    bool backward_alone() const { return pass_ == Pass::kBackward || pass_ == Pass::kBackwardData; }
    /// What a backward pass starts from.
    void begin() {
        if (backward_alone()) side_.forward({}, true);
    }
    double repetition_ms() {
        if (backward_alone() && side_.backward_changes_reserve()) side_.forward({}, true);
        const double start = now_ms();
        run_pass(side_, pass_, {});
        return now_ms() - start;
    }

    double rest_ms_;
    TurnLengths lengths_;
    double long_ms_;
    Side& side_;
    Pass pass_;
    double one_ms_ = 0.0;
};

}  // namespace

std::vector<Contender> CpuVenue::contenders(Side& side, Arena&, Pass pass) {
    const auto held = std::make_shared<CpuContender>(*this, side, pass);
    Contender contender;
    contender.name = side.name();
    contender.warm_up = [held] { held->warm_up(); };
    contender.turn = [held] { return held->turn_ms(); };
    std::vector<Contender> made;
    made.push_back(std::move(contender));
    return made;
}

double CpuVenue::trial_ms(Side& side, Arena&, Pass pass) {
    CpuContender contender(*this, side, pass);
    contender.warm_up();
    return contender.turn_ms();
}

std::map<std::string, double> CpuVenue::look(const GridCase& c) {
    if (!looks) return {};
    return {{"peak_gflops", measure_fma_peak_gflops(num_threads_)},
            {"read_gb_s", measure_read_gb_s(recurrent_weight_bytes(c), num_threads_)},
            {"handoff_ns", measure_handoff_ns()}};
}

}  // namespace carousel::bench
