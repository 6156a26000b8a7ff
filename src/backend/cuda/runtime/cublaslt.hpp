#pragma once

#include <cublasLt.h>

#include <string>

// cuBLASLt, opened when the first CUDA device is used: the library is half a gigabyte, and a program
// that stays on the CPU must start where it is absent.

namespace carousel::cuda {

/// The functions in use, with the types that the header gives them.
struct CublasLt {
    decltype(&cublasLtCreate) create = nullptr;
    decltype(&cublasLtDestroy) destroy = nullptr;
    decltype(&cublasLtGetStatusName) status_name = nullptr;
    decltype(&cublasLtGetVersion) version = nullptr;
    decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
    decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
    decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
    decltype(&cublasLtMatmulAlgoCheck) algo_check = nullptr;
    decltype(&cublasLtMatmul) matmul = nullptr;
};

/// Empty if the library is there with all of these, else a sentence that names what was tried: the
/// file that CAROUSEL_CUBLASLT names, the loader's search, CUDA_HOME and CUDA_PATH, /usr/local/cuda.
/// Looks once in a process.
std::string cublaslt_reason();

/// Only after cublaslt_reason() is empty.
const CublasLt& cublaslt();

}  // namespace carousel::cuda
