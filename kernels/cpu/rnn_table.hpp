#pragma once

// Included once by each isa_*_rnn_*.cpp: the kernels of one instruction set and value type as a table.

#include "kernels/cpu/rnn_backward.hpp"
#include "kernels/cpu/rnn_forward.hpp"

namespace carousel::cpu {
namespace {

template <class T>
RnnKernels<T> make_rnn_kernels() {
    RnnKernels<T> table{};
    table.lanes = Vec<T>::kLanes;
    table.pack = pack<T>;
    table.pack_rows = pack_rows<T>;
    table.transpose = transpose_block<T>;
    table.matmul = matmul<T>;
    table.gates_matmul[2] = gates_matmul<2, T>;
    table.gates_matmul[3] = gates_matmul<3, T>;
    table.gates_matmul[4] = gates_matmul<4, T>;
    table.lstm_forward = lstm_forward<T>;
    table.gru_forward = gru_forward<T>;
    table.gru_reset_before_gates = gru_reset_before_gates<T>;
    table.gru_reset_before_state = gru_reset_before_state<T>;
    table.rnn_tanh_forward = vanilla_forward<cell::TanhActivation, T>;
    table.rnn_relu_forward = vanilla_forward<cell::ReluActivation, T>;
    table.lstm_backward = lstm_backward<T>;
    table.gru_backward = gru_backward<T>;
    table.gru_reset_before_backward = gru_reset_before_backward<T>;
    table.gru_reset_gate_backward = gru_reset_gate_backward<T>;
    table.rnn_tanh_backward = vanilla_backward<cell::TanhActivation, T>;
    table.rnn_relu_backward = vanilla_backward<cell::ReluActivation, T>;
    table.column_sum = column_sum<T>;
    return table;
}

}  // namespace
}  // namespace carousel::cpu
