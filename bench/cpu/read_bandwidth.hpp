#pragma once

#include <cstddef>

namespace carousel::bench {

/// GB/s at which `num_threads` threads together read `bytes` again and again, each its own slice and in
/// turn from front and back, so that what a cache can keep is found there: the fastest way to read
/// weights once per step. The best of a few windows of some milliseconds.
double measure_read_gb_s(std::size_t bytes, int num_threads);

}  // namespace carousel::bench
