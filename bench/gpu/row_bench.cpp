#include "bench/gpu/row_bench.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

// At the row's own size rounding of a long sequence adds up; a wrong kernel is far beyond this.
constexpr double kFullSizeFactor = 10.0;

std::string number(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.2g", value);
    return text.data();
}

/// A side on one problem, or why there is none.
struct Runner {
    const SideMaker* maker = nullptr;
    std::unique_ptr<GpuSide> side;
    std::string reason;
};

/// Lost devices end the program; anything else ends one side.
template <class Body>
bool attempt(std::string& reason, Body body) {
    try {
        body();
        return true;
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kDeviceLost) throw;
        reason = error.what();
    } catch (const std::exception& error) {
        reason = error.what();
    }
    return false;
}

void run_once(GpuSide& side, const GridCase& c, const GpuBench& bench) {
    if (c.inference_only) {
        side.forward(bench.queue, false);
    } else {
        side.forward(bench.queue, true);
        side.backward(bench.queue, true);
    }
    bench.api->synchronize(bench.queue);
}

GridCase without_resets(GridCase c) {
    c.row.reset = 0.0;
    return c;
}

/// Holds every side's results against the reference; errors by name, reasons for the rest.
class Checker {
public:
    Checker(const GridCase& c, const GpuBench& bench, const RowOptions& options)
        : case_(checking_case(c)), bench_(bench), options_(options) {}

    void check(const SideMaker& maker, RowResult& result) {
        if (!maker.checked) return;
        std::string reason;
        attempt(reason, [&] {
            Data& data = data_for(maker.resets);
            // Each side has an arena of its own here: the data is small.
            GpuArena arena(*data.problem);
            const std::unique_ptr<GpuSide> side = maker.make(*data.problem, arena);
            arena.allocate();
            run_once(*side, case_, bench_);
            double error = relative_error(*data.problem, side->outcome(false), data.reference);
            if (!case_.inference_only) {
                side->forward(bench_.queue, false);
                bench_.api->synchronize(bench_.queue);
                error = std::max(
                    error, relative_error(*data.problem, side->outcome(true), data.reference));
            }
            result.errors[maker.name] = error;
            const double allowed = allowed_error(case_.spec.dtype);
            if (!(error <= allowed)) {
                reason = "wrong result: error " + number(error) + "; allowed is " + number(allowed);
            }
        });
        if (!reason.empty()) result.left_out.emplace_back(maker.name, reason);
    }

private:
    struct Data {
        std::unique_ptr<GpuProblem> problem;
        GpuOutcome reference;
    };
    Data& data_for(bool resets) {
        Data& data = data_[resets ? 1 : 0];
        if (data.problem == nullptr) {
            const GridCase c = resets ? case_ : without_resets(case_);
            data.reference = reference_outcome(c, resets, options_.reference_threads);
            data.problem = std::make_unique<GpuProblem>(c, bench_.api->device());
        }
        return data;
    }

    GridCase case_;
    const GpuBench& bench_;
    const RowOptions& options_;
    Data data_[2];
};

/// All sides of a row on its own data.
class Row {
public:
    Row(const GridCase& c, const GpuBench& bench, const RowOptions& options, RowResult& result)
        : case_(c), bench_(bench), options_(options), result_(result) {}

    /// False if ours cannot run.
    bool make_sides(const SideMaker& ours, const std::vector<const SideMaker*>& others) {
        problem_ = std::make_unique<GpuProblem>(case_, bench_.api->device());
        arena_ = std::make_unique<GpuArena>(*problem_);
        if (!add(ours)) return false;
        for (const SideMaker* maker : others) add(*maker);
        arena_->allocate();
        return agree();
    }

    void screen() {
        double best[2] = {0.0, 0.0};
        std::vector<std::array<double, 2>> times(runners_.size());
        const Pass passes[2] = {case_.inference_only ? Pass::kInfer : Pass::kForward,
                                case_.inference_only ? Pass::kInfer : Pass::kTrain};
        for (std::size_t i = 1; i < runners_.size(); ++i) {
            if (!runners_[i].maker->is_peer) continue;
            attempt(runners_[i].reason, [&] {
                for (std::size_t p = 0; p < 2; ++p) {
                    times[i][p] = trial_ms(*runners_[i].side, passes[p]);
                    if (best[p] <= 0.0 || times[i][p] < best[p]) best[p] = times[i][p];
                }
            });
        }
        for (std::size_t i = 1; i < runners_.size(); ++i) {
            Runner& runner = runners_[i];
            if (runner.maker->is_peer && runner.reason.empty() &&
                times[i][0] > options_.screen_factor * best[0] &&
                times[i][1] > options_.screen_factor * best[1]) {
                runner.reason = "screened out: " + number(times[i][1]) + " ms, the best peer " +
                                number(best[1]) + " ms";
            }
        }
        forget_failed();
    }

    void time(Pass pass) {
        PassResult out;
        out.grid_case = case_;
        out.pass = pass;
        out.l2_flushed = bench_.flush_bytes > 0;
        out.error = result_.errors[runners_[0].maker->name];
        out.reserve_bytes = pass == Pass::kInfer ? 0 : runners_[0].side->reserve_bytes();
        out.workspace_bytes = runners_[0].side->workspace_bytes();
        // Ours as a graph where it can be recorded, and as plain launches beside it.
        Replay replay = Replay::kGraph;
        std::string why;
        if (!attempt(why, [&] { contender_of(0, pass, Replay::kGraph).warm_up(); })) {
            replay = Replay::kStream;
        }
        const Contender ours = driver_contender(0, pass, replay);
        std::vector<Contender> peers;
        const auto add_peer = [&](std::size_t i, Replay how) {
            peers.push_back(driver_contender(i, pass, how));
            peers.back().is_peer = i != 0 && runners_[i].maker->is_peer;
            out.peer_reserve_bytes[peers.back().name] = runners_[i].side->reserve_bytes();
        };
        if (replay == Replay::kGraph) add_peer(0, Replay::kStream);
        for (std::size_t i = 1; i < runners_.size(); ++i) {
            add_peer(i, Replay::kGraph);
            add_peer(i, Replay::kStream);
        }
        DriverOptions driver;
        driver.allowed_error = allowed_error(case_.spec.dtype);
        driver.min_pairs = options_.min_pairs;
        driver.budget_ms = options_.pass_ms;
        out.verdict = compare(ours, peers, driver);
        bench_.api->synchronize(bench_.queue);  // throws if the device was lost meanwhile
        result_.passes.push_back(std::move(out));
    }

private:
    bool add(const SideMaker& maker) {
        Runner runner;
        runner.maker = &maker;
        attempt(runner.reason, [&] { runner.side = maker.make(*problem_, *arena_); });
        const bool made = runner.reason.empty();
        if (made) {
            runners_.push_back(std::move(runner));
        } else {
            result_.left_out.emplace_back(maker.name, runner.reason);
        }
        return made;
    }

    /// At the row's own size, every side against ours: states, their gradients, and weights'.
    bool agree() {
        GpuOutcome ours;
        for (std::size_t i = 0; i < runners_.size(); ++i) {
            Runner& runner = runners_[i];
            attempt(runner.reason, [&] {
                run_once(*runner.side, case_, bench_);
                if (i == 0) ours = runner.side->outcome(true);
                const bool comparable = i != 0 && runner.maker->checked &&
                                        (case_.row.reset <= 0.0 || runner.maker->resets);
                if (!comparable) return;
                const double error = relative_error(*problem_, runner.side->outcome(true), ours);
                const double allowed = kFullSizeFactor * allowed_error(case_.spec.dtype);
                if (!(error <= allowed)) {
                    runner.reason = "differs from ours at the row's own size: " + number(error) +
                                    "; allowed is " + number(allowed);
                }
            });
            if (i == 0 && !runner.reason.empty()) {
                result_.failed = runner.maker->name + ": " + runner.reason;
                return false;
            }
        }
        forget_failed();
        return true;
    }

    void forget_failed() {
        for (Runner& runner : runners_) {
            if (!runner.reason.empty()) {
                result_.left_out.emplace_back(runner.maker->name, runner.reason);
            }
        }
        runners_.erase(std::remove_if(runners_.begin() + 1, runners_.end(),
                                      [](const Runner& r) { return !r.reason.empty(); }),
                       runners_.end());
    }

    double trial_ms(GpuSide& side, Pass pass) {
        GpuBench once = bench_;
        once.turn_ms = 0.0;
        GpuContender contender(once, side, *arena_, pass, Replay::kStream);
        contender.warm_up();
        return contender.turn_ms();
    }

    GpuContender contender_of(std::size_t i, Pass pass, Replay replay) {
        return {bench_, *runners_[i].side, *arena_, pass, replay};
    }

    Contender driver_contender(std::size_t i, Pass pass, Replay replay) {
        const auto contender = std::make_shared<GpuContender>(contender_of(i, pass, replay));
        const double error = result_.errors[runners_[i].maker->name];
        Contender result = contender->contender([error] { return error; });
        // Holds on to the graph as long as the driver holds the functions.
        result.warm_up = [contender] { contender->warm_up(); };
        result.turn = [contender] { return contender->turn_ms(); };
        return result;
    }

    const GridCase& case_;
    const GpuBench& bench_;
    const RowOptions& options_;
    RowResult& result_;
    std::unique_ptr<GpuProblem> problem_;
    std::unique_ptr<GpuArena> arena_;
    std::vector<Runner> runners_;  ///< ours first
};

}  // namespace

RowResult run_row(const GridCase& c, const GpuBench& bench, const SideMaker& ours,
                  const std::vector<SideMaker>& others, const RowOptions& options) {
    RowResult result;
    std::vector<const SideMaker*> sound;
    {
        Checker checker(c, bench, options);
        checker.check(ours, result);
        if (!result.left_out.empty()) {
            result.failed = result.left_out[0].first + ": " + result.left_out[0].second;
            return result;
        }
        for (const SideMaker& other : others) {
            const std::size_t before = result.left_out.size();
            checker.check(other, result);
            if (result.left_out.size() == before) sound.push_back(&other);
        }
    }
    attempt(result.failed, [&] {
        Row row(c, bench, options, result);
        if (!row.make_sides(ours, sound)) {
            if (result.failed.empty()) result.failed = result.left_out.back().second;
            return;
        }
        row.screen();
        for (const Pass pass : options.passes) {
            if (c.inference_only && pass != Pass::kInfer) continue;
            row.time(pass);
        }
    });
    return result;
}

std::vector<GridCase> in_order_of_value(std::vector<GridCase> cases) {
    const auto cost = [](const GridCase& c) {
        // A step costs about a microsecond of latency, and arithmetic at a tenth of the peak.
        return static_cast<double>(c.seq_len * c.spec.num_layers) * 1e-6 + forward_flops(c) / 5e13;
    };
    std::stable_sort(cases.begin(), cases.end(), [&](const GridCase& a, const GridCase& b) {
        if (a.row.headline != b.row.headline) return a.row.headline;
        return !a.row.headline && cost(a) < cost(b);
    });
    return cases;
}

}  // namespace carousel::bench
