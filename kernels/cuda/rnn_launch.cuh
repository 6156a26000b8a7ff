#pragma once

// From arguments to a launch: storage type, vector width, geometry. Host code beside the kernels.

#include <cmath>

#include "carousel/error.hpp"
#include "kernels/cuda/rnn_step.cuh"

namespace carousel::CAROUSEL_KERNELS::rnn {

template <class S>
struct Storage {
    using type = S;
};

/// make(Storage<S>()) for the type that `dtype` is stored as.
template <class Make>
Launch with_storage(DType dtype, const Make& make) {
    switch (dtype) {
        case DType::kF64:
            return make(Storage<double>());
        case DType::kF32:
        case DType::kTf32:
            return make(Storage<float>());
        case DType::kBf16:
            return make(Storage<__nv_bfloat16>());
        case DType::kF16:
            return make(Storage<__half>());
        default:
            throw Error(ErrorCode::kInternal,
                        std::string("a recurrent kernel was asked for elements of ") +
                            dtype_name(dtype) + "; expected f64, f32, tf32, bf16 or f16");
    }
}

/// Whether threads may take kVector<S> units at once: sizes, addresses and strides that a kernel uses
/// must all be multiples of that. Absent tensors do not count.
template <class S>
class Alignment {
public:
    /// `y_columns` as in StepCommon; only masks of dropout ask for it.
    explicit Alignment(std::int64_t columns, std::int64_t y_columns = 0) : y_columns_(y_columns) {
        check(columns);
    }
    Alignment& tensor(const void* base) {  ///< of S, dense in rows of `columns` or a multiple
        return address(base, kVector<S> * sizeof(S));
    }
    Alignment& sums(const void* base) {  ///< of A
        return address(base, kVector<S> * sizeof(Acc<S>));
    }
    Alignment& rows(const void* base, std::int64_t stride) {
        if (base != nullptr) check(stride);
        return tensor(base);
    }
    Alignment& multiple(std::int64_t elements) {
        check(elements);
        return *this;
    }
    Alignment& mask(std::int32_t drops, std::int64_t first_column) {
        return drops == 0 ? *this : multiple(first_column).multiple(y_columns_);
    }
    bool whole() const { return whole_; }

private:
    void check(std::int64_t elements) { whole_ = whole_ && elements % kVector<S> == 0; }
    Alignment& address(const void* base, std::size_t bytes) {
        whole_ = whole_ && reinterpret_cast<std::uintptr_t>(base) % bytes == 0;
        return *this;
    }
    std::int64_t y_columns_;
    bool whole_ = true;
};

template <class S>
void check(Alignment<S>& alignment, const StateOut& out) {
    alignment.tensor(out.h_next).tensor(out.hy).rows(out.y, out.y_stride);
    alignment.mask(out.drops, out.mask_column);
    alignment.rows(out.y_out, out.y_out_stride);
}
template <class S>
void check(Alignment<S>& alignment, const GradIn& in) {
    alignment.rows(in.dy, in.dy_stride).sums(in.dh_state);
    alignment.mask(in.drops, in.mask_column);
}
template <class S>
void check(Alignment<S>& alignment, const CellForwardPart& part) {
    alignment.rows(part.x_preact, part.x_preact_stride).sums(part.h_preact);
    alignment.sums(part.h_preact_n).tensor(part.b_ih).tensor(part.b_hh).tensor(part.h_in);
    alignment.sums(part.c_prev).sums(part.c).sums(part.cy).sums(part.c_out);
    alignment.rows(part.gates, part.gates_stride).tensor(part.gates_out).tensor(part.aux);
    check(alignment, part.out);
}
template <class S>
void check(Alignment<S>& alignment, const CellBackwardPart& part) {
    check(alignment, part.in);
    alignment.sums(part.dh).rows(part.gates, part.gates_stride).sums(part.c_prev).sums(part.c);
    alignment.tensor(part.h_in).sums(part.dc).sums(part.drh);
    alignment.rows(part.dgates, part.dgates_stride);
}
template <class S>
void check(Alignment<S>& alignment, const ProjectForwardPart& part) {
    alignment.sums(part.projected).tensor(part.h_in);
    check(alignment, part.out);
}
template <class S>
void check(Alignment<S>& alignment, const ProjectBackwardPart& part) {
    check(alignment, part.in);
    alignment.tensor(part.dp);
}
template <class S>
void check(Alignment<S>& alignment, const StateInPart& part) {
    alignment.tensor(part.hx).tensor(part.h_in);
}
template <class S>
void check(Alignment<S>& alignment, const StateGradPart& part) {
    alignment.tensor(part.dhy).sums(part.dcy).sums(part.dh_state).sums(part.dc);
    alignment.tensor(part.dhx).sums(part.dcx);
}

/// All parts of one step in one launch: columns along x, rows along y, parts along z.
///
/// `columns` is what the grid covers; each of `sizes` must be whole in vectors.
template <class S, class Args>
Launch step_launch(const char* name, const Args& args, std::int64_t columns,
                   std::int64_t max_row_blocks, void (*vector_kernel)(StepArgs<Args>),
                   void (*scalar_kernel)(StepArgs<Args>), std::int64_t other_columns = 0) {
    const StepCommon& common = args.common;
    Alignment<S> alignment(columns, common.y_columns);
    alignment.multiple(other_columns);
    for (int p = 0; p < common.num_parts; ++p) check(alignment, args.parts[p]);
    const int vector = alignment.whole() ? kVector<S> : 1;
    const StepGeometry geometry = step_geometry(common.batch_size, columns, vector, max_row_blocks);
    StepArgs<Args> step{args, {}};
    if (common.dropout > 0.0) {
        step.scale.keep = 1.0 / (1.0 - common.dropout);
        step.scale.threshold = static_cast<std::uint64_t>(std::ldexp(common.dropout, 32));
    }
    return make_launch(
        name, vector > 1 ? vector_kernel : scalar_kernel, step,
        Dim3{static_cast<unsigned>(geometry.column_blocks),
             static_cast<unsigned>(geometry.row_blocks), static_cast<unsigned>(common.num_parts)},
        Dim3{geometry.block_x, geometry.block_y, 1});
}

}  // namespace carousel::CAROUSEL_KERNELS::rnn
