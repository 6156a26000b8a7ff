#include "bench/gpu/gemm_side.hpp"

#include <algorithm>
#include <string>

#include "carousel/error.hpp"

namespace carousel::bench {

GemmSide::GemmSide(const Problem& problem, Arena& arena, std::shared_ptr<cuda::DeviceApi> api)
    : problem_(problem),
      arena_(arena),
      api_(std::move(api)),
      layout_(param_layout(problem.grid_case.spec)) {
    arena.need(workspace_bytes(), reserve_bytes());
}

std::size_t GemmSide::workspace_bytes() const { return api_->gemm_workspace_bytes(); }

/// Preactivations of one layer and direction over all steps, and input of the widest layer.
std::size_t GemmSide::reserve_bytes() const {
    const RnnSpec& s = problem_.grid_case.spec;
    const std::int64_t width = std::max(s.input_size, s.num_directions() * s.output_size());
    return static_cast<std::size_t>(problem_.tokens() * (s.num_gates() * s.hidden_size + width)) *
           dtype_bytes(problem_.value);
}

cuda::GemmArgs GemmSide::product() const {
    cuda::GemmArgs g;
    g.dtype = problem_.grid_case.spec.dtype;
    g.out_dtype = problem_.value;
    g.workspace = arena_.workspace.data();
    g.workspace_bytes = arena_.workspace.bytes();
    return g;
}

const void* GemmSide::weight(std::int64_t state, const char* kind) const {
    const RnnSpec& s = problem_.grid_case.spec;
    const std::int64_t layer = state / s.num_directions();
    const std::string name = std::string("weight_") + kind + "_l" + std::to_string(layer) +
                             (state % s.num_directions() == 1 ? "_reverse" : "");
    for (const RnnParamInfo& info : layout_) {
        if (info.name == name) {
            return problem_.weights.as<std::byte>() +
                   static_cast<std::size_t>(info.offset) * dtype_bytes(problem_.value);
        }
    }
    throw Error(ErrorCode::kInternal, "no parameter " + name);
}

// Row-major [rows, columns] is column-major [columns, rows]: x is [In, T*N], w_ih [In, G*H], the
// preactivations [G*H, T*N].

void GemmSide::enqueue_forward(cuda::Queue queue, std::int64_t state) {
    const GridCase& c = problem_.grid_case;
    const RnnSpec& s = c.spec;
    const std::size_t e = dtype_bytes(problem_.value);
    const std::int64_t rows = s.num_gates() * s.hidden_size;
    const std::int64_t in = s.layer_input_size(state / s.num_directions());
    auto* preacts = arena_.reserve.as<std::byte>();
    const void* input = preacts + static_cast<std::size_t>(problem_.tokens() * rows) * e;

    cuda::GemmArgs g = product();
    g.trans_a = true;
    g.m = rows;
    g.n = problem_.tokens();
    g.k = in;
    g.a = weight(state, "ih");
    g.lda = in;
    g.b = state < s.num_directions() ? problem_.x.data() : input;
    g.ldb = in;
    g.c = preacts;
    g.ldc = rows;
    api_->gemm(queue, g);

    g.n = c.batch_size;
    g.k = s.output_size();
    g.a = weight(state, "hh");
    g.lda = g.ldb = s.output_size();
    g.b = arena_.hy.data();
    g.beta = 1.0;
    for (std::int64_t t = 0; t < c.seq_len; ++t) {
        g.c = preacts + static_cast<std::size_t>(t * c.batch_size * rows) * e;
        api_->gemm(queue, g);
    }
}

void GemmSide::enqueue_backward(cuda::Queue queue, std::int64_t state, bool weights) {
    const GridCase& c = problem_.grid_case;
    const RnnSpec& s = c.spec;
    const std::size_t e = dtype_bytes(problem_.value);
    const std::int64_t rows = s.num_gates() * s.hidden_size, o = s.output_size();
    const std::int64_t in = s.layer_input_size(state / s.num_directions());
    auto* dpreacts = arena_.reserve.as<std::byte>();
    auto* input = dpreacts + static_cast<std::size_t>(problem_.tokens() * rows) * e;

    cuda::GemmArgs g = product();
    g.m = o;
    g.n = c.batch_size;
    g.k = rows;
    g.a = weight(state, "hh");
    g.lda = o;
    g.ldb = rows;
    g.c = arena_.dhx.data();
    g.ldc = o;
    for (std::int64_t t = c.seq_len; t-- > 0;) {
        g.b = dpreacts + static_cast<std::size_t>(t * c.batch_size * rows) * e;
        api_->gemm(queue, g);
    }
    g.m = in;
    g.n = problem_.tokens();
    g.a = weight(state, "ih");
    g.lda = in;
    g.b = dpreacts;
    g.c = state < s.num_directions() ? arena_.dx.data() : input;
    g.ldc = in;
    api_->gemm(queue, g);
    if (!weights) return;

    // dW_ih and dW_hh: [In, T*N] x [T*N, G*H].
    g = product();
    g.out_dtype = problem_.state;
    g.trans_b = true;
    g.n = rows;
    g.k = problem_.tokens();
    g.b = dpreacts;
    g.ldb = rows;
    g.c = arena_.dweights.data();
    g.m = g.lda = g.ldc = in;
    g.a = state < s.num_directions() ? problem_.x.data() : input;
    api_->gemm(queue, g);
    g.m = g.lda = g.ldc = o;
    g.a = problem_.dy.data();
    api_->gemm(queue, g);
}

void GemmSide::forward(StreamRef stream, bool) {
    for (std::int64_t state = 0; state < problem_.grid_case.spec.num_states(); ++state) {
        enqueue_forward({stream.native}, state);
    }
}

void GemmSide::backward(StreamRef stream, bool weights) {
    for (std::int64_t state = problem_.grid_case.spec.num_states(); state-- > 0;) {
        enqueue_backward({stream.native}, state, weights);
    }
}

}  // namespace carousel::bench
