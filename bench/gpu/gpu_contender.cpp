#include "bench/gpu/gpu_contender.hpp"

#include <algorithm>
#include <cmath>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

constexpr int kMaxRepetitions = 200;

}  // namespace

const char* replay_name(Replay replay) noexcept {
    return replay == Replay::kGraph ? "graph" : "stream";
}

GpuContender::GpuContender(const GpuBench& bench, GpuSide& side, GpuArena& arena, Pass pass,
                           Replay replay)
    : bench_(bench), side_(side), arena_(arena), pass_(pass), replay_(replay) {
    if (replay == Replay::kGraph) graphs_ = std::make_shared<cuda::GraphCache>(bench.api);
    // One side and pass on fixed buffers: no other key is ever used in this cache.
    cuda::GraphKey key;
    key.add(side.name()).add(static_cast<std::int64_t>(pass));
    key_ = key.bytes();
}

std::string GpuContender::name() const { return side_.name() + " " + replay_name(replay_); }

void GpuContender::run() {
    const auto enqueue = [this](cuda::Queue queue) { run_pass(side_, pass_, queue); };
    if (graphs_ != nullptr) {
        graphs_->run(key_, bench_.queue, enqueue);
    } else {
        enqueue(bench_.queue);
    }
}

void GpuContender::begin_turn() {
    if (!backward_alone()) return;
    side_.forward(bench_.queue, true);
    if (side_.backward_changes_reserve() && arena_.saved_reserve.data() != nullptr) {
        bench_.api->copy(bench_.queue, arena_.saved_reserve.data(), arena_.reserve.data(),
                         side_.reserve_bytes());
    }
}

void GpuContender::prepare() {
    if (backward_alone() && side_.backward_changes_reserve()) {
        if (arena_.saved_reserve.data() != nullptr) {
            bench_.api->copy(bench_.queue, arena_.reserve.data(), arena_.saved_reserve.data(),
                             side_.reserve_bytes());
        } else {
            side_.forward(bench_.queue, true);
        }
    }
    if (bench_.flush_bytes > 0) {
        bench_.api->zero(bench_.queue, bench_.flush_memory, bench_.flush_bytes);
    }
}

double GpuContender::timed_ms(int repetitions) {
    const bool untimed_between =
        bench_.flush_bytes > 0 || (backward_alone() && side_.backward_changes_reserve());
    if (!untimed_between) {
        bench_.timer->mark(bench_.queue, 0);
        for (int i = 0; i < repetitions; ++i) run();
        bench_.timer->mark(bench_.queue, 1);
        return bench_.timer->between_ms(0, 1) / repetitions;
    }
    // All repetitions are enqueued before anything is read back, so that the card never waits for us.
    for (int i = 0; i < repetitions; ++i) {
        prepare();
        bench_.timer->mark(bench_.queue, 2 * i);
        run();
        bench_.timer->mark(bench_.queue, 2 * i + 1);
    }
    std::vector<double> times;
    for (int i = 0; i < repetitions; ++i) {
        times.push_back(bench_.timer->between_ms(2 * i, 2 * i + 1));
    }
    return quantiles_of(times).median;
}

void GpuContender::warm_up() {
    begin_turn();
    prepare();
    run();
    bench_.api->synchronize(bench_.queue);
    if (graphs_ != nullptr) {
        const auto enqueue = [this](cuda::Queue queue) { run_pass(side_, pass_, queue); };
        if (!graphs_->prepare(key_, bench_.queue, enqueue)) {
            throw Error(ErrorCode::kUnsupported, "no graph: " + graphs_->describe());
        }
    }
    begin_turn();
    timed_ms(1);
    const double ms = timed_ms(1);
    const double wanted = ms > 0.0 ? bench_.turn_ms / ms : kMaxRepetitions;
    const int least = ms < bench_.turn_ms ? bench_.min_repetitions : 1;
    repetitions_ = static_cast<int>(
        std::clamp(std::ceil(wanted), static_cast<double>(least), double{kMaxRepetitions}));
}

double GpuContender::turn_ms() {
    begin_turn();
    return timed_ms(repetitions_);
}

Contender GpuContender::contender(std::function<double()> check) {
    return {name(), std::move(check), [this] { warm_up(); }, [this] { return turn_ms(); }};
}

}  // namespace carousel::bench
