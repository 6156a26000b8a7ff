#include "kernels/cpu/nn_kernels.hpp"

namespace carousel::cpu {

const NnKernelTable& nn_kernels_avx2() { return kNnKernelTable; }

}  // namespace carousel::cpu
