#include "kernels/cpu/rnn_kernels.hpp"
#include "kernels/cpu/rnn_table.hpp"

namespace carousel::cpu {

RnnKernels<float> rnn_kernels_avx512_f32() { return make_rnn_kernels<float>(); }

}  // namespace carousel::cpu
