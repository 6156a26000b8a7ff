#pragma once

namespace carousel::bench {

/// f32 fused multiply-adds that `num_threads` threads complete together, in GFLOP/s (multiply and add
/// counted as two): registers only, with the widest vectors that the processor has. The best of a few
/// windows of some milliseconds, because a clock that neighbours share only ever falls.
double measure_fma_peak_gflops(int num_threads);

/// "avx512", "avx2" or "baseline": what the measurement runs.
const char* fma_peak_vectors();

}  // namespace carousel::bench
