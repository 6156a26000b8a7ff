// The table of the recurrent launchers of this build.

#include "kernels/cuda/rnn_functions.hpp"
#include "kernels/cuda/rnn_geometry.hpp"

namespace carousel::CAROUSEL_KERNELS {
namespace {

cuda::Launch cell_forward(const cuda::CellForwardArgs& args) {
    switch (args.common.cell) {
        case Cell::kLstm:
            return rnn::lstm_forward(args);
        case Cell::kGru:
            return rnn::gru_forward(args);
        case Cell::kGruResetBefore:
            return rnn::gru_reset_before_gates(args);
        case Cell::kRnnTanh:
        case Cell::kRnnRelu:
            break;
    }
    return rnn::vanilla_forward(args);
}

cuda::Launch cell_backward(const cuda::CellBackwardArgs& args) {
    switch (args.common.cell) {
        case Cell::kLstm:
            return rnn::lstm_backward(args);
        case Cell::kGru:
            return rnn::gru_backward(args);
        case Cell::kGruResetBefore:
            return rnn::gru_reset_before_backward(args);
        case Cell::kRnnTanh:
        case Cell::kRnnRelu:
            break;
    }
    return rnn::vanilla_backward(args);
}

cuda::StepGeometry geometry(DType dtype, std::int64_t rows, std::int64_t columns) {
    const int vector = dtype == DType::kF64 ? 2 : 4;
    return cuda::step_geometry(rows, columns, columns % vector == 0 ? vector : 1,
                               cuda::kMaxRowBlocks);
}

}  // namespace

const cuda::RnnLaunchers& rnn_launchers() {
    static const cuda::RnnLaunchers launchers = [] {
        cuda::RnnLaunchers table;
        table.set_key = &rnn::set_key;
        table.state_in = &rnn::state_in;
        table.cell_forward = &cell_forward;
        table.cell_forward_second = &rnn::gru_reset_before_state;
        table.project_forward = &rnn::project_forward;
        table.state_grad_begin = &rnn::state_grad_begin;
        table.project_backward = &rnn::project_backward;
        table.cell_backward = &cell_backward;
        table.cell_backward_second = &rnn::gru_reset_gate_backward;
        table.state_grad_end = &rnn::state_grad_end;
        table.sum_rows = &rnn::sum_rows;
        table.step_norms = &rnn::step_norms;
        table.masked_rows = &rnn::masked_rows;
        table.geometry = &geometry;
        return table;
    }();
    return launchers;
}

}  // namespace carousel::CAROUSEL_KERNELS
