#include "bench/core/row_bench.hpp"

#include <algorithm>
#include <array>

#include "bench/core/row_check.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

// At the row's own size rounding of a long sequence adds up; a wrong kernel is far beyond this.
constexpr double kFullSizeFactor = 10.0;

/// A side on one problem, or why there is none.
struct Runner {
    const SideMaker* maker = nullptr;
    std::unique_ptr<Side> side;
    std::string reason;
};

/// All sides of a row on its own data, during one visit.
class Visit {
public:
    Visit(const GridCase& c, Venue& venue, const RowOptions& options, RowResult& result)
        : case_(c), venue_(venue), options_(options), result_(result) {}

    /// False if ours cannot run.
    bool make_sides(const SideMaker& ours, const std::vector<const SideMaker*>& others) {
        problem_ = std::make_unique<Problem>(case_, venue_.device());
        arena_ = std::make_unique<Arena>(*problem_);
        if (!add(ours)) return false;
        for (const SideMaker* maker : others) add(*maker);
        arena_->allocate();
        return agree();
    }

    void screen() {
        std::map<std::string, std::array<double, 2>> best;
        std::vector<std::array<double, 2>> times(runners_.size());
        const Pass passes[2] = {case_.inference_only ? Pass::kInfer : Pass::kForward,
                                case_.inference_only ? Pass::kInfer : Pass::kTrain};
        for (std::size_t i = 1; i < runners_.size(); ++i) {
            if (!runners_[i].maker->is_peer) continue;
            tell(options_, runners_[i].maker->name);
            attempt(venue_, runners_[i].reason, [&] {
                std::array<double, 2>& of_group = best[runners_[i].maker->group];
                for (std::size_t p = 0; p < 2; ++p) {
                    times[i][p] = venue_.trial_ms(*runners_[i].side, *arena_, passes[p]);
                    if (of_group[p] <= 0.0 || times[i][p] < of_group[p]) of_group[p] = times[i][p];
                }
            });
        }
        for (std::size_t i = 1; i < runners_.size(); ++i) {
            Runner& runner = runners_[i];
            if (!runner.maker->is_peer || !runner.reason.empty()) continue;
            if (!runner.maker->screened) continue;
            const std::array<double, 2>& of_group = best[runner.maker->group];
            if (times[i][0] > options_.screen_factor * of_group[0] &&
                times[i][1] > options_.screen_factor * of_group[1]) {
                runner.reason = "screened out: " + number(times[i][1]) + " ms, the best peer " +
                                number(of_group[1]) + " ms";
            }
        }
        forget_failed();
    }

    PassResult time(Pass pass) {
        PassResult out;
        out.grid_case = case_;
        out.pass = pass;
        out.l2_flushed = venue_.flushes_caches();
        out.error = result_.errors[runners_[0].maker->name];
        out.reserve_bytes = pass == Pass::kInfer ? 0 : runners_[0].side->reserve_bytes();
        out.workspace_bytes = runners_[0].side->workspace_bytes();
        VisitNote note;
        look(note);
        // Ours in the preferred way that works, and in the others beside it.
        std::vector<Contender> ways = contenders_of(0, pass);
        std::string why;
        while (ways.size() > 1 && !attempt(venue_, why, [&] { ways.front().warm_up(); })) {
            ways.erase(ways.begin());
        }
        std::vector<Contender> peers;
        for (std::size_t way = 1; way < ways.size(); ++way) {
            ways[way].is_peer = false;
            peers.push_back(ways[way]);
        }
        for (std::size_t i = 1; i < runners_.size(); ++i) {
            for (Contender& contender : contenders_of(i, pass)) {
                out.peer_reserve_bytes[contender.name] = runners_[i].side->reserve_bytes();
                peers.push_back(std::move(contender));
            }
        }
        DriverOptions driver;
        driver.min_pairs = options_.min_pairs;
        driver.budget_ms = options_.pass_ms;
        out.verdict = compare(ways.front(), peers, driver);
        venue_.wait();  // throws if a device was lost meanwhile
        tell(options_, "");
        look(note);
        for (const Standing& peer : out.verdict.peers) {
            if (!peer.ratios.empty()) note.ratios[peer.name] = peer.ratio;
        }
        out.visits.push_back(std::move(note));
        return out;
    }

private:
    bool add(const SideMaker& maker) {
        Runner runner;
        runner.maker = &maker;
        tell(options_, maker.name);
        attempt(venue_, runner.reason, [&] { runner.side = maker.make(*problem_, *arena_); });
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
        for (std::size_t i = 0; i < runners_.size(); ++i) {
            Runner& runner = runners_[i];
            tell(options_, runner.maker->name);
            attempt(venue_, runner.reason, [&] {
                arena_->clear_outputs();
                run_once(*runner.side, case_, venue_);
                if (i == 0) {
                    ours_ = runner.side->outcome(true);
                } else if (comparable(*runner.maker)) {
                    runner.reason =
                        difference_of(runner, "differs from ours at the row's own size");
                }
            });
            if (i == 0 && !runner.reason.empty()) {
                result_.failed = runner.maker->name + ": " + runner.reason;
                return false;
            }
        }
        forget_failed();
        if (!venue_.replays()) ours_ = {};
        return true;
    }

    bool comparable(const SideMaker& maker) const {
        return maker.checked && (case_.row.reset <= 0.0 || maker.resets);
    }

    /// `what` and by how much, if a side's last results are not those that ours had; else empty.
    std::string difference_of(const Runner& runner, const char* what) const {
        const double error = relative_error(*problem_, runner.side->outcome(true), ours_);
        const double allowed = kFullSizeFactor * allowed_for(*runner.maker, case_);
        if (error <= allowed) return "";
        return std::string(what) + ": " + number(error) + "; allowed is " + number(allowed);
    }

    /// Of a contender that is warm: one turn gives the results of plain work.
    void check_replay(const Contender& contender, const Runner& runner) {
        arena_->clear_outputs();
        contender.turn();
        venue_.wait();
        const std::string why = difference_of(runner, "its replay differs from plain work");
        if (!why.empty()) throw Error(ErrorCode::kInternal, why);
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

    /// `run` with word of whose work it is.
    template <class Work>
    Work watched(Work run, const SideMaker& maker) {
        if (!run) return run;
        return [this, run = std::move(run), &maker] {
            tell(options_, maker.name);
            try {
                return run();
            } catch (...) {
                expect_device(venue_);
                throw;
            }
        };
    }

    /// Of a side. What it cannot do is refused with its reason.
    std::vector<Contender> contenders_of(std::size_t i, Pass pass) {
        const SideMaker& maker = *runners_[i].maker;
        std::vector<Contender> contenders;
        if (const std::string cannot = runners_[i].side->cannot(pass); !cannot.empty()) {
            Contender absent;
            absent.name = runners_[i].side->name();
            absent.check = [cannot]() -> double { throw Error(ErrorCode::kUnsupported, cannot); };
            contenders.push_back(absent);
        } else {
            contenders = venue_.contenders(*runners_[i].side, *arena_, pass);
        }
        for (Contender& contender : contenders) {
            contender.is_peer = maker.is_peer;
            contender.group = maker.group;
            contender.warm_up = watched(std::move(contender.warm_up), maker);
            contender.turn = watched(std::move(contender.turn), maker);
        }
        // One pass has all of the work; in a recording of it, addresses and lengths could be stale.
        const bool whole = pass == Pass::kTrain || case_.inference_only;
        if (venue_.replays() && whole && contenders.size() > 1 && comparable(maker)) {
            contenders.front().check = [this, i, way = contenders.front()] {
                way.warm_up();
                check_replay(way, runners_[i]);
                return 0.0;
            };
        }
        return contenders;
    }

    void look(VisitNote& note) {
        for (const auto& [measure, value] : venue_.look(case_)) {
            note.looks[measure].push_back(value);
        }
    }

    const GridCase& case_;
    Venue& venue_;
    const RowOptions& options_;
    RowResult& result_;
    std::unique_ptr<Problem> problem_;
    std::unique_ptr<Arena> arena_;
    std::vector<Runner> runners_;  ///< ours first
    Outcome ours_;                 ///< of plain work, if replays are compared with it
};

void append(PassResult& result, const PassResult& later) {
    append(result.verdict, later.verdict);
    for (const auto& [name, bytes] : later.peer_reserve_bytes) {
        result.peer_reserve_bytes[name] = bytes;
    }
    result.visits.insert(result.visits.end(), later.visits.begin(), later.visits.end());
}

}  // namespace

std::vector<double> PassResult::looks(const std::string& measure) const {
    std::vector<double> all;
    for (const VisitNote& visit : visits) {
        const auto found = visit.looks.find(measure);
        if (found == visit.looks.end()) continue;
        all.insert(all.end(), found->second.begin(), found->second.end());
    }
    return all;
}

RowBench::RowBench(GridCase c, Venue& venue, SideMaker ours, std::vector<SideMaker> others,
                   RowOptions options)
    : case_(std::move(c)),
      venue_(venue),
      ours_(std::move(ours)),
      others_(std::move(others)),
      options_(std::move(options)) {}

void RowBench::leave_out(const std::string& name, const std::string& why) {
    for (const auto& [known, reason] : result_.left_out) {
        if (known == name) return;
    }
    result_.left_out.emplace_back(name, why);
}

void RowBench::check() {
    checked_ = true;
    Checker checker(case_, venue_, options_);
    const auto passes = [&](const SideMaker& maker, std::string& why) {
        return !maker.checked ||
               attempt(venue_, why, [&] { result_.errors[maker.name] = checker.check(maker); });
    };
    std::string why;
    if (!passes(ours_, why)) {
        leave_out(ours_.name, why);
        result_.failed = ours_.name + ": " + why;
        return;
    }
    for (const SideMaker& other : others_) {
        if (passes(other, why)) {
            sound_.push_back(&other);
        } else {
            leave_out(other.name, why);
        }
    }
}

void RowBench::visit() {
    if (!checked_) check();
    if (!result_.failed.empty()) return;
    RowResult now;
    now.errors = result_.errors;
    attempt(venue_, now.failed, [&] {
        Visit visit(case_, venue_, options_, now);
        if (!visit.make_sides(ours_, sound_)) {
            if (now.failed.empty()) now.failed = now.left_out.back().second;
            return;
        }
        visit.screen();
        for (const Pass pass : options_.passes) {
            if (case_.inference_only && pass != Pass::kInfer) continue;
            if (!now.passes.empty() && options_.goes_on && !options_.goes_on()) {
                now.left_out.emplace_back(std::string("pass ") + pass_name(pass),
                                          "the time ended before it");
                continue;
            }
            now.passes.push_back(visit.time(pass));
        }
    });
    for (const auto& [name, why] : now.left_out) leave_out(name, why);
    result_.failed = now.failed;
    for (std::size_t i = 0; i < now.passes.size(); ++i) {
        if (i < result_.passes.size()) {
            append(result_.passes[i], now.passes[i]);
        } else {
            result_.passes.push_back(std::move(now.passes[i]));
        }
    }
}

RowResult run_row(const GridCase& c, Venue& venue, const SideMaker& ours,
                  const std::vector<SideMaker>& others, const RowOptions& options) {
    RowBench bench(c, venue, ours, others, options);
    bench.visit();
    return bench.result();
}

std::vector<GridCase> in_order_of_value(std::vector<GridCase> cases) {
    const auto cost = [](const GridCase& c) {
        // A step costs about a microsecond of latency, arithmetic is at a tenth of the peak, and the
        // gradient of each weight of each side is compared on the host.
        return static_cast<double>(c.seq_len * c.spec.num_layers) * 1e-6 + forward_flops(c) / 5e13 +
               static_cast<double>(param_count(c.spec)) * 1e-9;
    };
    std::stable_sort(cases.begin(), cases.end(), [&](const GridCase& a, const GridCase& b) {
        if (a.row.headline != b.row.headline) return a.row.headline;
        return cost(a) < cost(b);
    });
    return cases;
}

}  // namespace carousel::bench
