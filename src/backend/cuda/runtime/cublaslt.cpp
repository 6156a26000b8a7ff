#include "src/backend/cuda/runtime/cublaslt.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

namespace carousel::cuda {

namespace {

// A library of another major version has another name and another interface.
const std::string kFile = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);

std::vector<std::string> places() {
    if (const char* file = std::getenv("CAROUSEL_CUBLASLT"); file != nullptr && *file != '\0') {
        return {file};
    }
    std::vector<std::string> files = {kFile};
    for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
        const char* folder = std::getenv(variable);
        if (folder == nullptr || *folder == '\0') continue;
        files.push_back(std::string(folder) + "/lib64/" + kFile);
        files.push_back(std::string(folder) + "/lib/" + kFile);
    }
    files.push_back("/usr/local/cuda/lib64/" + kFile);
    return files;
}

struct Opened {
    CublasLt functions;
    std::string reason;
};

template <class Function>
bool find(void* library, const char* name, Function& function, std::string& reason) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) reason = std::string(name) + " is missing from cuBLASLt";
    return function != nullptr;
}

Opened open() {
    Opened opened;
    void* library = nullptr;
    std::string tried;
    for (const std::string& file : places()) {
        // Never closed: kernels of it may still run when the last device object goes.
        library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library != nullptr) break;
        const char* why = dlerror();
        tried += (tried.empty() ? "" : "; ") + (why != nullptr ? std::string(why) : file);
    }
    if (library == nullptr) {
        opened.reason = "cuBLASLt was not found (" + tried + "); install CUDA " +
                        std::to_string(CUBLAS_VER_MAJOR) +
                        "'s cuBLAS, or set CUDA_HOME, or CAROUSEL_CUBLASLT to its file";
        return opened;
    }
    CublasLt& lt = opened.functions;
    std::string& reason = opened.reason;
    const bool complete =
        find(library, "cublasLtCreate", lt.create, reason) &&
        find(library, "cublasLtDestroy", lt.destroy, reason) &&
        find(library, "cublasLtGetStatusName", lt.status_name, reason) &&
        find(library, "cublasLtGetVersion", lt.version, reason) &&
        find(library, "cublasLtMatmulDescCreate", lt.desc_create, reason) &&
        find(library, "cublasLtMatmulDescDestroy", lt.desc_destroy, reason) &&
        find(library, "cublasLtMatmulDescSetAttribute", lt.desc_set, reason) &&
        find(library, "cublasLtMatrixLayoutCreate", lt.layout_create, reason) &&
        find(library, "cublasLtMatrixLayoutDestroy", lt.layout_destroy, reason) &&
        find(library, "cublasLtMatrixLayoutSetAttribute", lt.layout_set, reason) &&
        find(library, "cublasLtMatmulPreferenceCreate", lt.preference_create, reason) &&
        find(library, "cublasLtMatmulPreferenceDestroy", lt.preference_destroy, reason) &&
        find(library, "cublasLtMatmulPreferenceSetAttribute", lt.preference_set, reason) &&
        find(library, "cublasLtMatmulAlgoGetHeuristic", lt.heuristic, reason) &&
        find(library, "cublasLtMatmulAlgoCheck", lt.algo_check, reason) &&
        find(library, "cublasLtMatmul", lt.matmul, reason);
    if (!complete) reason += "; reinstall CUDA's cuBLAS";
    return opened;
}

// Kept for ever: descriptors are returned to the library by destructors that may run late.
const Opened& opened() {
    static const Opened* const once = new Opened(open());
    return *once;
}

}  // namespace

std::string cublaslt_reason() { return opened().reason; }

const CublasLt& cublaslt() { return opened().functions; }

}  // namespace carousel::cuda
