// What cuBLASLt is told of a product.

#include <cublasLt.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/cudart/runtime_fixture.hpp"
#include "tests/support/expect_error.hpp"

namespace carousel::test {
namespace {

using cuda::GemmArgs;

class RuntimeGemm : public RuntimeTest {
protected:
    // C [24,16] = A^T [24,32] x B [32,16] in f32.
    GemmArgs product() {
        GemmArgs g;
        g.trans_a = true;
        g.m = 24;
        g.n = 16;
        g.k = 32;
        g.a = a.data();
        g.lda = 36;
        g.b = b.data();
        g.ldb = 40;
        g.c = c.data();
        g.ldc = 28;
        g.alpha = 0.5;
        g.workspace = workspace.data();
        g.workspace_bytes = workspace.size();
        return g;
    }

    std::vector<double> a = std::vector<double>(4096), b = a, c = a, bias = a;
    std::vector<std::byte> workspace = std::vector<std::byte>(4096);
};

TEST_F(RuntimeGemm, StoredShapesTransposesAndScalars) {
    GemmArgs g = product();
    g.beta = 0.25;
    device->gemm(queue, g);
    EXPECT_EQ(lt.trans_a, CUBLAS_OP_T);
    EXPECT_EQ(lt.trans_b, CUBLAS_OP_N);
    // As stored: A is [k,m], B [k,n], C [m,n].
    EXPECT_EQ(lt.rows[0], 32);
    EXPECT_EQ(lt.columns[0], 24);
    EXPECT_EQ(lt.ld[0], 36);
    EXPECT_EQ(lt.rows[1], 32);
    EXPECT_EQ(lt.columns[1], 16);
    EXPECT_EQ(lt.ld[1], 40);
    EXPECT_EQ(lt.rows[2], 24);
    EXPECT_EQ(lt.columns[2], 16);
    EXPECT_EQ(lt.ld[2], 28);
    EXPECT_EQ(lt.alpha, 0.5);
    EXPECT_EQ(lt.beta, 0.25);
    EXPECT_EQ(lt.operands[0], g.a);
    EXPECT_EQ(lt.operands[1], g.b);
    EXPECT_EQ(lt.operands[2], g.c);
    EXPECT_EQ(lt.operands[3], g.c) << "the result is in place";
    EXPECT_EQ(lt.epilogue, CUBLASLT_EPILOGUE_DEFAULT);
    g.trans_a = false;
    g.trans_b = true;
    device->gemm(queue, g);
    EXPECT_EQ(lt.trans_a, CUBLAS_OP_N);
    EXPECT_EQ(lt.rows[0], 24);
    EXPECT_EQ(lt.columns[0], 32);
    EXPECT_EQ(lt.trans_b, CUBLAS_OP_T);
    EXPECT_EQ(lt.rows[1], 16);
    EXPECT_EQ(lt.columns[1], 32);
}

TEST_F(RuntimeGemm, ArithmeticFollowsTheDtypes) {
    struct Case {
        DType dtype, out;
        int compute, scale, type, out_type;
    };
    for (const Case& expected : std::vector<Case>{
             {DType::kF64, DType::kF64, CUBLAS_COMPUTE_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F},
             {DType::kF32, DType::kF32, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F},
             {DType::kTf32, DType::kF32, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F,
              CUDA_R_32F},
             {DType::kBf16, DType::kF32, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F},
             {DType::kBf16, DType::kBf16, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF},
             {DType::kF16, DType::kF32, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_32F},
             {DType::kF16, DType::kF16, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F},
         }) {
        GemmArgs g = product();
        g.dtype = expected.dtype;
        g.out_dtype = expected.out;
        device->gemm(queue, g);
        EXPECT_EQ(lt.compute_type, expected.compute) << dtype_name(expected.dtype);
        EXPECT_EQ(lt.scale_type, expected.scale);
        EXPECT_EQ(lt.types[0], expected.type);
        EXPECT_EQ(lt.types[1], expected.type);
        EXPECT_EQ(lt.types[2], expected.out_type);
        EXPECT_EQ(lt.alpha, 0.5);
        EXPECT_EQ(lt.beta, 0.0);
    }
}

TEST_F(RuntimeGemm, HeuristicIsAskedOncePerKey) {
    GemmArgs g = product();
    for (int step = 0; step < 3; ++step) device->gemm(queue, g);
    EXPECT_EQ(lt.heuristics, 1);
    EXPECT_EQ(lt.matmuls, 3);
    g.alpha = 2.0;
    device->gemm(queue, g);
    EXPECT_EQ(lt.heuristics, 1);
    EXPECT_EQ(lt.alpha, 2.0);
    g.beta = 1.0;
    device->gemm(queue, g);
    EXPECT_EQ(lt.heuristics, 2);
    g.a = static_cast<const std::byte*>(g.a) + 4;
    device->gemm(queue, g);
    EXPECT_EQ(lt.heuristics, 3);
    EXPECT_EQ(lt.alignments[0], 4U);
    EXPECT_EQ(lt.reduction_mask, static_cast<unsigned>(CUBLASLT_REDUCTION_SCHEME_NONE |
                                                       CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    EXPECT_GT(lt.workspace_offered, 0U);
    EXPECT_EQ(lt.workspace_offered, lt.workspace_used);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(lt.workspace) % 256, 0U);
    EXPECT_GE(lt.workspace, g.workspace);
    EXPECT_LE(static_cast<const std::byte*>(lt.workspace) + lt.workspace_used,
              static_cast<const std::byte*>(g.workspace) + g.workspace_bytes);
}

// cuBLASLt's heuristic makes calls that a recording thread may not make (13.3: of the context), and so
// does the first product of an algorithm, which loads its kernels.
TEST_F(RuntimeGemm, FirstUseOfAKeyDoesNotSpoilACapture) {
    lt.in_heuristic = lt.in_matmul = [] {
        void* memory = nullptr;
        if (cudaMalloc(&memory, 8) == cudaSuccess) cudaFree(memory);
    };
    device->begin_capture(queue);
    device->gemm(queue, product());
    EXPECT_EQ(lt.heuristics, 1);
    lt.in_matmul = nullptr;
    device->gemm(queue, product());
    EXPECT_EQ(lt.matmuls, 2);
    void* graph = device->end_capture(queue, true);
    EXPECT_NE(graph, nullptr);
    device->release_graph(graph);
}

// Where an algorithm puts the batch along a grid's z, which ends at 65535.
TEST_F(RuntimeGemm, LargeBatchesAreMultipliedInParts) {
    GemmArgs g = product();
    g.batch = 70'000;
    g.stride_a = 1000;
    g.stride_b = 0;
    g.stride_c = 500;
    g.beta = 0.25;
    device->gemm(queue, g);
    ASSERT_EQ(lt.products.size(), 2U);
    EXPECT_EQ(lt.products[0].d, g.c);
    EXPECT_EQ(lt.products[1].d, static_cast<float*>(g.c) + 65535L * 500);
    EXPECT_EQ(lt.batch[2], 70'000 - 65535);
    EXPECT_EQ(lt.operands[0], static_cast<const float*>(g.a) + 65535L * 1000);
    EXPECT_EQ(lt.operands[1], g.b);
    EXPECT_EQ(lt.beta, 0.25);
}

// The current device of a thread that has called nothing yet is right where there is one card, but it
// has no context, which cuBLASLt takes for granted.
TEST_F(RuntimeGemm, AThreadsFirstCallMayBeAProduct) {
    device->gemm(queue, product());
    fake.log.clear();
    std::thread([&] {
        fake.current_device = 1;
        device->gemm(queue, product());
        device->gemm(queue, product());
        EXPECT_EQ(fake.current_device, 1);
    }).join();
    EXPECT_EQ(fake.count("cudaSetDevice 1"), 1) << "once is enough";
    EXPECT_EQ(fake.count("cudaSetDevice"), 1);
    EXPECT_EQ(lt.matmuls, 3);
}

TEST_F(RuntimeGemm, BatchesHaveStrides) {
    GemmArgs g = product();
    device->gemm(queue, g);
    EXPECT_EQ(lt.batch[0], 1);
    g.batch = 3;
    g.stride_a = 1000;
    g.stride_b = 0;
    g.stride_c = 500;
    device->gemm(queue, g);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(lt.batch[i], 3);
    EXPECT_EQ(lt.stride[0], 1000);
    EXPECT_EQ(lt.stride[1], 0);
    EXPECT_EQ(lt.stride[2], 500);
    EXPECT_LE(lt.alignments[2], 16U);  // 2000 bytes
    EXPECT_EQ(lt.alignments[2], lt.alignments[3]);
}

TEST_F(RuntimeGemm, BiasFollowsItsCall) {
    auto* aligned =
        reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(bias.data()) + 255) / 256 * 256);
    GemmArgs g = product();
    g.bias = aligned;
    device->gemm(queue, g);
    EXPECT_EQ(lt.epilogue, CUBLASLT_EPILOGUE_BIAS);
    EXPECT_EQ(lt.bias_type, CUDA_R_32F);
    EXPECT_EQ(lt.bias, aligned);
    // Another one of the same alignment shares the algorithm, not the address.
    g.bias = aligned + 64;
    device->gemm(queue, g);
    EXPECT_EQ(lt.heuristics, 1);
    EXPECT_EQ(lt.bias, aligned + 64);
    // One that vectors cannot load is copied into the workspace first.
    aligned[1] = 7.0F;
    g.bias = aligned + 1;
    device->gemm(queue, g);
    EXPECT_NE(lt.bias, g.bias);
    EXPECT_GE(lt.bias, g.workspace);
    EXPECT_EQ(*static_cast<const float*>(lt.bias), 7.0F);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(lt.bias) % 256, 0U);
    EXPECT_GT(lt.workspace, lt.bias) << "what is left of the workspace comes after it";
    EXPECT_EQ(fake.last("cudaMemcpyAsync"), "cudaMemcpyAsync " + default_stream);
    g.dtype = g.out_dtype = DType::kBf16;
    g.bias = aligned;
    device->gemm(queue, g);
    EXPECT_EQ(lt.bias_type, CUDA_R_16BF);
    EXPECT_TRUE(device->folds_bias(DType::kBf16));
    EXPECT_FALSE(device->folds_bias(DType::kF64));
}

// cuBLASLt does not promise that what it multiplies it multiplies with a bias.
TEST_F(RuntimeGemm, ABiasThatNoAlgorithmAddsIsAddedByAKernel) {
    lt.no_bias = true;
    GemmArgs g = product();
    g.bias = bias.data();
    device->gemm(queue, g);
    EXPECT_EQ(lt.matmuls, 1);
    EXPECT_EQ(lt.epilogue, CUBLASLT_EPILOGUE_DEFAULT);
    EXPECT_EQ(lt.operands[3], g.c);
    ASSERT_EQ(added_biases().size(), 1U);
    const cuda::RowBiasArgs added = added_biases()[0];
    EXPECT_EQ(added.dtype, DType::kF32);
    EXPECT_EQ(added.x, g.c);
    EXPECT_EQ(added.rows, 16);
    EXPECT_EQ(added.cols, 24);
    EXPECT_EQ(added.ld, 28);
    EXPECT_EQ(added.bias, g.bias);
    EXPECT_EQ(word(fake.last("cudaLaunchKernelExC"), 1), default_stream);
    EXPECT_GT(fake.find("cudaLaunchKernelExC"), 0);
    // Both answers are kept.
    const int asked = lt.heuristics;
    device->gemm(queue, g);
    EXPECT_EQ(lt.heuristics, asked);
    EXPECT_EQ(lt.matmuls, 2);
    EXPECT_EQ(added_biases().size(), 2U);
    // One that an epilogue would want copied is left where it is.
    g.bias = reinterpret_cast<float*>(bias.data()) + 1;
    device->gemm(queue, g);
    EXPECT_EQ(fake.count("cudaMemcpyAsync"), 0);
    EXPECT_EQ(added_biases().back().bias, g.bias);
    g.bias = bias.data();

    // A batch: one launch where its columns are evenly spaced, else one each.
    g.batch = 3;
    g.stride_a = g.stride_b = 0;
    g.stride_c = 16 * 28;
    added_biases().clear();
    device->gemm(queue, g);
    ASSERT_EQ(added_biases().size(), 1U);
    EXPECT_EQ(added_biases()[0].rows, 48);
    EXPECT_EQ(added_biases()[0].ld, 28);
    g.n = 1;
    g.stride_c = 100;
    added_biases().clear();
    device->gemm(queue, g);
    ASSERT_EQ(added_biases().size(), 1U);
    EXPECT_EQ(added_biases()[0].rows, 3);
    EXPECT_EQ(added_biases()[0].ld, 100);
    g.n = 16;
    g.stride_c = 500;
    added_biases().clear();
    device->gemm(queue, g);
    ASSERT_EQ(added_biases().size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(added_biases()[i].x, static_cast<float*>(g.c) + i * 500);
        EXPECT_EQ(added_biases()[i].rows, 16);
        EXPECT_EQ(added_biases()[i].ld, 28);
    }
    // Without an algorithm for the product itself there is none.
    lt.no_algorithm = true;
    g.k = 31;
    added_biases().clear();
    expect_error(ErrorCode::kUnsupported, "x [31,16]", [&] { device->gemm(queue, g); });
    EXPECT_TRUE(added_biases().empty());
}

TEST_F(RuntimeGemm, FailuresNameTheProduct) {
    GemmArgs g = product();
    lt.no_algorithm = true;
    const std::string sentence = expect_error(
        ErrorCode::kUnsupported, "CUBLAS_STATUS_NOT_SUPPORTED", [&] { device->gemm(queue, g); });
    EXPECT_NE(sentence.find("f32 gemm of T[24,32] x [32,16]"), std::string::npos) << sentence;
    EXPECT_EQ(lt.live_objects, 0) << "a failed choice keeps nothing";
    lt.no_algorithm = false;
    g.k = 0;
    expect_error(ErrorCode::kInvalidArgument, "k", [&] { device->gemm(queue, g); });
    g = product();
    lt.fail_matmul = CUBLAS_STATUS_EXECUTION_FAILED;
    expect_error(ErrorCode::kCuda, "cublasLtMatmul", [&] { device->gemm(queue, g); });
    EXPECT_NO_THROW(device->gemm(queue, g));
    // The context died under it: the runtime knows of what.
    lt.fail_matmul = CUBLAS_STATUS_EXECUTION_FAILED;
    fake.last_error = cudaErrorIllegalAddress;
    expect_error(ErrorCode::kDeviceLost, "cudaErrorIllegalAddress",
                 [&] { device->gemm(queue, g); });
}

// A kernel died since the last call of the runtime: this thread has no last error yet.
TEST_F(RuntimeGemm, FirstToMeetADeadContextSaysSo) {
    for (int* failing : {&lt.fail_matmul, &lt.fail_heuristic}) {
        device = make_device();
        queue = device->default_queue();
        fake.fail_once["cudaMemGetInfo"] = cudaErrorIllegalAddress;
        *failing = failing == &lt.fail_matmul ? CUBLAS_STATUS_EXECUTION_FAILED
                                              : CUBLAS_STATUS_INTERNAL_ERROR;
        const std::string sentence = expect_error(ErrorCode::kDeviceLost, "cudaErrorIllegalAddress",
                                                  [&] { device->gemm(queue, product()); });
        EXPECT_NE(sentence.find("f32 gemm of T[24,32] x [32,16]"), std::string::npos) << sentence;
        EXPECT_EQ(fake.last_error, cudaSuccess);
        // From now on nothing is asked any more.
        const std::size_t calls = fake.log.size();
        EXPECT_EQ(
            expect_error(ErrorCode::kDeviceLost, "lost", [&] { device->gemm(queue, product()); }),
            sentence);
        EXPECT_EQ(fake.log.size(), calls);
    }
}

TEST_F(RuntimeGemm, AnErrorOfTheCallersIsNotTakenForTheProducts) {
    fake.last_error = cudaErrorInvalidConfiguration;
    lt.fail_matmul = CUBLAS_STATUS_EXECUTION_FAILED;
    const std::string sentence =
        expect_error(ErrorCode::kCuda, "cublasLtMatmul", [&] { device->gemm(queue, product()); });
    EXPECT_EQ(sentence.find("cudaErrorInvalidConfiguration"), std::string::npos) << sentence;
    EXPECT_EQ(fake.last_error, cudaErrorInvalidConfiguration) << "it is the caller's to find";
    fake.last_error = cudaSuccess;
    // The question itself may fail for another reason, and leaves nothing behind.
    fake.fail_once["cudaMemGetInfo"] = cudaErrorInvalidConfiguration;
    lt.fail_matmul = CUBLAS_STATUS_EXECUTION_FAILED;
    expect_error(ErrorCode::kCuda, "cublasLtMatmul", [&] { device->gemm(queue, product()); });
    EXPECT_EQ(fake.last_error, cudaSuccess);
    EXPECT_NO_THROW(device->gemm(queue, product()));
}

TEST_F(RuntimeGemm, AFailureWhileRecordingSpoilsNothing) {
    device->begin_capture(queue);
    lt.fail_matmul = CUBLAS_STATUS_NOT_SUPPORTED;
    expect_error(ErrorCode::kUnsupported, "cublasLtMatmul",
                 [&] { device->gemm(queue, product()); });
    device->gemm(queue, product());
    void* graph = device->end_capture(queue, true);
    EXPECT_NE(graph, nullptr);
    device->release_graph(graph);
}

TEST_F(RuntimeGemm, DescriptorsAreReturned) {
    for (std::int64_t n = 1; n < 10; ++n) {
        GemmArgs g = product();
        g.n = n;
        device->gemm(queue, g);
    }
    EXPECT_EQ(lt.live_objects, 9 * 4);  // a description and three layouts each
    device.reset();
    EXPECT_EQ(lt.live_objects, 0);
}

}  // namespace
}  // namespace carousel::test
