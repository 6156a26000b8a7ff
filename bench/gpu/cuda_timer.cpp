#include "bench/gpu/cuda_timer.hpp"

#include <dlfcn.h>

#include <string>
#include <vector>

#include "carousel/error.hpp"
#include "src/backend/cuda/runtime/cublaslt.hpp"
#include "src/backend/cuda/runtime/cuda_check.hpp"

namespace carousel::bench {

namespace {

void check(cudaError_t error, const char* call) {
    if (error == cudaSuccess) return;
    throw Error(cuda::is_sticky(error) ? ErrorCode::kDeviceLost : ErrorCode::kCuda,
                std::string(call) + ": " + cuda::error_text(error));
}

class CudaTimer final : public QueueTimer {
public:
    ~CudaTimer() override {
        for (const cudaEvent_t event : events_) cudaEventDestroy(event);
    }
    void mark(cuda::Queue queue, int i) override {
        check(cudaEventRecord(event(i), static_cast<cudaStream_t>(queue.native)),
              "cudaEventRecord");
    }
    double between_ms(int from, int to) override {
        check(cudaEventSynchronize(event(to)), "cudaEventSynchronize");
        float ms = 0.0F;
        check(cudaEventElapsedTime(&ms, event(from), event(to)), "cudaEventElapsedTime");
        return static_cast<double>(ms);
    }

private:
    cudaEvent_t event(int i) {
        while (events_.size() <= static_cast<std::size_t>(i)) {
            cudaEvent_t event = nullptr;
            check(cudaEventCreate(&event), "cudaEventCreate");
            events_.push_back(event);
        }
        return events_[static_cast<std::size_t>(i)];
    }
    std::vector<cudaEvent_t> events_;
};

}  // namespace

std::unique_ptr<QueueTimer> make_cuda_timer() { return std::make_unique<CudaTimer>(); }

void use_cuda_device(int index) { check(cudaSetDevice(index), "cudaSetDevice"); }

std::string cublaslt_version() {
    if (!cuda::cublaslt_reason().empty()) return "absent";
    // The library that is in use is the one which its function came from.
    Dl_info info{};
    if (dladdr(reinterpret_cast<const void*>(cuda::cublaslt().create), &info) == 0) {
        return "unknown";
    }
    void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return "unknown";
    using Version = std::size_t (*)();
    const auto version = reinterpret_cast<Version>(dlsym(library, "cublasLtGetVersion"));
    const std::size_t number = version == nullptr ? 0 : version();
    dlclose(library);
    if (number == 0) return "unknown";
    return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
           std::to_string(number % 100);
}

}  // namespace carousel::bench
