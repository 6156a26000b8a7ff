#pragma once

// Which kernels have run: with CAROUSEL_SIMT_COVERAGE=<file>, a line with the name of each kernel is
// appended to the file at its first launch of the process.

#include "kernels/cuda/launch.hpp"

namespace carousel::simt {

void record_launch(const cuda::Launch& launch);

}  // namespace carousel::simt
