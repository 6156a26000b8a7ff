#include "bench/side_by_side.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

// Longer than a thread of GCC's OpenMP runtime spins with a core to itself (300,000 rounds: 7 ms).
constexpr double kRestMs = 12.0;
constexpr double kLeadInMs = 4.0;
constexpr double kTurnMs = 12.0;
constexpr double kLongRepetitionMs = 20.0;

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

}  // namespace

void time_side_by_side(std::vector<Contestant>& contestants, double budget_ms, int min_rounds) {
    double slowest = 0.0;
    for (const Contestant& contestant : contestants) {
        contestant.run();
        slowest = std::max(slowest, timed_ms(contestant));
    }
    std::vector<Contender> contenders(contestants.size());
    for (std::size_t i = 0; i < contestants.size(); ++i) {
        Contestant& contestant = contestants[i];
        contenders[i].name = contestant.name;
        contenders[i].turn = [&contestant, slowest] {
            take_turn(contestant, slowest);
            return contestant.turns_ms.back();
        };
    }
    DriverOptions options;
    options.budget_ms = budget_ms;
    options.min_pairs = min_rounds;
    const Contender ours = contenders.front();
    contenders.erase(contenders.begin());
    const Verdict verdict = compare(ours, contenders, options);
    if (!verdict.ours.refused.empty()) {
        throw Error(ErrorCode::kInternal, ours.name + ": " + verdict.ours.refused);
    }
    // What left early is no longer compared.
    std::vector<Contestant> kept{std::move(contestants.front())};
    for (std::size_t i = 0; i < verdict.peers.size(); ++i) {
        const Standing& peer = verdict.peers[i];
        if (!peer.refused.empty()) {
            throw Error(ErrorCode::kInternal, peer.name + ": " + peer.refused);
        }
        if (peer.turns_ms.size() == kept.front().turns_ms.size()) {
            kept.push_back(std::move(contestants[i + 1]));
        }
    }
    contestants = std::move(kept);
}

}  // namespace carousel::bench
