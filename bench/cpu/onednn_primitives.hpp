#pragma once

#include <cstdint>

#include <dnnl.hpp>

#include "bench/core/grid.hpp"
#include "bench/cpu/onednn_side.hpp"

// oneDNN's description of a row: sizes, formats and primitives, for versions 2 and 3 of its interface.

namespace carousel::bench {

/// Where gate g of Carousel stands in oneDNN. LSTM: i,f,g,o is its i,f,c,o. GRU: r,z,n against its
/// u,r,o, where u is our z.
std::int64_t onednn_gate(Cell cell, std::int64_t gate);

/// oneDNN has one bias per gate, and for the reset-after GRU a fourth, the one inside r(.)(W_hn h + b_hn).
std::int64_t onednn_biases(Cell cell);

struct OnednnDescriptors {
    dnnl::memory::desc x, hx, cx, w_ih, w_hh, bias, y, hy, cy;
};

/// Of a row whose weights are in `weights`: ldigo, ldgoi, or any (the primitive chooses).
OnednnDescriptors onednn_descriptors(const GridCase& c, dnnl::memory::format_tag weights);

struct OnednnPrimitives {
    dnnl::rnn_primitive_desc_base inference, forward, backward;
};

/// Throws Error (Unsupported) for a cell that oneDNN does not train, dnnl::error for what it rejects.
OnednnPrimitives onednn_primitives(const dnnl::engine& engine, const GridCase& c,
                                   WeightFormat format);

}  // namespace carousel::bench
