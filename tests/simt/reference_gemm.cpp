#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "simt/memory.hpp"
#include "simt/simt_device.hpp"
#include "tests/support/host_tensor.hpp"

namespace carousel::simt {

namespace {

std::size_t size_of(DType dtype) { return dtype_bytes(dtype); }

/// Every element read or written lies in a buffer of the device.
void check_element(const void* p, std::size_t bytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    if (in_arena(address) && is_valid(address, bytes)) return;
    throw KernelError("a product reaches " +
                      (in_arena(address) ? describe_address(address) : "host memory"));
}

double load(const void* base, std::int64_t index, DType dtype) {
    const void* p =
        static_cast<const std::byte*>(base) + index * static_cast<std::int64_t>(size_of(dtype));
    check_element(p, size_of(dtype));
    switch (dtype) {
        case DType::kF64:
            return *static_cast<const double*>(p);
        case DType::kF32:
            return static_cast<double>(*static_cast<const float*>(p));
        case DType::kTf32:
            return test::round_to(DType::kTf32, static_cast<double>(*static_cast<const float*>(p)));
        case DType::kBf16:
            return static_cast<double>(__bfloat162float(*static_cast<const __nv_bfloat16*>(p)));
        case DType::kF16:
            return static_cast<double>(__half2float(*static_cast<const __half*>(p)));
        default:
            throw std::logic_error("a product of integers");
    }
}

void store(void* base, std::int64_t index, DType dtype, double value) {
    void* p = static_cast<std::byte*>(base) + index * static_cast<std::int64_t>(size_of(dtype));
    check_element(p, size_of(dtype));
    switch (dtype) {
        case DType::kF64:
            *static_cast<double*>(p) = value;
            return;
        case DType::kF32:
            *static_cast<float*>(p) = static_cast<float>(value);
            return;
        case DType::kBf16:
            *static_cast<__nv_bfloat16*>(p) = __float2bfloat16_rn(static_cast<float>(value));
            return;
        case DType::kF16:
            *static_cast<__half*>(p) = __float2half_rn(static_cast<float>(value));
            return;
        default:
            throw std::logic_error("a product into this dtype");
    }
}

/// op(M) [rows,columns] as a dense row-major array of doubles.
std::vector<double> gather(const void* base, bool trans, std::int64_t rows, std::int64_t columns,
                           std::int64_t ld, DType dtype) {
    std::vector<double> values(static_cast<std::size_t>(rows * columns));
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) {
            values[static_cast<std::size_t>(r * columns + c)] =
                load(base, trans ? c + r * ld : r + c * ld, dtype);
        }
    }
    return values;
}

void check_arguments(const cuda::GemmArgs& args) {
    const auto need = [](bool ok, const char* what) {
        if (!ok) throw std::logic_error(std::string("cuBLAS would refuse ") + what);
    };
    need(args.m > 0 && args.n > 0 && args.k > 0 && args.batch > 0, "an empty product");
    need(args.lda >= (args.trans_a ? args.k : args.m), "lda");
    need(args.ldb >= (args.trans_b ? args.n : args.k), "ldb");
    need(args.ldc >= args.m, "ldc");
    const bool wide = args.dtype == DType::kF64;
    const bool narrow = args.dtype == DType::kBf16 || args.dtype == DType::kF16;
    need(args.out_dtype == (wide ? DType::kF64 : DType::kF32) ||
             (narrow && args.out_dtype == args.dtype),
         "this type of C");
    need(args.stride_c != 0 || args.batch == 1, "a batch that writes one C");
    // cuBLASLt says nothing of falling addresses, and the strides of bulk tensor copies, by which its
    // kernels for Hopper load, have no sign.
    need(args.batch == 1 || (args.stride_a >= 0 && args.stride_b >= 0 && args.stride_c >= 0),
         "a batch in falling order");
}

}  // namespace

void reference_gemm(const cuda::GemmArgs& args) {
    check_arguments(args);
    for (std::int64_t b = 0; b < args.batch; ++b) {
        const auto at = [&](const void* base, std::int64_t stride, DType dtype) {
            return static_cast<const std::byte*>(base) +
                   b * stride * static_cast<std::int64_t>(size_of(dtype));
        };
        const std::vector<double> a = gather(at(args.a, args.stride_a, args.dtype), args.trans_a,
                                             args.m, args.k, args.lda, args.dtype);
        const std::vector<double> w = gather(at(args.b, args.stride_b, args.dtype), !args.trans_b,
                                             args.n, args.k, args.ldb, args.dtype);
        void* c = const_cast<std::byte*>(at(args.c, args.stride_c, args.out_dtype));
        for (std::int64_t j = 0; j < args.n; ++j) {
            for (std::int64_t i = 0; i < args.m; ++i) {
                const double* row = a.data() + i * args.k;
                const double* column = w.data() + j * args.k;
                double sum = 0.0;
                for (std::int64_t k = 0; k < args.k; ++k) sum += row[k] * column[k];
                sum *= args.alpha;
                if (args.beta != 0.0) sum += args.beta * load(c, i + j * args.ldc, args.out_dtype);
                if (args.bias != nullptr) sum += load(args.bias, i, args.dtype);
                store(c, i + j * args.ldc, args.out_dtype, sum);
            }
        }
    }
}

}  // namespace carousel::simt
