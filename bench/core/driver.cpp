#include "bench/core/driver.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <map>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

double steady_now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/// Runs `body`; why it could not goes to the standing.
template <class Body>
void attempt(Standing& standing, Body body) {
    try {
        body();
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kDeviceLost) throw;
        standing.refused = error.what();
    } catch (const std::exception& error) {
        standing.refused = error.what();
    }
}

/// Checks and warms up; what is wrong goes to the standing.
void admit(const Contender& contender, const DriverOptions& options, Standing& standing) {
    attempt(standing, [&] {
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
    });
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
    attempt(*lane.standing, [&] { lane.standing->turns_ms.push_back(lane.contender->turn()); });
    if (running(*lane.standing)) return;
    lane.standing->turns_ms.clear();
    lane.racing = false;
}

/// The times of a lane that others of its group may leave for; negative: none.
double racing_ms(const Lane& lane) {
    if (!lane.racing || !lane.contender->is_peer) return -1.0;
    return quantiles_of(lane.standing->turns_ms).median;
}

void drop_slow(std::vector<Lane>& peers, double factor) {
    std::map<std::string, double> best;
    for (const Lane& lane : peers) {
        const double ms = racing_ms(lane);
        if (ms < 0.0) continue;
        const auto [of_group, first] = best.emplace(lane.contender->group, ms);
        if (!first) of_group->second = std::min(of_group->second, ms);
    }
    for (Lane& lane : peers) {
        if (racing_ms(lane) > factor * best[lane.contender->group]) lane.racing = false;
    }
}

void pair_up(const Standing& ours, Standing& peer) {
    const std::size_t pairs = std::min(peer.turns_ms.size(), ours.turns_ms.size());
    for (std::size_t turn = 0; turn < pairs; ++turn) {
        peer.ratios.push_back(peer.turns_ms[turn] / ours.turns_ms[turn]);
    }
}

void judge(Verdict& verdict) {
    verdict.ours.ms = quantiles_of(verdict.ours.turns_ms);
    verdict.best = -1;
    if (!running(verdict.ours)) return;
    std::size_t most = 0;
    for (Standing& peer : verdict.peers) {
        if (!running(peer)) continue;
        peer.ms = quantiles_of(peer.turns_ms);
        peer.ratio = quantiles_of(peer.ratios);
        if (peer.is_peer) most = std::max(most, peer.ratios.size());
    }
    for (std::size_t i = 0; i < verdict.peers.size(); ++i) {
        const Standing& peer = verdict.peers[i];
        // Those that left early were slower than one that stayed.
        const bool stayed = !peer.ratios.empty() && 2 * peer.ratios.size() >= most;
        if (!running(peer) || !peer.is_peer || !stayed) continue;
        const Standing* best = verdict.best_peer();
        if (best == nullptr || peer.ratio.median < best->ratio.median) {
            verdict.best = static_cast<int>(i);
        }
    }
}

void append(Standing& standing, const Standing& later) {
    if (standing.refused.empty()) standing.refused = later.refused;
    standing.turns_ms.insert(standing.turns_ms.end(), later.turns_ms.begin(), later.turns_ms.end());
    standing.ratios.insert(standing.ratios.end(), later.ratios.begin(), later.ratios.end());
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
    for (Standing& peer : verdict.peers) pair_up(verdict.ours, peer);
    judge(verdict);
    return verdict;
}

void append(Verdict& verdict, const Verdict& later) {
    append(verdict.ours, later.ours);
    for (const Standing& peer : later.peers) {
        const auto same = std::find_if(verdict.peers.begin(), verdict.peers.end(),
                                       [&](const Standing& s) { return s.name == peer.name; });
        if (same == verdict.peers.end()) {
            verdict.peers.push_back(peer);
        } else {
            append(*same, peer);
        }
    }
    judge(verdict);
}

}  // namespace carousel::bench
