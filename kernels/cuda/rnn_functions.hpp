#pragma once

// Launchers of the recurrent kernels, by the source that defines them; rnn_launchers.cu chooses by
// cell and puts them into the table.

#include "kernels/cuda/kernel_table.hpp"

namespace carousel::CAROUSEL_KERNELS::rnn {

using namespace carousel::cuda;  // NOLINT(google-build-using-namespace)

// rnn_lstm.cu
Launch lstm_forward(const CellForwardArgs& args);
Launch lstm_backward(const CellBackwardArgs& args);

// rnn_gru.cu
Launch gru_forward(const CellForwardArgs& args);
Launch gru_backward(const CellBackwardArgs& args);

// rnn_gru_reset_before.cu
Launch gru_reset_before_gates(const CellForwardArgs& args);
Launch gru_reset_before_state(const CellForwardArgs& args);
Launch gru_reset_before_backward(const CellBackwardArgs& args);
Launch gru_reset_gate_backward(const CellBackwardArgs& args);

// rnn_vanilla.cu
Launch vanilla_forward(const CellForwardArgs& args);
Launch vanilla_backward(const CellBackwardArgs& args);

// rnn_project.cu
Launch project_forward(const ProjectForwardArgs& args);
Launch project_backward(const ProjectBackwardArgs& args);

// rnn_state.cu
Launch set_key(const SetKeyArgs& args);
Launch state_in(const StateInArgs& args);
Launch state_grad_begin(const StateGradArgs& args);
Launch state_grad_end(const StateGradArgs& args);
Launch masked_rows(const MaskedRowsArgs& args);

// rnn_reduce.cu
Launch sum_rows(const SumRowsArgs& args);
Launch step_norms(const StepNormsArgs& args);

}  // namespace carousel::CAROUSEL_KERNELS::rnn
