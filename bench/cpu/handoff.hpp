#pragma once

namespace carousel::bench {

/// Time in nanoseconds that one thread needs to see what another wrote: half a round trip of a cache
/// line between two threads, the best of a few windows. With one sequence, threads meet at every
/// step, and this time moves the ratios; on a virtual machine it changes from run to run, as its
/// cores are placed on one cluster of the host or on two.
double measure_handoff_ns();

}  // namespace carousel::bench
