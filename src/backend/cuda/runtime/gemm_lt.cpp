#include "src/backend/cuda/runtime/gemm_lt.hpp"

#include <cmath>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/cuda/runtime/gemm_timing.hpp"

namespace carousel::cuda {

namespace {

// Keys are few: shapes of a model times alignments of its steps. Beyond this many something makes new
// ones all the time, and memory is worth more than the heuristic's microseconds. Nor is more timed.
constexpr std::size_t kMaxChosen = 4096;

// "can be trivially serialized and later restored for use with the same version of cuBLAS library"
// (cuBLAS documentation, cublasLtMatmulAlgo_t).
static_assert(sizeof(GemmAlgo) == sizeof(cublasLtMatmulAlgo_t));
static_assert(std::is_trivially_copyable_v<cublasLtMatmulAlgo_t>);

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

// A product as cuBLASLt gets it: the bias where it is read, the scalars in the compute type.
struct GemmLt::Product {
    const GemmArgs& args;
    GemmWorkspace workspace;
    const void* bias;
    float alpha_f32, beta_f32;

    explicit Product(const GemmArgs& g)
        : args(g),
          workspace(gemm_workspace(g)),
          bias(workspace.bias_copy != nullptr ? workspace.bias_copy : g.bias),
          alpha_f32(static_cast<float>(g.alpha)),
          beta_f32(static_cast<float>(g.beta)) {}
    const void* alpha() const {
        if (args.dtype == DType::kF64) return &args.alpha;
        return &alpha_f32;
    }
    const void* beta() const {
        if (args.dtype == DType::kF64) return &args.beta;
        return &beta_f32;
    }
};

// Descriptors and algorithm of one key. The bias pointer in `desc` is that of the latest call.
struct GemmLt::Chosen {
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulAlgo_t algo{};
    bool loaded = false;      ///< the algorithm's kernels
    bool settled = false;     ///< stored, timed, or beyond timing: tuning passes it by
    bool bias_apart = false;  ///< there is no algorithm with the bias

    explicit Chosen(const Product& product);
    ~Chosen() { destroy(); }
    void destroy() noexcept {
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

GemmLt::Chosen::Chosen(const Product& product) {
    const GemmArgs& g = product.args;
    const bool wide = g.dtype == DType::kF64;
    check_lt(cublaslt().desc_create(&desc, compute_type(g.dtype), wide ? CUDA_R_64F : CUDA_R_32F),
             "cublasLtMatmulDescCreate");
    try {
        set<std::int32_t>(CUBLASLT_MATMUL_DESC_TRANSA, g.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
        set<std::int32_t>(CUBLASLT_MATMUL_DESC_TRANSB, g.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
        if (product.bias != nullptr) {
            set<std::uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
            set<std::int32_t>(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(g.dtype));
            // The heuristic reads the pointer's alignment, not the bias.
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
        }
        a = make_layout(g.dtype, g.trans_a ? g.k : g.m, g.trans_a ? g.m : g.k, g.lda, g.batch,
                        g.stride_a);
        b = make_layout(g.dtype, g.trans_b ? g.n : g.k, g.trans_b ? g.k : g.n, g.ldb, g.batch,
                        g.stride_b);
        c = make_layout(g.out_dtype, g.m, g.n, g.ldc, g.batch, g.stride_c);
    } catch (...) {
        destroy();
        throw;
    }
}

GemmLt::GemmLt(DeviceHealth& health, DevicePool& pool, const std::string& device_name)
    : health_(health), pool_(pool), place_{device_name, cublaslt().version()} {
    check(cublaslt().create(&handle_), "cublasLtCreate");
}

GemmLt::~GemmLt() {
    chosen_.clear();
    // Destroying the handle waits for the device; a dead one answers with an error.
    if (handle_ != nullptr && !health_.lost() && !process_exiting()) cublaslt().destroy(handle_);
}

// As check_lt, of calls that reach the device: a dead context shows there as one of many failures.
void GemmLt::check(cublasStatus_t status, const char* call, const GemmArgs* args) {
    if (status != CUBLAS_STATUS_SUCCESS) {
        health_.check_alive(call, args != nullptr ? gemm_text(*args).c_str() : nullptr);
    }
    check_lt(status, call, args);
}

// The heuristic's results, best first.
std::vector<cublasLtMatmulAlgo_t> GemmLt::candidates(const GemmArgs& g, const Chosen& chosen,
                                                     int most) {
    Preference preference;
    const GemmAlignments alignments = gemm_alignments(g);
    const std::size_t workspace_bytes = gemm_workspace(g).bytes;
    preference.set<std::uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    preference.set<std::uint32_t>(
        CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments.a);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments.b);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments.c);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments.c);
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(most));
    int count = 0;
    const cublasStatus_t status =
        cublaslt().heuristic(handle_, chosen.desc, chosen.a, chosen.b, chosen.c, chosen.c,
                             preference.value, most, results.data(), &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic", &g);
    results.resize(static_cast<std::size_t>(count));
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    for (const cublasLtMatmulHeuristicResult_t& result : results) {
        if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
    }
    return algorithms;
}

// False if there is none, or the library will not have it here; that one is forgotten.
bool GemmLt::take_stored(const GemmKey& key, const GemmWorkspace& workspace, Chosen& chosen) {
    const auto stored = choices_.find(key);
    if (stored == choices_.end()) return false;
    std::memcpy(&chosen.algo, stored->second.algo.data(), sizeof(chosen.algo));
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status = cublaslt().algo_check(handle_, chosen.desc, chosen.a, chosen.b,
                                                        chosen.c, chosen.c, &chosen.algo, &result);
    chosen.settled = status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace.bytes;
    if (!chosen.settled) choices_.erase(stored);
    return chosen.settled;
}

void GemmLt::tune(const GemmKey& key, const Product& product, cudaStream_t stream, Chosen& chosen) {
    chosen.settled = true;
    if (choices_.size() >= kMaxChosen) return;
    const std::vector<cublasLtMatmulAlgo_t> algorithms =
        candidates(product.args, chosen, kCandidates);
    if (algorithms.empty()) return;
    std::vector<double> ns(algorithms.size(), 0.0);
    if (algorithms.size() > 1) {
        try {
            ns = time_gemm(health_, pool_, stream, product.args, algorithms.size(),
                           [&](std::size_t i, void* c, cudaStream_t queue) {
                               return enqueue(product, chosen, algorithms[i], c, queue);
                           });
        } catch (const Error& error) {
            // Timing must not take a step's memory away from it: the heuristic's first serves.
            if (error.code() == ErrorCode::kOutOfMemory) return;
            throw;
        }
    }
    const std::size_t fastest = fastest_gemm(ns);
    if (ns[fastest] >= kNeverNs) return;  // none ran; the call itself will say why
    GemmChoice choice;
    choice.ns = std::llround(ns[fastest]);
    choice.first_ns = ns[0] < kNeverNs ? std::llround(ns[0]) : choice.ns;
    std::memcpy(choice.algo.data(), &algorithms[fastest], sizeof(chosen.algo));
    choices_.emplace(key, choice);
    chosen.algo = algorithms[fastest];
}

GemmLt::Chosen& GemmLt::choose(const Product& product) {
    const GemmKey key = gemm_key(product.args);
    auto found = chosen_.find(key);
    if (found != chosen_.end()) {
        if (product.bias != nullptr) {
            found->second->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
        }
    } else {
        // The heuristic asks the driver for things that it refuses to a thread that records.
        const RelaxedCapture relaxed;
        auto chosen = std::make_unique<Chosen>(product);
        if (!take_stored(key, product.workspace, *chosen)) {
            const std::vector<cublasLtMatmulAlgo_t> first = candidates(product.args, *chosen, 1);
            chosen->bias_apart = first.empty() && product.bias != nullptr;
            if (!first.empty()) {
                chosen->algo = first.front();
            } else if (!chosen->bias_apart) {
                check_lt(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic",
                         &product.args);
            }
        }
        if (chosen_.size() >= kMaxChosen) chosen_.clear();
        found = chosen_.emplace(key, std::move(chosen)).first;
    }
    return *found->second;
}

bool GemmLt::recording(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    health_.check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing", "a product");
    return status != cudaStreamCaptureStatusNone;
}

cublasStatus_t GemmLt::enqueue(const Product& product, const Chosen& chosen,
                               const cublasLtMatmulAlgo_t& algo, void* c, cudaStream_t stream) {
    const GemmArgs& g = product.args;
    return cublaslt().matmul(handle_, chosen.desc, product.alpha(), g.a, chosen.a, g.b, chosen.b,
                             product.beta(), c, chosen.c, c, chosen.c, &algo,
                             product.workspace.memory, product.workspace.bytes, stream);
}

void GemmLt::run(cudaStream_t stream, const GemmArgs& g, const AddBias& add_bias) {
    if (const std::string problem = gemm_problem(g); !problem.empty()) {
        throw Error(ErrorCode::kInvalidArgument, "cannot do the " + gemm_text(g) + ": " + problem);
    }
    for_gemm_parts(g, gemm_part_sizes(g), [&](const GemmArgs& part) {
        if (multiply(stream, part)) return;
        GemmArgs without_bias = part;
        without_bias.bias = nullptr;
        multiply(stream, without_bias);
        add_bias(part);
    });
}

// False, and nothing enqueued, if the bias has to be added apart.
bool GemmLt::multiply(cudaStream_t stream, const GemmArgs& g) {
    const Product product(g);
    // Held while enqueuing: the bias pointer travels in the key's descriptor.
    const std::lock_guard lock(mutex_);
    Chosen& chosen = choose(product);
    if (chosen.bias_apart) return false;
    if (product.workspace.bias_copy != nullptr) {
        health_.check(cudaMemcpyAsync(product.workspace.bias_copy, g.bias,
                                      static_cast<std::size_t>(g.m) * dtype_bytes(g.dtype),
                                      cudaMemcpyDeviceToDevice, stream),
                      "cudaMemcpyAsync", "the bias of a product");
    }
    if (tuning_ && !chosen.settled && !recording(stream)) {
        tune(gemm_key(g), product, stream, chosen);
    }
    // The first product of an algorithm loads its kernels, which the driver refuses to a thread that
    // records.
    std::optional<RelaxedCapture> relaxed;
    if (!chosen.loaded) relaxed.emplace();
    const cublasStatus_t status = enqueue(product, chosen, chosen.algo, g.c, stream);
    chosen.loaded = status == CUBLAS_STATUS_SUCCESS;
    check(status, "cublasLtMatmul", &g);
    return true;
}

void GemmLt::set_tuning(bool on) {
    const std::lock_guard lock(mutex_);
    // What could not be timed before may be now.
    for (auto& [key, chosen] : chosen_) chosen->settled = choices_.contains(key);
    tuning_ = on;
}

bool GemmLt::tuning() {
    const std::lock_guard lock(mutex_);
    return tuning_;
}

std::string GemmLt::print_choices() {
    const std::lock_guard lock(mutex_);
    return print_gemm_choices(place_, choices_);
}

void GemmLt::load_choices(const std::string& text, const std::string& name) {
    const GemmChoices loaded = parse_gemm_choices(text, place_, name);
    const std::lock_guard lock(mutex_);
    for (const auto& [key, choice] : loaded) {
        choices_.insert_or_assign(key, choice);
        chosen_.erase(key);  // checked and taken at its next use
    }
}

}  // namespace carousel::cuda
