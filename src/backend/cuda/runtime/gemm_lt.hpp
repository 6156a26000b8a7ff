#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/backend/cuda/gemm_choice.hpp"
#include "src/backend/cuda/gemm_key.hpp"
#include "src/backend/cuda/runtime/cublaslt.hpp"
#include "src/backend/cuda/runtime/cuda_check.hpp"
#include "src/backend/cuda/runtime/device_pool.hpp"

namespace carousel::cuda {

/// Matrix products of one device on cuBLASLt. The device must be current in every call. Threads may
/// share it.
///
/// The algorithm is the heuristic's first, kept by GemmKey, so equal calls give equal bits; split
/// sums are added in the compute type in a fixed order (reduction schemes NONE and COMPUTE_TYPE).
/// The largest products are multiplied in parts (for_gemm_parts).
/// With tuning on it is the fastest of the heuristic's first kCandidates, timed at the first use of a
/// key outside a capture; choices that were loaded are used whether tuning is on or not.
class GemmLt {
public:
    /// Of what the heuristic offers beyond these, none is likely to win (its order is by estimated
    /// time), and each costs its products at the first use of a key.
    static constexpr int kCandidates = 8;

    GemmLt(DeviceHealth& health, DevicePool& pool, const std::string& device_name);
    ~GemmLt();
    GemmLt(const GemmLt&) = delete;
    GemmLt& operator=(const GemmLt&) = delete;

    /// Enqueues the sum of a product's result and its bias, on the product's stream.
    using AddBias = std::function<void(const GemmArgs& product)>;

    /// As DeviceApi::gemm. `add_bias` is called where cuBLASLt has an algorithm for the product, but none
    /// that adds the bias. Errors: InvalidArgument: gemm_problem; Unsupported: cuBLASLt has no algorithm;
    /// Cuda; DeviceLost.
    void run(cudaStream_t stream, const GemmArgs& args, const AddBias& add_bias);

    /// Behind GemmTuning.
    void set_tuning(bool on);
    bool tuning();
    std::string print_choices();
    void load_choices(const std::string& text, const std::string& name);

private:
    struct Chosen;
    struct Product;
    void check(cublasStatus_t status, const char* call, const GemmArgs* args = nullptr);
    bool multiply(cudaStream_t stream, const GemmArgs& args);
    Chosen& choose(const Product& product);
    std::vector<cublasLtMatmulAlgo_t> candidates(const GemmArgs& args, const Chosen& chosen,
                                                 int most);
    bool take_stored(const GemmKey& key, const GemmWorkspace& workspace, Chosen& chosen);
    void tune(const GemmKey& key, const Product& product, cudaStream_t stream, Chosen& chosen);
    cublasStatus_t enqueue(const Product& product, const Chosen& chosen,
                           const cublasLtMatmulAlgo_t& algo, void* c, cudaStream_t stream);
    bool recording(cudaStream_t stream);

    DeviceHealth& health_;
    DevicePool& pool_;
    GemmPlace place_;
    cublasLtHandle_t handle_ = nullptr;
    std::mutex mutex_;  // guards what follows
    bool tuning_ = false;
    GemmChoices choices_;  ///< timed or loaded
    std::unordered_map<GemmKey, std::unique_ptr<Chosen>, GemmKeyHash> chosen_;
};

}  // namespace carousel::cuda
