#pragma once

#include <exception>
#include <memory>
#include <string>

#include "bench/core/row_bench.hpp"
#include "carousel/error.hpp"

// What a row does with a side before it is timed: runs it where a failure ends nothing else, and holds
// its results against the reference.

namespace carousel::bench {

/// After work that failed: another library's words do not say whether the device is lost with it, and
/// the next to notice would be somebody else. Errors: DeviceLost.
void expect_device(Venue& venue);

/// Runs `body`; why it could not goes to `reason`. Lost devices end the program, and anything else one
/// side.
template <class Body>
bool attempt(Venue& venue, std::string& reason, Body body) {
    try {
        body();
        return true;
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kDeviceLost) throw;
        reason = error.what();
    } catch (const std::exception& error) {
        reason = error.what();
    }
    expect_device(venue);
    return false;
}

/// To RowOptions::running.
void tell(const RowOptions& options, const std::string& name);

/// Forward, and backward where the case has it; waits.
void run_once(Side& side, const GridCase& c, Venue& venue);

double allowed_for(const SideMaker& maker, const GridCase& c);
/// Two digits.
std::string number(double value);

/// Holds sides against the reference, on the case's checking data.
class Checker {
public:
    /// `venue` and `options` outlive it.
    Checker(const GridCase& c, Venue& venue, const RowOptions& options);
    /// The error of a side's results. Errors: Internal: a wrong result; whatever keeps the side from
    /// running.
    double check(const SideMaker& maker);

private:
    struct Data {
        std::unique_ptr<Problem> problem;
        Outcome reference;
    };
    Data& data_for(bool resets);

    GridCase case_;
    Venue& venue_;
    const RowOptions& options_;
    Data data_[2];
};

}  // namespace carousel::bench
