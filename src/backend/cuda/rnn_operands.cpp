#include "src/backend/cuda/rnn_operands.hpp"

#include <string>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/rnn_executor.hpp"

namespace carousel::cuda {

RnnOperands::RnnOperands(const RnnPlanData& plan, DeviceApi& api, std::int64_t seq_len,
                         std::int64_t batch_size, const CudaRnnSchedule::Workspace& work,
                         void* workspace, const Queue* queues, std::vector<WeightPointers>& weights)
    : plan_(plan),
      spec_(plan.spec),
      config_(plan.config),
      schedule_(plan.schedule),
      api_(api),
      work_(work),
      workspace_(workspace),
      queues_(queues),
      T_(seq_len),
      N_(batch_size),
      H_(plan.spec.hidden_size),
      O_(plan.spec.output_size()),
      D_(plan.spec.num_directions()),
      L_(plan.spec.num_layers),
      G_(plan.spec.num_gates()),
      wide_(D_ * O_),
      S_(plan.spec.dtype),
      A_(accumulator_dtype(plan.spec.dtype)),
      weights_(weights) {}

StepCommon RnnOperands::common(const SequenceMask& mask) const noexcept {
    StepCommon common;
    common.cell = spec_.cell;
    common.dtype = spec_.dtype;
    common.seq_len = T_;
    common.batch_size = N_;
    common.hidden_size = H_;
    common.output_size = O_;
    common.lengths = mask.lengths;
    common.reset = mask.reset;
    common.status = api_.status_word();
    common.y_columns = wide_;
    return common;
}

namespace {

const void* part(const SliceLayout& slices, const void* base, const StateArray& array,
                 std::int64_t state, DType dtype) {
    if (!array.defined()) return nullptr;
    return offset(slices.at<std::byte>(base, array.slice), state * array.stride, dtype);
}

WeightPointers packed_pointers(const SliceLayout& slices, const void* base,
                               const CudaWeightLayout& layout, std::int64_t state, DType dtype) {
    return {part(slices, base, layout.w_ih, state, dtype),
            part(slices, base, layout.w_hh, state, dtype),
            part(slices, base, layout.w_hr, state, dtype),
            part(slices, base, layout.b_ih, state, dtype),
            part(slices, base, layout.b_hh, state, dtype)};
}

}  // namespace

void RnnOperands::bind_weights(const RnnParams* params, const PackedWeights* packed, bool packs) {
    for (std::int64_t state = 0; state < spec_.num_states(); ++state) {
        WeightPointers& to = weights_[static_cast<std::size_t>(state)];
        if (packed != nullptr) {
            const PackedWeights::Impl& made = packed->impl();
            to = packed_pointers(made.slices, made.memory.data(), made.cuda, state, S_);
            continue;
        }
        const RnnLayerParams& from = params->layers[static_cast<std::size_t>(state)];
        to = {from.w_ih.data, from.w_hh.data, from.w_hr.data, from.b_ih.data, from.b_hh.data};
        if (packs) {
            const WeightPointers copies =
                packed_pointers(work_.slices, workspace_, work_.weights, state, S_);
            if (layer(state) > 0) to.w_ih = copies.w_ih;
            to.w_hh = copies.w_hh;
            to.w_hr = copies.w_hr;
        }
    }
}

void RnnOperands::pack_weights(const CudaStep& step, const RnnParams& params) const {
    const RnnLayerParams& from = params.layers[static_cast<std::size_t>(step.first_state)];
    const auto copy = [&](const StateArray& array, const ConstTensorView& tensor) {
        if (!tensor.defined()) return;
        const auto bytes =
            static_cast<std::size_t>(tensor.shape[0] * tensor.shape[1]) * dtype_bytes(S_);
        api_.copy(queue(step.queue), scratch(array, step.first_state, 0, S_), tensor.data, bytes);
    };
    // The first layer's input product is never part of a batch.
    if (layer(step.first_state) > 0) copy(work_.weights.w_ih, from.w_ih);
    copy(work_.weights.w_hh, from.w_hh);
    copy(work_.weights.w_hr, from.w_hr);
}

// Row-major C [rows,columns] = op(A) op(B) is column-major C^T = op(B)^T op(A)^T, and a row-major
// matrix read in column-major order is its transpose: operands change places, and each is transposed
// if and only if the row-major form says so.
void RnnOperands::multiply(int queue_index, const Product& product) const {
    GemmArgs args;
    args.trans_a = product.form == Form::kNT;
    args.trans_b = product.form == Form::kTN;
    args.m = product.columns;
    args.n = product.rows;
    args.k = product.inner;
    args.dtype = S_;
    args.out_dtype = storage_dtype(product.out_dtype);
    args.beta = product.add ? 1.0 : 0.0;
    args.a = product.b.data;
    args.lda = product.b.ld;
    args.stride_a = product.b.step;
    args.b = product.a.data;
    args.ldb = product.a.ld;
    args.stride_b = product.a.step;
    args.c = product.c;
    args.ldc = product.ldc;
    args.stride_c = product.step_c;
    args.batch = product.batch;
    args.bias = product.bias;
    const std::size_t slice = work_.gemm[static_cast<std::size_t>(queue_index)];
    args.workspace = work_.slices.at<std::byte>(workspace_, slice);
    args.workspace_bytes = work_.slices[slice].bytes;
    // The directions of a layer read its input from both ends, so the second operand may lie before
    // the first. cuBLASLt documents no batches in falling order, and the strides of bulk tensor
    // copies have no sign: such products go one by one.
    const bool falls = args.stride_a < 0 || args.stride_b < 0 || args.stride_c < 0;
    const std::int64_t calls = falls ? std::exchange(args.batch, 1) : 1;
    for (std::int64_t i = 0; i < calls; ++i) {
        api_.gemm(queue(queue_index), args);
        args.a = offset(args.a, args.stride_a, S_);
        args.b = offset(args.b, args.stride_b, S_);
        args.c = offset(args.c, args.stride_c, args.out_dtype);
    }
}

void RnnOperands::multiply_step(const CudaStep& step, Product product,
                                const StateArray& sums) const {
    const Matrix to = across(step, product.columns, A_, [&](std::int64_t state, std::int64_t) {
        return scratch(sums, slot(state), 0, A_);
    });
    product.rows = N_;
    product.batch = step.num_states;
    product.out_dtype = A_;
    product.c = const_cast<void*>(to.data);
    product.ldc = to.ld;
    product.step_c = to.step;
    multiply(step.queue, product);
}

void RnnOperands::multiply_rows(int queue_index, Product product, std::int64_t steps, const Rows& a,
                                const Rows& c) const {
    product.a.data = a.data;
    product.c = const_cast<void*>(c.data);
    const auto even = [&](const Rows& rows) {
        return N_ == 1 || steps == 1 || rows.stride_t == N_ * rows.stride_n;
    };
    const auto flat_ld = [&](const Rows& rows, std::int64_t width) {
        if (N_ > 1) return rows.stride_n;
        return steps > 1 ? rows.stride_t : width;
    };
    const std::int64_t width = product.inner;
    const bool flat = even(a) && even(c) && flat_ld(a, width) >= width;
    if (flat) {
        product.rows = steps * N_;
        product.a.ld = flat_ld(a, width);
        product.ldc = flat_ld(c, product.columns);
    } else if (a.stride_t >= width && c.stride_t >= product.columns &&
               (steps >= N_ || a.stride_n < width || c.stride_n < product.columns)) {
        product.rows = steps;
        product.batch = N_;
        product.a.ld = a.stride_t;
        product.a.step = a.stride_n;
        product.ldc = c.stride_t;
        product.step_c = c.stride_n;
    } else if (a.stride_n >= width && c.stride_n >= product.columns) {
        product.rows = N_;
        product.batch = steps;
        product.a.ld = a.stride_n;
        product.a.step = a.stride_t;
        product.ldc = c.stride_n;
        product.step_c = c.stride_t;
    } else {
        throw Error(ErrorCode::kUnsupported,
                    "a sequence tensor's rows overlap (strides " + std::to_string(a.stride_t) +
                        " and " + std::to_string(a.stride_n) + " for rows of " +
                        std::to_string(width) +
                        " elements), which cuBLAS does not take; pass a contiguous copy");
    }
    multiply(queue_index, product);
}

}  // namespace carousel::cuda
