#include "bench/gpu/gpu_venue.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/cuda/graph_cache.hpp"

namespace carousel::bench {

namespace {

constexpr int kMaxRepetitions = 200;

/// One side, pass and way of enqueuing.
class GpuContender {
public:
    GpuContender(const GpuVenue& venue, Side& side, Arena& arena, Pass pass, Replay replay)
        : venue_(venue), side_(side), arena_(arena), pass_(pass), replay_(replay) {
        if (replay == Replay::kGraph) graphs_ = std::make_shared<cuda::GraphCache>(venue.api);
        // One side and pass on fixed buffers: no other key is ever used in this cache.
        cuda::GraphKey key;
        key.add(side.name()).add(static_cast<std::int64_t>(pass));
        key_ = key.bytes();
    }

    std::string name() const { return side_.name() + " " + replay_name(replay_); }
    /// Once: runs twice, records the graph, and finds how many repetitions make a turn.
    void warm_up();
    double turn_ms() {
        begin_turn();
        return timed_ms(repetitions_);
    }

private:
    bool backward_alone() const { return pass_ == Pass::kBackward || pass_ == Pass::kBackwardData; }
    bool restores_reserve() const { return backward_alone() && side_.backward_changes_reserve(); }
    void enqueue(cuda::Queue queue) { run_pass(side_, pass_, {queue.native}); }
    void begin_turn();
    void prepare();
    void run();
    double timed_ms(int repetitions);

    const GpuVenue venue_;
    Side& side_;
    Arena& arena_;
    Pass pass_;
    Replay replay_;
    std::shared_ptr<cuda::GraphCache> graphs_;
    std::string key_;
    int repetitions_ = 1;
    bool warm_ = false;
};

void GpuContender::run() {
    if (graphs_ != nullptr) {
        graphs_->run(key_, venue_.queue, [this](cuda::Queue queue) { enqueue(queue); });
    } else {
        enqueue(venue_.queue);
    }
}

void GpuContender::begin_turn() {
    if (!backward_alone()) return;
    side_.forward(venue_.stream(), true);
    if (side_.backward_changes_reserve() && arena_.saved_reserve.data() != nullptr) {
        venue_.api->copy(venue_.queue, arena_.saved_reserve.data(), arena_.reserve.data(),
                         side_.reserve_bytes());
    }
}

void GpuContender::prepare() {
    if (restores_reserve()) {
        if (arena_.saved_reserve.data() != nullptr) {
            venue_.api->copy(venue_.queue, arena_.reserve.data(), arena_.saved_reserve.data(),
                             side_.reserve_bytes());
        } else {
            side_.forward(venue_.stream(), true);
        }
    }
    if (venue_.flush_bytes > 0) {
        venue_.api->zero(venue_.queue, venue_.flush_memory, venue_.flush_bytes);
    }
}

double GpuContender::timed_ms(int repetitions) {
    if (venue_.flush_bytes == 0 && !restores_reserve()) {
        venue_.timer->mark(venue_.queue, 0);
        for (int i = 0; i < repetitions; ++i) run();
        venue_.timer->mark(venue_.queue, 1);
        return venue_.timer->between_ms(0, 1) / repetitions;
    }
    // All repetitions are enqueued before anything is read back, so that the card never waits for us.
    for (int i = 0; i < repetitions; ++i) {
        prepare();
        venue_.timer->mark(venue_.queue, 2 * i);
        run();
        venue_.timer->mark(venue_.queue, 2 * i + 1);
    }
    std::vector<double> times;
    for (int i = 0; i < repetitions; ++i) {
        times.push_back(venue_.timer->between_ms(2 * i, 2 * i + 1));
    }
    return quantiles_of(times).median;
}

void GpuContender::warm_up() {
    if (warm_) return;
    begin_turn();
    prepare();
    run();
    venue_.api->synchronize(venue_.queue);
    if (graphs_ != nullptr) {
        const auto record = [this](cuda::Queue queue) { enqueue(queue); };
        if (!graphs_->prepare(key_, venue_.queue, record)) {
            throw Error(ErrorCode::kUnsupported, "no graph: " + graphs_->describe());
        }
    }
    begin_turn();
    timed_ms(1);
    const double ms = timed_ms(1);
    const double wanted = ms > 0.0 ? venue_.turn_ms / ms : kMaxRepetitions;
    const int least = ms < venue_.turn_ms ? venue_.min_repetitions : 1;
    repetitions_ = static_cast<int>(
        std::clamp(std::ceil(wanted), static_cast<double>(least), double{kMaxRepetitions}));
    warm_ = true;
}

}  // namespace

const char* replay_name(Replay replay) noexcept {
    return replay == Replay::kGraph ? "graph" : "stream";
}

std::vector<Contender> GpuVenue::contenders(Side& side, Arena& arena, Pass pass) {
    std::vector<Contender> made;
    for (const Replay replay : {Replay::kGraph, Replay::kStream}) {
        // Holds on to the graph as long as the driver holds the functions.
        const auto held = std::make_shared<GpuContender>(*this, side, arena, pass, replay);
        Contender contender;
        contender.name = held->name();
        contender.warm_up = [held] { held->warm_up(); };
        contender.turn = [held] { return held->turn_ms(); };
        made.push_back(std::move(contender));
    }
    return made;
}

double GpuVenue::trial_ms(Side& side, Arena& arena, Pass pass) {
    GpuVenue once = *this;
    once.turn_ms = 0.0;
    const auto trial = [&](Replay replay) {
        GpuContender contender(once, side, arena, pass, replay);
        contender.warm_up();
        return contender.turn_ms();
    };
    try {
        return trial(Replay::kGraph);
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kDeviceLost) throw;
        return trial(Replay::kStream);
    }
}

}  // namespace carousel::bench
