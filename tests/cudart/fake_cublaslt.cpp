// A cuBLASLt that writes down what it is told: built as a library of its own and opened through
// CAROUSEL_CUBLASLT, as the real one would be.

#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/cudart/fake_cudart.hpp"

namespace {

carousel::test::FakeCublasLt state;

// Descriptors are opaque arrays to their users; here they hold these.
struct Desc {
    int compute, scale, trans_a, trans_b, epilogue, bias_type;
    const void* bias;
};
struct Layout {
    int type, batch;
    std::uint64_t rows, columns;
    std::int64_t ld, stride;
};
struct Preference {
    std::uint64_t workspace;
    std::uint32_t reduction, alignments[4];
};

template <class T>
cublasStatus_t put(T& to, const void* from, std::size_t bytes) {
    if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

template <class Opaque, class Own>
cublasStatus_t make(Opaque** to, const Own& own) {
    static_assert(sizeof(Own) <= sizeof(Opaque));
    *to = new Opaque{};
    std::memcpy(*to, &own, sizeof(own));
    ++state.live_objects;
    return CUBLAS_STATUS_SUCCESS;
}

template <class Opaque>
cublasStatus_t take_down(Opaque* object) {
    --state.live_objects;
    delete object;
    return CUBLAS_STATUS_SUCCESS;
}

void note_layout(int which, cublasLtMatrixLayout_t opaque) {
    const auto* layout = reinterpret_cast<const Layout*>(opaque);
    state.types[which] = layout->type;
    state.rows[which] = static_cast<long>(layout->rows);
    state.columns[which] = static_cast<long>(layout->columns);
    state.ld[which] = static_cast<long>(layout->ld);
    state.stride[which] = static_cast<long>(layout->stride);
    state.batch[which] = layout->batch;
}

}  // namespace

extern "C" {

carousel::test::FakeCublasLt* fake_cublaslt_state() { return &state; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    ++state.creates;
    *handle = reinterpret_cast<cublasLtHandle_t>(&state);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) {
    ++state.destroys;
    return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusName(cublasStatus_t status) {
    return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS";
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    return make(desc, Desc{compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, -1,
                           nullptr});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return take_down(desc); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t opaque,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
    auto* desc = reinterpret_cast<Desc*>(opaque);
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA:
            return put(desc->trans_a, value, bytes);
        case CUBLASLT_MATMUL_DESC_TRANSB:
            return put(desc->trans_b, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
            return put(desc->epilogue, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
            return put(desc->bias_type, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
            return put(desc->bias, value, bytes);
        default:
            return CUBLAS_STATUS_INVALID_VALUE;
    }
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
    return make(layout, Layout{type, 1, rows, columns, ld, 0});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    return take_down(layout);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t opaque,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
    auto* layout = reinterpret_cast<Layout*>(opaque);
    switch (attribute) {
        case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
            return put(layout->batch, value, bytes);
        case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
            return put(layout->stride, value, bytes);
        default:
            return CUBLAS_STATUS_INVALID_VALUE;
    }
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    return make(preference, Preference{});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    return take_down(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t opaque,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
    auto* preference = reinterpret_cast<Preference*>(opaque);
    switch (attribute) {
        case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
            return put(preference->workspace, value, bytes);
        case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
            return put(preference->reduction, value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
            return put(preference->alignments[0], value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
            return put(preference->alignments[1], value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
            return put(preference->alignments[2], value, bytes);
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
            return put(preference->alignments[3], value, bytes);
        default:
            return CUBLAS_STATUS_INVALID_VALUE;
    }
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t opaque, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
    ++state.heuristics;
    if (state.in_heuristic != nullptr) state.in_heuristic();
    *count = 0;
    if (state.fail_heuristic != 0) {
        return static_cast<cublasStatus_t>(std::exchange(state.fail_heuristic, 0));
    }
    if (state.no_algorithm) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool adds_bias = reinterpret_cast<const Desc*>(desc)->epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (state.no_bias && adds_bias) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    const auto* preference = reinterpret_cast<const Preference*>(opaque);
    state.workspace_offered = preference->workspace;
    state.reduction_mask = preference->reduction;
    std::memcpy(state.alignments, preference->alignments, sizeof(state.alignments));
    state.wanted = wanted;
    *count = std::min(wanted, state.num_algos);
    for (int i = 0; i < *count; ++i) {
        results[i] = {};
        results[i].state = CUBLAS_STATUS_SUCCESS;
        results[i].algo.data[0] = state.kFirstAlgo + static_cast<unsigned>(i);
        results[i].algo.data[7] = ~std::uint64_t{0};
    }
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() { return state.version; }
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
    ++state.checks;
    result->workspaceSize = state.check_workspace;
    // What the heuristic gave, in every word.
    const std::uint64_t index = algo->data[0] - state.kFirstAlgo;
    const bool known =
        index < static_cast<std::uint64_t>(state.num_algos) && algo->data[7] == ~std::uint64_t{0};
    return known ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t opaque, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t,
                              const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    if (state.refused.count(algo->data[0]) != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (state.in_matmul != nullptr) state.in_matmul();
    ++state.matmuls;
    state.products.push_back({algo->data[0], c, d, stream});
    state.clock_us += state.cost_us[algo->data[0] - state.kFirstAlgo];
    const auto* desc = reinterpret_cast<const Desc*>(opaque);
    state.compute_type = desc->compute;
    state.scale_type = desc->scale;
    state.trans_a = desc->trans_a;
    state.trans_b = desc->trans_b;
    state.epilogue = desc->epilogue;
    state.bias_type = desc->bias_type;
    state.bias = desc->bias;
    note_layout(0, a_layout);
    note_layout(1, b_layout);
    note_layout(2, c_layout);
    const bool wide = desc->scale == CUDA_R_64F;
    state.alpha = wide ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
    state.beta = wide ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
    state.operands[0] = a;
    state.operands[1] = b;
    state.operands[2] = c;
    state.operands[3] = d;
    state.workspace = workspace;
    state.workspace_used = workspace_bytes;
    const auto status = static_cast<cublasStatus_t>(state.fail_matmul);
    state.fail_matmul = 0;
    if (state.computes && state.types[2] == CUDA_R_32F) {
        const double sum = state.beta * *static_cast<const float*>(c) +
                           state.alpha * static_cast<double>(algo->data[0]);
        *static_cast<float*>(d) = static_cast<float>(sum);
    }
    return status;
}

}  // extern "C"
