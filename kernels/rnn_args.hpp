#pragma once

// Arguments of the recurrent-layer kernels: one plain struct per operation. Rows (one sequence at one
// step) are given by pointers, so lengths, resets, batch-first strides and initial states are a choice
// of pointer and never a branch inside a kernel.

#include <cstdint>

namespace carousel {

/// Weights in the order in which a kernel reads them. L = lanes of the instruction set.
///   gates    [ceil(M/L)][K][G][L]   the G gate rows of L units side by side; from W [G*M, K]
///   columns  [ceil(M/L)][K][L]      L outputs side by side; from W [M, K], or from W^T
/// Lanes beyond M are 0.

/// One row of a forward cell step.
template <class T>
struct CellForwardRow {
    T* gates;    ///< in: input-side pre-activations with biases [G*H]; out: gates after activation
    const T* x;  ///< [I], if the step multiplies it too (w_ih below)
    const T* h_prev;  ///< [K]
    const T* c_prev;  ///< [H], LSTM
    T* c;             ///< [H], LSTM; may equal c_prev
    T* h;             ///< [H]
    T* aux;           ///< [H], reset-before GRU: r*h_prev
};

/// One forward step of units [L*vec_begin, L*vec_end) for all rows: recurrent product, then cell.
template <class T>
struct CellForwardArgs {
    const CellForwardRow<T>* rows = nullptr;
    std::int64_t num_rows = 0;
    const T* w = nullptr;  ///< packed recurrent weights
    std::int64_t k = 0;    ///< inner size; 0 skips the product (the state is zero)
    std::int64_t hidden_size = 0;
    std::int64_t vec_begin = 0, vec_end = 0;
    bool descending =
        false;            ///< walk the weights from the end: every other step finds a part in cache
    bool save = false;    ///< store gates for a backward pass or on request
    bool stream = false;  ///< saved gates go past the caches (LSTM, reset-after GRU)
    const T* bias_hn = nullptr;  ///< [H] or null, reset-after GRU
    std::int64_t w_k = 0;        ///< inner size of the packed weights (k, also when k is 0)
    /// If given (LSTM and reset-after GRU), the step starts from bias + x * w_ih instead of from `gates`.
    const T* w_ih = nullptr;  ///< packed gates
    std::int64_t input_size = 0;
    const T* bias = nullptr;  ///< [G*H] or null
};

/// One row of a backward cell step.
template <class T>
struct CellBackwardRow {
    const T* dg_next;  ///< [K] gate gradients of the step that this state fed
    const T* dy;       ///< [O] from above
    const T* extra;    ///< [O] dhy at a sequence's last step, or what bypassed the weights (GRU)
    const T* gates;    ///< [slots*H]
    const T* c_prev;   ///< [H], LSTM
    const T* c;        ///< [H], LSTM
    const T* h_prev;   ///< [H], GRU
    T* dc;             ///< [H], LSTM: in dc from later steps, out dc_prev
    T* carry;  ///< [H], GRU: out, the part of dh_prev that bypasses the weights; may equal extra
    T* dg;     ///< out, gate gradients [grad slots*H]
};

/// One backward step of units [L*vec_begin, L*vec_end): dh = dy + extra + dg_next * W, then cell.
template <class T>
struct CellBackwardArgs {
    const CellBackwardRow<T>* rows = nullptr;
    std::int64_t num_rows = 0;
    const T* w = nullptr;  ///< packed columns
    std::int64_t k = 0;    ///< inner size; 0 skips the product
    std::int64_t w_k = 0;
    std::int64_t hidden_size = 0;
    std::int64_t vec_begin = 0, vec_end = 0;
    int saved_slots = 0;  ///< of a row of gates
    bool descending = false;
    double* sum_squares = nullptr;  ///< if given, the sum of dh^2 is added to it
};

/// One row of a product with packed weights.
template <class T>
struct MatmulRow {
    const T* a;      ///< [K]
    const T* init;   ///< [M] or null: added
    const T* init2;  ///< [M] or null: added
    T* c;            ///< [M], may equal init
};

/// c = init + init2 + bias + a * W for columns [L*vec_begin, L*vec_end).
template <class T>
struct MatmulArgs {
    const MatmulRow<T>* rows = nullptr;
    std::int64_t num_rows = 0;
    const T* w = nullptr;  ///< packed columns; for gates_matmul packed gates
    std::int64_t k = 0;
    std::int64_t w_k = 0;
    std::int64_t m = 0;       ///< columns, or hidden_size for gates_matmul
    const T* bias = nullptr;  ///< [m], or [G*m] for gates_matmul
    std::int64_t vec_begin = 0, vec_end = 0;
    bool descending = false;
    double* sum_squares = nullptr;
};

/// Packing of one weight matrix, for outputs [L*vec_begin, L*vec_end).
template <class T>
struct PackArgs {
    const T* w = nullptr;  ///< element (gate, m, k) at w[(gate*m_total + m)*stride_m + k*stride_k]
    std::int64_t stride_m = 0, stride_k = 0;
    std::int64_t m = 0;  ///< outputs per gate
    std::int64_t k = 0;  ///< inner size of this matrix
    std::int64_t panel_k =
        0;  ///< inner size of the packed panels, of which this fills [k_begin, k_begin + k)
    std::int64_t k_begin = 0;
    int gates = 1;        ///< G side by side; 1 packs columns
    T* packed = nullptr;  ///< panel of vector first_vec
    std::int64_t first_vec = 0;
    std::int64_t vec_begin = 0, vec_end = 0;
    bool stream = false;  ///< panels go past the caches
};

/// Packing of rows given by pointers as the columns of a product over rows: element (k, m) is
/// rows[k][m], or 0 where the pointer is null.
template <class T>
struct PackRowsArgs {
    const T* const* rows = nullptr;
    std::int64_t k = 0;        ///< rows
    std::int64_t panel_k = 0;  ///< rows that a panel has room for
    std::int64_t m = 0;        ///< columns
    T* packed = nullptr;
    std::int64_t vec_begin = 0, vec_end = 0;
};

/// out[c*ld_out + r] = a[r*ld + c].
template <class T>
struct TransposeArgs {
    const T* a = nullptr;
    std::int64_t rows = 0, columns = 0, ld = 0;
    T* out = nullptr;
    std::int64_t ld_out = 0;
};

/// sums[j] (+)= sum over rows of a[row*ld + j], for columns [begin, end), in a fixed order.
template <class T>
struct ColumnSumArgs {
    const T* a = nullptr;
    std::int64_t rows = 0, ld = 0;
    std::int64_t begin = 0, end = 0;
    T* sums = nullptr;
    bool accumulate = false;
};

/// The CPU kernels of one instruction set and value type.
template <class T>
struct RnnKernels {
    int lanes;
    void (*pack)(const PackArgs<T>&);
    void (*pack_rows)(const PackRowsArgs<T>&);
    void (*transpose)(const TransposeArgs<T>&);
    void (*matmul)(const MatmulArgs<T>&);
    void (*gates_matmul[5])(const MatmulArgs<T>&);  ///< indexed by the number of gates side by side
    void (*lstm_forward)(const CellForwardArgs<T>&);
    void (*gru_forward)(const CellForwardArgs<T>&);
    void (*gru_reset_before_gates)(const CellForwardArgs<T>&);
    void (*gru_reset_before_state)(const CellForwardArgs<T>&);
    void (*rnn_tanh_forward)(const CellForwardArgs<T>&);
    void (*rnn_relu_forward)(const CellForwardArgs<T>&);
    void (*lstm_backward)(const CellBackwardArgs<T>&);
    void (*gru_backward)(const CellBackwardArgs<T>&);
    void (*gru_reset_before_backward)(const CellBackwardArgs<T>&);
    void (*gru_reset_gate_backward)(const CellBackwardArgs<T>&);
    void (*rnn_tanh_backward)(const CellBackwardArgs<T>&);
    void (*rnn_relu_backward)(const CellBackwardArgs<T>&);
    void (*column_sum)(const ColumnSumArgs<T>&);
};

}  // namespace carousel
