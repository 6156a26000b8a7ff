#include "bench/core/driver.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>

namespace carousel::bench {

namespace {

double steady_now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/// Checks and warms up; what is wrong goes to the standing.
void admit(const Contender& contender, const DriverOptions& options, Standing& standing) {
    try {
        if (contender.check) standing.error = contender.check();
        if (!(standing.error <= options.allowed_error)) {
            std::array<char, 128> text{};
            std::snprintf(text.data(), text.size(),
                          "wrong result: error %.2g, relative; allowed is %.2g", standing.error,
                          options.allowed_error);
            standing.refused = text.data();
            return;
        }
        if (contender.warm_up) contender.warm_up();
    } catch (const std::exception& error) {
        standing.refused = error.what();
    }
}

bool running(const Standing& standing) { return standing.refused.empty(); }

/// A contender that left the race early keeps its turns, and is no longer called.
struct Lane {
    const Contender* contender;
    Standing* standing;
    bool racing;
};

void take_turn(Lane& lane) {
    if (!lane.racing) return;
    try {
        lane.standing->turns_ms.push_back(lane.contender->turn());
    } catch (const std::exception& error) {
        lane.standing->refused = error.what();
        lane.standing->turns_ms.clear();
        lane.racing = false;
    }
}

void drop_slow(std::vector<Lane>& peers, double factor) {
    double best = -1.0;
    for (const Lane& lane : peers) {
        if (!lane.racing || !lane.contender->is_peer) continue;
        const double ms = quantiles_of(lane.standing->turns_ms).median;
        if (best < 0.0 || ms < best) best = ms;
    }
    for (Lane& lane : peers) {
        if (lane.racing && lane.contender->is_peer &&
            quantiles_of(lane.standing->turns_ms).median > factor * best) {
            lane.racing = false;
        }
    }
}

void judge(Verdict& verdict) {
    verdict.ours.ms = quantiles_of(verdict.ours.turns_ms);
    // Those that left early were slower than one that stayed, by the same rounds.
    for (std::size_t i = 0; i < verdict.peers.size(); ++i) {
        Standing& peer = verdict.peers[i];
        if (!running(peer) || peer.turns_ms.empty() || !running(verdict.ours)) continue;
        peer.ms = quantiles_of(peer.turns_ms);
        std::vector<double> ratios;
        for (std::size_t turn = 0;
             turn < std::min(peer.turns_ms.size(), verdict.ours.turns_ms.size()); ++turn) {
            ratios.push_back(peer.turns_ms[turn] / verdict.ours.turns_ms[turn]);
        }
        peer.ratio = quantiles_of(ratios);
        if (!peer.is_peer) continue;
        const Standing* best = verdict.best_peer();
        if (best == nullptr || peer.turns_ms.size() > best->turns_ms.size() ||
            (peer.turns_ms.size() == best->turns_ms.size() && peer.ms.median < best->ms.median)) {
            verdict.best = static_cast<int>(i);
        }
    }
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

Verdict compare(const Contender& ours, const std::vector<Contender>& peers,
                const DriverOptions& options) {
    const auto now = options.now_ms ? options.now_ms : steady_now_ms;
    Verdict verdict;
    verdict.ours.name = ours.name;
    verdict.peers.resize(peers.size());
    admit(ours, options, verdict.ours);
    std::vector<Lane> lanes;
    for (std::size_t i = 0; i < peers.size(); ++i) {
        Standing& standing = verdict.peers[i];
        standing.name = peers[i].name;
        standing.is_peer = peers[i].is_peer;
        admit(peers[i], options, standing);
        lanes.push_back({&peers[i], &standing, running(standing)});
    }
    Lane lane_of_ours{&ours, &verdict.ours, running(verdict.ours)};
    const double begin = now();
    for (int round = 0;
         lane_of_ours.racing && (round < options.min_pairs || now() - begin < options.budget_ms);
         ++round) {
        // Who begins changes from round to round: neither side always runs after the other.
        if (round % 2 == 0) take_turn(lane_of_ours);
        for (Lane& lane : lanes) take_turn(lane);
        if (round % 2 == 1) take_turn(lane_of_ours);
        if (round + 1 == options.pairs_before_dropping) drop_slow(lanes, options.drop_factor);
    }
    judge(verdict);
    return verdict;
}

}  // namespace carousel::bench
