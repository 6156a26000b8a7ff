#pragma once

#include "bench/core/venue.hpp"

namespace carousel::bench {

/// The CPU: wall clock.
///
/// Fairness. OpenMP's threads spin for milliseconds after their last region, on the very cores that the
/// next side needs, and ours do so for a shorter while. Every turn therefore begins with a rest in
/// which all of them go to sleep, and turns of short repetitions with an untimed lead-in, so that
/// threads and caches are as warm as a training loop has them.
class CpuVenue final : public Venue {
public:
    explicit CpuVenue(int num_threads) : num_threads_(num_threads) {}

    // Longer than a thread of GCC's OpenMP runtime spins with a core to itself (300,000 rounds: 7 ms).
    double rest_ms = 12.0;
    TurnLengths turn{4.0, 12.0};
    double long_repetition_ms = 20.0;  ///< from here on a turn is one repetition, without lead-in
    bool looks = true;                 ///< false: the machine is not measured

    Device device() const override { return Device::cpu(); }
    StreamRef stream() const override { return {}; }
    void wait() override {}
    std::vector<Contender> contenders(Side& side, Arena& arena, Pass pass) override;
    double trial_ms(Side& side, Arena& arena, Pass pass) override;
    /// "peak_gflops": fused multiply-adds of all threads; "read_gb_s": the recurrent weights, again and
    /// again; "handoff_ns": in which one thread sees what another wrote.
    std::map<std::string, double> look(const GridCase& c) override;

private:
    int num_threads_;
};

}  // namespace carousel::bench
