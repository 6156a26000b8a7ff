#include "src/backend/cuda/ops_cuda.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "carousel/error.hpp"

namespace carousel::cuda {

namespace {

// A batch of 64 x 100 ids fills a tenth of a slot; 8 of them are 2 MiB of page-locked memory.
constexpr std::size_t kUploadSlotBytes = std::size_t{256} << 10;
constexpr int kUploadSlots = 8;

DType checked(DType dtype) {
    switch (dtype) {
        case DType::kF64:
        case DType::kF32:
        case DType::kTf32:
        case DType::kBf16:
        case DType::kF16:
            return dtype;
        default:
            throw Error(ErrorCode::kUnsupported,
                        std::string("the training layer does not compute in ") + dtype_name(dtype) +
                            "; use f64, f32, tf32, bf16 or f16");
    }
}

/// As cuBLAS sees a tensor: tf32 is stored as f32.
DType stored(DType dtype) { return dtype == DType::kTf32 ? DType::kF32 : dtype; }

}  // namespace

ScratchMemory::~ScratchMemory() {
    for (void* block : blocks_) api_->release(block);
}

void* ScratchMemory::get(std::size_t bytes) {
    if (blocks_.empty() || bytes > bytes_) {
        // Doubled, so that all blocks together are at most twice the last one.
        const std::size_t wanted = std::max({bytes, 2 * bytes_, std::size_t{256}});
        blocks_.reserve(blocks_.size() + 1);
        blocks_.push_back(api_->allocate(wanted, what_));
        bytes_ = wanted;
    }
    return blocks_.back();
}

CudaOps::CudaOps(DType dtype, std::shared_ptr<DeviceApi> api)
    : dtype_(checked(dtype)),
      api_(std::move(api)),
      queue_(api_->default_queue()),
      ring_(api_, kUploadSlotBytes, kUploadSlots),
      readback_(api_, kReadBackBytes, kReadBacks),
      scratch_(api_, "scratch of the training layer"),
      gemm_scratch_(api_, "workspace of the training layer's products"),
      scalars_(api_, "scalars of an update") {
    scalars_.get(sizeof(UpdateScalars));
    gemm_scratch_.get(api_->gemm_workspace_bytes());
}

void CudaOps::upload(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) ring_.upload(queue_, to, from, bytes);
}

Ops::Ticket CudaOps::read_back(const void* from, std::size_t bytes) {
    return readback_.read(queue_, from, bytes);
}

void CudaOps::collect(Ticket ticket, void* to) { readback_.collect(ticket, to); }

void CudaOps::drop(Ticket ticket) { readback_.drop(ticket); }

void CudaOps::download(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) api_->copy_to_host(to, from, bytes);
}

void CudaOps::clear_status() { api_->zero(queue_, api_->status_word(), sizeof(std::uint32_t)); }

void CudaOps::zero(void* data, std::size_t bytes) {
    if (bytes > 0) api_->zero(queue_, data, bytes);
}

void CudaOps::axpy(double alpha, const void* x, void* y, std::int64_t numel) {
    if (numel > 0) run(kernels().axpy({dtype_, alpha, x, y, numel}));
}

void CudaOps::scale(double alpha, void* x, std::int64_t numel) {
    if (numel > 0) run(kernels().scale({dtype_, alpha, nullptr, x, numel}));
}

void CudaOps::scale_by(const double* factor, void* x, std::int64_t numel) {
    if (numel > 0) run(kernels().scale({state_dtype(), 1.0, factor, x, numel}));
}

void CudaOps::clamp(double limit, void* x, std::int64_t numel) {
    if (numel > 0) run(kernels().clamp({state_dtype(), limit, x, numel}));
}

void CudaOps::cast(DType from_dtype, const void* from, DType to_dtype, void* to,
                   std::int64_t numel) {
    if (numel > 0) run(kernels().cast({from_dtype, to_dtype, from, to, numel}));
}

void CudaOps::copy(const void* from, void* to, std::size_t bytes) {
    if (bytes > 0) api_->copy(queue_, to, from, bytes);
}

void CudaOps::gather_rows(const GatherRowsArgs& args) {
    if (args.n == 0) return;
    GatherArgs gather;
    gather.dtype = dtype_;
    gather.table = args.table;
    gather.num_rows = args.num_rows;
    gather.row_size = args.row_size;
    gather.ids = args.ids;
    gather.n = args.n;
    gather.y = args.y;
    gather.status = api_->status_word();
    run(kernels().gather_rows(gather));
}

void CudaOps::scatter_add_rows(const ScatterAddRowsArgs& args) {
    if (args.n == 0) return;
    ScatterArgs scatter;
    scatter.dtype = dtype_;
    scatter.table = args.table;
    scatter.num_rows = args.num_rows;
    scatter.row_size = args.row_size;
    scatter.ids = args.ids;
    scatter.n = args.n;
    scatter.x = args.x;
    scatter.status = api_->status_word();
    scatter.workspace = scratch_.get(kernels().scatter_workspace_bytes(args.n));
    const int steps = kernels().scatter_steps(scatter);
    for (int step = 0; step < steps; ++step) run(kernels().scatter_add_rows(scatter, step));
}

void CudaOps::zero_rows(void*, const RowSet&) {
    throw Error(ErrorCode::kUnsupported,
                "on a CUDA device a gradient table is cleared as a whole, not by rows");
}

void CudaOps::set_one_hot(void* x, std::int64_t classes, const std::int32_t* ids, std::int64_t n,
                          double value) {
    if (n == 0) return;
    run(kernels().set_one_hot({dtype_, x, classes, ids, n, value, api_->status_word()}));
}

void CudaOps::gemm(GemmArgs args, DType out_dtype) {
    args.dtype = dtype_;
    args.out_dtype = out_dtype;
    args.workspace_bytes = api_->gemm_workspace_bytes();
    args.workspace = args.workspace_bytes > 0 ? gemm_scratch_.get(args.workspace_bytes) : nullptr;
    api_->gemm(queue_, args);
}

/// Row-major C = op(A) op(B) is column-major C^T = op(B)^T op(A)^T, and a row-major matrix is its own
/// transpose in column-major: operands change places, flags stay.
void CudaOps::matmul(const MatMulArgs& args) {
    if (args.m == 0 || args.n == 0) return;
    GemmArgs product;
    product.trans_a = args.trans_b;
    product.trans_b = args.trans_a;
    product.m = args.n;
    product.n = args.m;
    product.k = args.k;
    product.alpha = args.alpha;
    product.beta = args.beta;
    product.a = args.b;
    product.lda = args.ldb;
    product.b = args.a;
    product.ldb = args.lda;
    product.c = args.c;
    product.ldc = args.ldc;
    gemm(product, args.c_is_gradient ? state_dtype() : stored(dtype_));
}

void CudaOps::matvec(const MatVecArgs& args) {
    if (args.rows == 0) return;
    GemmArgs product;
    product.trans_a = true;
    product.m = args.rows;
    product.n = 1;
    product.k = args.cols;
    product.a = args.weight;
    product.lda = args.cols;
    product.b = args.x;
    product.ldb = args.cols;
    product.c = args.y;
    product.ldc = args.rows;
    const bool folds = args.bias != nullptr && api_->folds_bias(dtype_);
    if (folds) product.bias = args.bias;
    gemm(product, stored(dtype_));
    if (args.bias == nullptr || folds) return;
    AddBiasArgs bias;
    bias.x = args.y;
    bias.rows = 1;
    bias.cols = bias.ld = args.rows;
    bias.bias = args.bias;
    add_bias(bias);
}

void CudaOps::add_bias(const AddBiasArgs& args) {
    if (args.rows == 0 || args.cols == 0) return;
    run(kernels().add_bias({dtype_, args.x, args.rows, args.cols, args.ld, args.bias}));
}

void CudaOps::column_sum(const ColumnSumArgs& args) {
    if (args.cols == 0) return;
    ColumnSumsArgs sums;
    sums.dtype = dtype_;
    sums.x = args.x;
    sums.rows = args.rows;
    sums.cols = args.cols;
    sums.ld = args.ld;
    sums.y = args.y;
    sums.accumulate = args.accumulate ? 1 : 0;
    sums.workspace =
        scratch_.get(kernels().column_sum_workspace_bytes(dtype_, args.rows, args.cols));
    run(kernels().column_sum(sums, 0));
    run(kernels().column_sum(sums, 1));
}

void CudaOps::softmax_xent(const SoftmaxXentArgs& args) {
    if (args.rows == 0) return;
    CrossEntropyArgs loss;
    loss.dtype = dtype_;
    loss.logits = args.logits;
    loss.bias = args.bias;
    loss.targets = args.targets;
    loss.rows = args.rows;
    loss.classes = args.classes;
    loss.scale = args.scale;
    loss.loss_scale = args.loss_scale;
    loss.dlogits = args.dlogits;
    loss.row_losses = args.row_losses;
    loss.status = api_->status_word();
    run(kernels().softmax_xent(loss));
}

void CudaOps::sum_losses(const LossSumArgs& args) {
    run(kernels().sum_losses({args.row_losses, args.targets, args.rows, args.classes, args.record,
                              args.accumulate ? 1 : 0, api_->status_word()}));
}

void CudaOps::dropout(const void* x, void* y, std::int64_t numel, double p, std::uint64_t seed,
                      std::uint64_t step, std::uint32_t layer) {
    if (numel > 0) run(kernels().dropout({dtype_, x, y, numel, p, nullptr, seed, step, layer}));
}

void CudaOps::dropout_keyed(const void* x, void* y, std::int64_t numel, double p,
                            const std::uint64_t* key, std::uint32_t layer) {
    if (numel > 0) run(kernels().dropout({dtype_, x, y, numel, p, key, 0, 0, layer}));
}

void CudaOps::sample_tokens(const SampleTokensArgs& args) {
    if (args.rows == 0) return;
    SampleArgs draw;
    draw.dtype = dtype_;
    draw.logits = args.logits;
    draw.rows = args.rows;
    draw.vocab_size = draw.ld = args.vocab_size;
    draw.temperature = args.temperature;
    draw.top_k = args.top_k;
    draw.top_p = args.top_p;
    draw.key = args.key;
    draw.seed = args.seed;
    draw.draw = args.draw;
    draw.tokens = args.tokens;
    run(kernels().sample(draw));
}

void CudaOps::grad_norm(const GradNormArgs& args) {
    if (args.rows.num_rows > 0) {
        throw Error(ErrorCode::kUnsupported, "on a CUDA device the norm reads all gradients");
    }
    std::int64_t used = 0;
    for (std::size_t s = 0; s < args.num_spans; ++s) {
        const NormSpan& span = args.spans[s];
        if (span.numel == 0) continue;
        run(kernels().sum_squares({state_dtype(), span.data, span.numel, args.partials + used}));
        used += norm_partials(span.numel);
    }
    run(kernels().decide({args.partials, used, args.max_norm, args.control, args.loss_scale}));
}

void CudaOps::reset_scale(StepControl* control, LossScale* loss_scale) {
    run(kernels().reset_scale({control, loss_scale}));
}

void CudaOps::optimizer_step(const OptimizerStepArgs& args) {
    if (args.row_set.rows != nullptr) {
        throw Error(ErrorCode::kUnsupported, "on a CUDA device an update visits all parameters");
    }
    ResolveArgs resolve;
    resolve.update = args.update;
    resolve.lr = args.lr;
    resolve.control = args.control;
    resolve.loss_scale = args.loss_scale;
    resolve.scalars = static_cast<UpdateScalars*>(scalars_.get(sizeof(UpdateScalars)));
    run(kernels().resolve(resolve));
    if (args.numel == 0) return;
    ParamUpdateArgs update;
    update.dtype = dtype_;
    update.update = args.update;
    update.working = args.working;
    update.numel = args.numel;
    update.scalars = resolve.scalars;
    run(kernels().update(update));
}

}  // namespace carousel::cuda
