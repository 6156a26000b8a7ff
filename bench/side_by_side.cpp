#include "bench/side_by_side.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace carousel::bench {

namespace {

// Longer than a thread of GCC's OpenMP runtime spins with a core to itself (300,000 rounds: 7 ms).
constexpr double kRestMs = 12.0;
constexpr double kLeadInMs = 4.0;
constexpr double kTurnMs = 12.0;
constexpr double kLongRepetitionMs = 20.0;
constexpr double kDropFactor = 1.2;
constexpr int kRoundsBeforeDropping = 2;

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

double timed_ms(const Contestant& contestant) {
    const double begin = now_ms();
    contestant.run();
    return now_ms() - begin;
}

void take_turn(Contestant& contestant, double repetition_ms) {
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(kRestMs));
    if (repetition_ms >= kLongRepetitionMs) {
        contestant.times_ms.push_back(timed_ms(contestant));
        contestant.turns_ms.push_back(contestant.times_ms.back());
        return;
    }
    for (const double begin = now_ms(); now_ms() - begin < kLeadInMs;) contestant.run();
    std::vector<double> turn;
    for (const double begin = now_ms(); turn.size() < 3 || now_ms() - begin < kTurnMs;) {
        turn.push_back(timed_ms(contestant));
    }
    contestant.times_ms.insert(contestant.times_ms.end(), turn.begin(), turn.end());
    contestant.turns_ms.push_back(quantiles_of(turn).median);
}

/// Keeps contestants[0] and those of the others that may be the best of them.
void drop_slow_peers(std::vector<Contestant>& contestants) {
    double best = quantiles_of(contestants[1].turns_ms).median;
    for (std::size_t i = 2; i < contestants.size(); ++i) {
        best = std::min(best, quantiles_of(contestants[i].turns_ms).median);
    }
    const auto slow = [&](const Contestant& contestant) {
        return quantiles_of(contestant.turns_ms).median > kDropFactor * best;
    };
    contestants.erase(std::remove_if(contestants.begin() + 1, contestants.end(), slow),
                      contestants.end());
}

}  // namespace

Quantiles quantiles_of(std::vector<double> values) {
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    const auto at = [&](double q) {
        const double place = q * static_cast<double>(values.size() - 1);
        const auto low = static_cast<std::size_t>(place);
        const std::size_t high = std::min(low + 1, values.size() - 1);
        return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
    };
    return {at(0.5), at(0.1), at(0.9)};
}

void time_side_by_side(std::vector<Contestant>& contestants, double budget_ms, int min_rounds) {
    std::vector<double> repetition_ms;
    for (const Contestant& contestant : contestants) {
        contestant.run();
        repetition_ms.push_back(timed_ms(contestant));
    }
    const double slowest = *std::max_element(repetition_ms.begin(), repetition_ms.end());
    const double begin = now_ms();
    for (int round = 0; round < min_rounds || now_ms() - begin < budget_ms; ++round) {
        for (Contestant& contestant : contestants) take_turn(contestant, slowest);
        if (round + 1 == kRoundsBeforeDropping && contestants.size() > 2) {
            drop_slow_peers(contestants);
        }
    }
}

}  // namespace carousel::bench
