#include "bench/gpu/cudnn_library.hpp"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "bench/gpu/cudnn_side.hpp"
#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

struct Loaded {
    Cudnn functions;
    std::string reason;
};

std::vector<std::string> places() {
    std::vector<std::string> all;
    if (const char* file = std::getenv("CAROUSEL_CUDNN"); file != nullptr && *file != '\0') {
        all.emplace_back(file);
    }
    const std::string name = "libcudnn.so." + std::to_string(CUDNN_MAJOR);
    all.push_back(name);
    for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
        const char* home = std::getenv(variable);
        if (home == nullptr || *home == '\0') continue;
        for (const char* folder : {"/lib64/", "/lib/"}) all.push_back(home + (folder + name));
    }
    for (const char* folder : {"/usr/local/cuda/lib64/", "/usr/local/cuda/lib/"}) {
        all.push_back(folder + name);
    }
    return all;
}

Loaded load() {
    Loaded loaded;
    void* library = nullptr;
    std::string tried;
    for (const std::string& place : places()) {
        library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library != nullptr) break;
        const char* why = dlerror();
        tried += "\n  " + std::string(why == nullptr ? place : why);
    }
    if (library == nullptr) {
        loaded.reason = "cuDNN cannot be opened; set CAROUSEL_CUDNN to its file. Tried:" + tried;
        return loaded;
    }
#define CAROUSEL_CUDNN_LOAD(name)                                                \
    loaded.functions.name =                                                      \
        reinterpret_cast<decltype(&cudnn##name)>(dlsym(library, "cudnn" #name)); \
    if (loaded.functions.name == nullptr) loaded.reason += " cudnn" #name;
    CAROUSEL_CUDNN_FUNCTIONS(CAROUSEL_CUDNN_LOAD)
#undef CAROUSEL_CUDNN_LOAD
    if (!loaded.reason.empty()) {
        loaded.reason = "cuDNN is of another version: it lacks" + loaded.reason;
    }
    return loaded;
}

const Loaded& loaded() {
    static const Loaded once = load();
    return once;
}

}  // namespace

std::string cudnn_reason() { return loaded().reason; }

std::string cudnn_version() {
    if (!cudnn_reason().empty()) return "absent";
    const std::size_t v = cudnn().GetVersion();
    return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
           std::to_string(v % 100);
}

const Cudnn& cudnn() { return loaded().functions; }

void check_cudnn(cudnnStatus_t status, const char* call) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    std::array<char, 512> detail{};
    cudnn().GetLastErrorString(detail.data(), detail.size());
    // Categories are thousands: 2000 bad parameter, 3000 not supported.
    const int category = static_cast<int>(status) / 1000;
    std::string text = std::string(call) + ": " + cudnn().GetErrorString(status);
    if (detail[0] != '\0') text += std::string(" (") + detail.data() + ")";
    throw Error(category == 2 || category == 3 ? ErrorCode::kUnsupported : ErrorCode::kCuda, text);
}

}  // namespace carousel::bench
