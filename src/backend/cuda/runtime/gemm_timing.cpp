#include "src/backend/cuda/runtime/gemm_timing.hpp"

#include <algorithm>

#include "src/backend/cuda/gemm_choice.hpp"

namespace carousel::cuda {

namespace {

constexpr int kRounds = 5;
// Events resolve half a microsecond (CUDA runtime, cudaEventElapsedTime); small products take two.
constexpr int kProductsPerRound = 4;

/// A stream, two events and a scratch result; nothing of them is in use when it goes.
class Bench {
public:
    Bench(DeviceHealth& health, DevicePool& pool) : health_(health), pool_(pool) {}
    ~Bench() {
        if (health_.lost() || process_exiting()) return;
        // The pool knows nothing of this stream.
        if (stream != nullptr) health_.note(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
        if (memory_ != nullptr && !health_.lost()) pool_.release(memory_);
        for (cudaEvent_t event : {begin_, end_}) {
            if (event != nullptr) health_.note(cudaEventDestroy(event), "cudaEventDestroy");
        }
        if (stream != nullptr) health_.note(cudaStreamDestroy(stream), "cudaStreamDestroy");
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    /// What can fail; the destructor takes down what was put up before it did.
    void open(const GemmArgs& args) {
        const std::size_t bytes = gemm_result_bytes(args);
        memory_ = static_cast<std::byte*>(
            pool_.allocate(bytes + kMaxAlignment, "a scratch result, to time products"));
        // As far behind a boundary as the caller's: algorithms differ in the alignment they need.
        const auto place = reinterpret_cast<std::uintptr_t>(args.c);
        const auto start = reinterpret_cast<std::uintptr_t>(memory_);
        result = memory_ + (place - start) % kMaxAlignment;
        health_.check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                      "cudaStreamCreateWithFlags");
        for (cudaEvent_t* event : {&begin_, &end_}) {
            health_.check(cudaEventCreateWithFlags(event, cudaEventDefault),
                          "cudaEventCreateWithFlags");
        }
        health_.check(cudaMemsetAsync(result, 0, bytes, stream), "cudaMemsetAsync");
    }

    /// Nanoseconds of one of the products that `enqueue` puts on the stream.
    template <class Enqueue>
    double time(const Enqueue& enqueue) {
        health_.check(cudaEventRecord(begin_, stream), "cudaEventRecord");
        for (int i = 0; i < kProductsPerRound; ++i) {
            if (!enqueue()) return kNeverNs;
        }
        health_.check(cudaEventRecord(end_, stream), "cudaEventRecord");
        health_.check(cudaEventSynchronize(end_), "cudaEventSynchronize", "timing products");
        float ms = 0.0F;
        health_.check(cudaEventElapsedTime(&ms, begin_, end_), "cudaEventElapsedTime");
        return static_cast<double>(ms) * 1e6 / kProductsPerRound;
    }

    cudaStream_t stream = nullptr;
    std::byte* result = nullptr;

private:
    DeviceHealth& health_;
    DevicePool& pool_;
    std::byte* memory_ = nullptr;
    cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// False if cuBLASLt refused; a dead context throws.
bool accepted(DeviceHealth& health, cublasStatus_t status) {
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    health.check_alive("cublasLtMatmul", "timing products");
    return false;
}

}  // namespace

std::vector<double> time_gemm(DeviceHealth& health, DevicePool& pool, cudaStream_t queue,
                              const GemmArgs& args, std::size_t count,
                              const GemmCandidate& candidate) {
    // Another stream may be recording on this thread, or anywhere in the process.
    const RelaxedCapture relaxed;
    Bench bench(health, pool);
    bench.open(args);
    health.check(cudaStreamSynchronize(queue), "cudaStreamSynchronize", "timing products");
    const auto enqueue = [&](std::size_t index) {
        return accepted(health, candidate(index, bench.result, bench.stream));
    };
    std::vector<bool> runs(count);
    for (std::size_t i = 0; i < count; ++i) runs[i] = enqueue(i);
    health.check(cudaStreamSynchronize(bench.stream), "cudaStreamSynchronize", "timing products");
    std::vector<double> ns(count, kNeverNs);
    // By turns, so that a clock that rises or falls meets all of them.
    for (int round = 0; round < kRounds; ++round) {
        for (std::size_t i = 0; i < count; ++i) {
            if (!runs[i]) continue;
            const double measured = bench.time([&] { return enqueue(i); });
            runs[i] = measured < kNeverNs;
            ns[i] = runs[i] ? std::min(ns[i], measured) : kNeverNs;
        }
    }
    return ns;
}

}  // namespace carousel::cuda
