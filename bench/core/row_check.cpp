#include "bench/core/row_check.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace carousel::bench {

namespace {

GridCase without_resets(GridCase c) {
    c.row.reset = 0.0;
    return c;
}

}  // namespace

void expect_device(Venue& venue) {
    try {
        venue.wait();
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kDeviceLost) throw;
    }
}

void tell(const RowOptions& options, const std::string& name) {
    if (options.running) options.running(name);
}

void run_once(Side& side, const GridCase& c, Venue& venue) {
    if (c.inference_only) {
        side.forward(venue.stream(), false);
    } else {
        side.forward(venue.stream(), true);
        side.backward(venue.stream(), true);
    }
    venue.wait();
}

double allowed_for(const SideMaker& maker, const GridCase& c) {
    return allowed_error(maker.precision.value_or(c.spec.dtype));
}

std::string number(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.2g", value);
    return text.data();
}

Checker::Checker(const GridCase& c, Venue& venue, const RowOptions& options)
    : case_(checking_case(c)), venue_(venue), options_(options) {}

double Checker::check(const SideMaker& maker) {
    tell(options_, "");
    Data& data = data_for(maker.resets);
    tell(options_, maker.name);
    // Each side has an arena of its own here: the data is small.
    Arena arena(*data.problem);
    const std::unique_ptr<Side> side = maker.make(*data.problem, arena);
    arena.allocate();
    arena.clear_outputs();
    run_once(*side, case_, venue_);
    double error = relative_error(*data.problem, side->outcome(false), data.reference);
    if (!case_.inference_only) {
        arena.hy.zero();
        side->forward(venue_.stream(), false);
        venue_.wait();
        error = std::max(error, relative_error(*data.problem, side->outcome(true), data.reference));
    }
    const double allowed = allowed_for(maker, case_);
    if (!(error <= allowed)) {
        throw Error(ErrorCode::kInternal,
                    "wrong result: error " + number(error) + "; allowed is " + number(allowed));
    }
    return error;
}

Checker::Data& Checker::data_for(bool resets) {
    Data& data = data_[resets ? 1 : 0];
    if (data.problem == nullptr) {
        const GridCase c = resets ? case_ : without_resets(case_);
        data.reference = reference_outcome(c, resets, options_.reference_threads);
        data.problem = std::make_unique<Problem>(c, venue_.device());
    }
    return data;
}

}  // namespace carousel::bench
