#include "kernels/cpu/nn_kernels.hpp"

namespace carousel::cpu {

const NnKernelTable& nn_kernels_baseline() { return kNnKernelTable; }

}  // namespace carousel::cpu
