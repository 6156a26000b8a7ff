#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

// A CUDA runtime without a card, so that the host code of src/backend/cuda/runtime runs in tests: it
// keeps the state that the real one documents (current device, capture, last error), logs every call,
// and fails on request. It does no work: memory is host memory, launches are logged.

namespace carousel::test {

struct FakeCudart {
    // What it is.
    int device_count = 2;
    int driver_version = CUDART_VERSION;
    cudaError_t count_error = cudaSuccess;
    std::size_t free_bytes = std::size_t{1} << 30;
    bool memory_pools = true;
    int compute_major = 9, compute_minor = 0;

    // Errors to answer with, by name of the function; once, or from now on.
    std::map<std::string, cudaError_t> fail_once, fail_always;

    // What it saw: "cudaEventRecord s1 e2" with numbers of streams and events in order of creation.
    std::vector<std::string> log;

    // Its state. A thread has a current device and a last error of its own.
    static inline thread_local int current_device = 0;
    static inline thread_local cudaError_t last_error = cudaSuccess;
    std::set<void*> device_blocks, pinned_blocks;
    int graphs = 0, executables = 0, pools = 0;
    std::size_t nodes_recorded = 0;  ///< what the next end of capture reports
    /// The card's time: what events are stamped with. It runs as the work's stand-in says.
    const double* clock_us = nullptr;

    /// Position of the first log line from `from` on that starts with `text`, or -1.
    int find(const std::string& text, int from = 0) const;
    int count(const std::string& text) const;
    /// The latest log line that starts with `text`, or "".
    std::string last(const std::string& text) const;
};

FakeCudart& fake_cudart();

/// A process that has not used CUDA yet; takes back what a dead context kept.
void restart_fake_cudart();

/// What libfake_cublaslt.so was told last.
struct FakeCublasLt {
    /// A product that was enqueued.
    struct Product {
        unsigned long algo;  ///< its number: that of the heuristic's first is kFirstAlgo
        const void *c, *d, *stream;
    };
    static constexpr unsigned long kFirstAlgo = 1000;
    static constexpr int kMostAlgos = 16;

    // What it is.
    unsigned long version = 130100;
    int num_algos = 1;                ///< that the heuristic knows
    double cost_us[kMostAlgos] = {};  ///< by which each moves the clock
    std::set<unsigned long> refused;  ///< algorithms that do not run
    std::size_t check_workspace = 0;  ///< what algo_check says that they need
    bool computes = false;            ///< f32: the first element becomes beta c + alpha algo

    std::vector<Product> products;
    double clock_us = 0;
    int checks = 0, wanted = 0;
    int creates = 0, destroys = 0, heuristics = 0, matmuls = 0, live_objects = 0;
    void (*in_heuristic)() = nullptr;  ///< what else the heuristic does
    void (*in_matmul)() = nullptr;     ///< what else a product does
    int compute_type = -1, scale_type = -1, trans_a = -1, trans_b = -1, epilogue = -1;
    int bias_type = -1;
    const void* bias = nullptr;
    int types[3] = {};  ///< of A, B, C
    long rows[3] = {}, columns[3] = {}, ld[3] = {}, stride[3] = {};
    int batch[3] = {};
    unsigned alignments[4] = {};  ///< of A, B, C, D
    unsigned reduction_mask = 0;
    std::size_t workspace_offered = 0, workspace_used = 0;
    const void* workspace = nullptr;
    double alpha = 0, beta = 0;
    const void* operands[4] = {};  ///< A, B, C, D
    bool no_algorithm = false;     ///< set by tests: the heuristic finds nothing
    bool no_bias = false;          ///< set by tests: nothing that adds a bias
    int fail_heuristic = 0;        ///< set by tests: the status of the next call of the heuristic
    int fail_matmul = 0;           ///< set by tests: the status of the next product
};

}  // namespace carousel::test
