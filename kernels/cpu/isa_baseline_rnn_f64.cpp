#include "kernels/cpu/rnn_kernels.hpp"
#include "kernels/cpu/rnn_table.hpp"

namespace carousel::cpu {

RnnKernels<double> rnn_kernels_baseline_f64() { return make_rnn_kernels<double>(); }

}  // namespace carousel::cpu
