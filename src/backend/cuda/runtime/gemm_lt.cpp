#include "src/backend/cuda/runtime/gemm_lt.hpp"

#include "carousel/error.hpp"

namespace carousel::cuda {

namespace {

// Keys are few: shapes of a model times alignments of its steps. Beyond this many something makes new
// ones all the time, and memory is worth more than the heuristic's microseconds.
constexpr std::size_t kMaxChosen = 4096;

void check_lt(cublasStatus_t status, const char* call, const GemmArgs* args = nullptr) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    const bool unsupported =
        status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH;
    throw Error(unsupported ? ErrorCode::kUnsupported : ErrorCode::kCuda,
                std::string(call) + " failed" +
                    (args != nullptr ? " for the " + gemm_text(*args) : std::string()) + ": " +
                    cublaslt().status_name(status));
}

cudaDataType_t data_type(DType dtype) {
    switch (dtype) {
        case DType::kF64:
            return CUDA_R_64F;
        case DType::kBf16:
            return CUDA_R_16BF;
        case DType::kF16:
            return CUDA_R_16F;
        default:
            return CUDA_R_32F;  // f32 and tf32; gemm_problem refused the rest
    }
}

cublasComputeType_t compute_type(DType dtype) {
    switch (dtype) {
        case DType::kF64:
            return CUBLAS_COMPUTE_64F;
        case DType::kTf32:
            return CUBLAS_COMPUTE_32F_FAST_TF32;
        default:
            return CUBLAS_COMPUTE_32F;
    }
}

// A stored matrix, column-major.
cublasLtMatrixLayout_t make_layout(DType dtype, std::int64_t rows, std::int64_t columns,
                                   std::int64_t ld, std::int64_t batch, std::int64_t stride) {
    const CublasLt& lt = cublaslt();
    cublasLtMatrixLayout_t layout = nullptr;
    check_lt(lt.layout_create(&layout, data_type(dtype), static_cast<std::uint64_t>(rows),
                              static_cast<std::uint64_t>(columns), ld),
             "cublasLtMatrixLayoutCreate");
    if (batch > 1) {
        const auto count = static_cast<std::int32_t>(batch);
        cublasStatus_t status =
            lt.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count));
        if (status == CUBLAS_STATUS_SUCCESS) {
            status = lt.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                   sizeof(stride));
        }
        if (status != CUBLAS_STATUS_SUCCESS) {
            lt.layout_destroy(layout);
            check_lt(status, "cublasLtMatrixLayoutSetAttribute");
        }
    }
    return layout;
}

struct Preference {
    cublasLtMatmulPreference_t value = nullptr;

    Preference() {
        check_lt(cublaslt().preference_create(&value), "cublasLtMatmulPreferenceCreate");
    }
    ~Preference() { cublaslt().preference_destroy(value); }
    Preference(const Preference&) = delete;
    Preference& operator=(const Preference&) = delete;

    template <class T>
    void set(cublasLtMatmulPreferenceAttributes_t attribute, T setting) {
        check_lt(cublaslt().preference_set(value, attribute, &setting, sizeof(setting)),
                 "cublasLtMatmulPreferenceSetAttribute");
    }
};

}  // namespace

// Descriptors and algorithm of one key. The bias pointer in `desc` is that of the latest call.
struct GemmLt::Chosen {
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulAlgo_t algo{};

    Chosen() = default;
    ~Chosen() {
        const CublasLt& lt = cublaslt();
        for (cublasLtMatrixLayout_t layout : {a, b, c}) {
            if (layout != nullptr) lt.layout_destroy(layout);
        }
        if (desc != nullptr) lt.desc_destroy(desc);
    }
    Chosen(const Chosen&) = delete;
    Chosen& operator=(const Chosen&) = delete;

    template <class T>
    void set(cublasLtMatmulDescAttributes_t attribute, T setting) {
        check_lt(cublaslt().desc_set(desc, attribute, &setting, sizeof(setting)),
                 "cublasLtMatmulDescSetAttribute");
    }
};

GemmLt::GemmLt(DeviceHealth& health) : health_(health) {
    check_lt(cublaslt().create(&handle_), "cublasLtCreate");
}

GemmLt::~GemmLt() {
    chosen_.clear();
    // Destroying the handle waits for the device; a dead one answers with an error.
    if (handle_ != nullptr && !health_.lost() && !process_exiting()) cublaslt().destroy(handle_);
}

GemmLt::Chosen& GemmLt::choose(const GemmArgs& g, const void* bias) {
    const GemmKey key = gemm_key(g);
    if (const auto found = chosen_.find(key); found != chosen_.end()) {
        if (bias != nullptr) found->second->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        return *found->second;
    }
    auto chosen = std::make_unique<Chosen>();
    const bool wide = g.dtype == DType::kF64;
    check_lt(cublaslt().desc_create(&chosen->desc, compute_type(g.dtype),
                                    wide ? CUDA_R_64F : CUDA_R_32F),
             "cublasLtMatmulDescCreate");
    chosen->set<std::int32_t>(CUBLASLT_MATMUL_DESC_TRANSA, g.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    chosen->set<std::int32_t>(CUBLASLT_MATMUL_DESC_TRANSB, g.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (bias != nullptr) {
        chosen->set<std::uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
        chosen->set<std::int32_t>(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(g.dtype));
        // The heuristic reads the pointer's alignment, not the bias.
        chosen->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    chosen->a = make_layout(g.dtype, g.trans_a ? g.k : g.m, g.trans_a ? g.m : g.k, g.lda, g.batch,
                            g.stride_a);
    chosen->b = make_layout(g.dtype, g.trans_b ? g.n : g.k, g.trans_b ? g.k : g.n, g.ldb, g.batch,
                            g.stride_b);
    chosen->c = make_layout(g.out_dtype, g.m, g.n, g.ldc, g.batch, g.stride_c);

    Preference preference;
    const GemmAlignments alignments = gemm_alignments(g);
    preference.set<std::uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                  gemm_workspace(g).bytes);
    preference.set<std::uint32_t>(
        CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments.a);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments.b);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments.c);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments.c);
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    check_lt(cublaslt().heuristic(handle_, chosen->desc, chosen->a, chosen->b, chosen->c, chosen->c,
                                  preference.value, 1, &result, &count),
             "cublasLtMatmulAlgoGetHeuristic", &g);
    check_lt(count > 0 ? result.state : CUBLAS_STATUS_NOT_SUPPORTED,
             "cublasLtMatmulAlgoGetHeuristic", &g);
    chosen->algo = result.algo;
    if (chosen_.size() >= kMaxChosen) chosen_.clear();
    return *chosen_.emplace(key, std::move(chosen)).first->second;
}

void GemmLt::run(cudaStream_t stream, const GemmArgs& g) {
    if (const std::string problem = gemm_problem(g); !problem.empty()) {
        throw Error(ErrorCode::kInvalidArgument, "cannot do the " + gemm_text(g) + ": " + problem);
    }
    const GemmWorkspace workspace = gemm_workspace(g);
    const void* bias = g.bias;
    if (workspace.bias_copy != nullptr) {
        health_.check(cudaMemcpyAsync(workspace.bias_copy, g.bias,
                                      static_cast<std::size_t>(g.m) * dtype_bytes(g.dtype),
                                      cudaMemcpyDeviceToDevice, stream),
                      "cudaMemcpyAsync", "the bias of a product");
        bias = workspace.bias_copy;
    }
    const float alpha_f32 = static_cast<float>(g.alpha), beta_f32 = static_cast<float>(g.beta);
    const bool wide = g.dtype == DType::kF64;
    const void* alpha = wide ? static_cast<const void*>(&g.alpha) : &alpha_f32;
    const void* beta = wide ? static_cast<const void*>(&g.beta) : &beta_f32;

    // Held while enqueuing: the bias pointer travels in the key's descriptor.
    const std::lock_guard lock(mutex_);
    Chosen& chosen = choose(g, bias);
    const cublasStatus_t status = cublaslt().matmul(
        handle_, chosen.desc, alpha, g.a, chosen.a, g.b, chosen.b, beta, g.c, chosen.c, g.c,
        chosen.c, &chosen.algo, workspace.memory, workspace.bytes, stream);
    // A dead context shows as a failed execution here; the runtime knows what it died of.
    if (status == CUBLAS_STATUS_EXECUTION_FAILED || status == CUBLAS_STATUS_INTERNAL_ERROR) {
        health_.check(cudaPeekAtLastError(), "cublasLtMatmul", gemm_text(g).c_str());
    }
    check_lt(status, "cublasLtMatmul", &g);
}

}  // namespace carousel::cuda
