#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/core/driver.hpp"
#include "bench/core/side.hpp"

namespace carousel::bench {

/// Where a comparison runs: what a turn of a side is there, and how it is timed.
class Venue {
public:
    virtual ~Venue() = default;
    virtual Device device() const = 0;
    virtual StreamRef stream() const = 0;
    /// Waits for all that sides have enqueued. Errors: DeviceLost; Cuda.
    virtual void wait() = 0;
    /// The ways of running a pass of a side, the preferred one first, for the driver. `side` and
    /// `arena` outlive them.
    virtual std::vector<Contender> contenders(Side& side, Arena& arena, Pass pass) = 0;
    /// Milliseconds of one repetition, after a warm-up.
    virtual double trial_ms(Side& side, Arena& arena, Pass pass) = 0;
    /// Measures of the machine that a pass of this case depends on, by name; asked before and after it.
    virtual std::map<std::string, double> look(const GridCase&) { return {}; }
    /// True if the preferred way of a pass replays a recording: then its results are checked as well.
    virtual bool replays() const { return false; }
    /// True if caches are emptied before each repetition.
    virtual bool flushes_caches() const { return false; }
};

}  // namespace carousel::bench
