#pragma once

#include "kernels/rnn_args.hpp"

namespace carousel::cpu {

// One function per object compiled for one instruction set; src/backend/cpu chooses among them.
RnnKernels<float> rnn_kernels_baseline_f32();
RnnKernels<double> rnn_kernels_baseline_f64();
#if defined(__x86_64__)
RnnKernels<float> rnn_kernels_avx2_f32();
RnnKernels<double> rnn_kernels_avx2_f64();
RnnKernels<float> rnn_kernels_avx512_f32();
RnnKernels<double> rnn_kernels_avx512_f64();
#endif

}  // namespace carousel::cpu
