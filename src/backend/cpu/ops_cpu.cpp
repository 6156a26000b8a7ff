#include "src/backend/cpu/ops_cpu.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "carousel/error.hpp"
#include "src/backend/cpu/cpu_isa.hpp"
#include "src/backend/cpu/gemm.hpp"
#include "src/backend/dropout_mask.hpp"

namespace carousel::cpu {

namespace {

// A cache line of the widest split along a row, so that no two threads share one.
constexpr std::int64_t kColumnGrain = 16;

const NnKernelTable& kernel_table() {
    switch (current_isa()) {
#if defined(CAROUSEL_X86_64)
        case CpuIsa::kAvx512:
            return nn_kernels_avx512();
        case CpuIsa::kAvx2:
            return nn_kernels_avx2();
#endif
        default:
            return nn_kernels_baseline();
    }
}

template <class T>
const NnKernels<T>& kernels_of() {
    if constexpr (sizeof(T) == 4) {
        return kernel_table().f32;
    } else {
        return kernel_table().f64;
    }
}

}  // namespace

template <class T>
CpuOps<T>::CpuOps(Device device, std::shared_ptr<ThreadPool> pool)
    : device_(device), read_backs_(kReadBacks), pool_(std::move(pool)), kernels_(kernels_of<T>()) {}

template <class T>
typename CpuOps<T>::ReadBack& CpuOps<T>::read_back_of(Ticket ticket) {
    for (ReadBack& slot : read_backs_) {
        if (slot.ticket == ticket) return slot;
    }
    throw Error(ErrorCode::kInvalidArgument,
                ticket == 0 ? "16 results read back were not collected; collect or drop them"
                            : "this result was collected before");
}

template <class T>
Ops::Ticket CpuOps<T>::read_back(const void* from, std::size_t bytes) {
    ReadBack& slot = read_back_of(0);
    if (bytes > slot.data.size()) {
        throw Error(ErrorCode::kInvalidArgument, "read_back takes up to 1024 bytes; use download");
    }
    slot.ticket = ++last_ticket_;
    slot.bytes = bytes;
    std::memcpy(slot.data.data(), from, bytes);
    return slot.ticket;
}

template <class T>
void CpuOps<T>::collect(Ticket ticket, void* to) {
    ReadBack& slot = read_back_of(ticket);
    std::memcpy(to, slot.data.data(), slot.bytes);
    slot.ticket = 0;
}

template <class T>
void CpuOps<T>::drop(Ticket ticket) {
    read_back_of(ticket).ticket = 0;
}

template <class T>
void CpuOps<T>::zero(void* data, std::size_t bytes) {
    const auto count = static_cast<std::int64_t>(bytes);
    constexpr std::int64_t kGrain = kColumnGrain * static_cast<std::int64_t>(sizeof(T));
    split(count, kGrain, count / static_cast<std::int64_t>(sizeof(T)),
          [&](std::int64_t begin, std::int64_t end) {
              std::memset(static_cast<std::byte*>(data) + begin, 0,
                          static_cast<std::size_t>(end - begin));
          });
}

template <class T>
void CpuOps<T>::axpy(double alpha, const void* x, void* y, std::int64_t numel) {
    split(numel, kColumnGrain, numel, [&](std::int64_t begin, std::int64_t end) {
        kernels_.axpy(static_cast<T>(alpha), static_cast<const T*>(x) + begin,
                      static_cast<T*>(y) + begin, end - begin);
    });
}

template <class T>
void CpuOps<T>::scale(double alpha, void* x, std::int64_t numel) {
    split(numel, kColumnGrain, numel, [&](std::int64_t begin, std::int64_t end) {
        kernels_.scale(static_cast<T>(alpha), static_cast<T*>(x) + begin, end - begin);
    });
}

template <class T>
void CpuOps<T>::clamp(double limit, void* x, std::int64_t numel) {
    split(numel, kColumnGrain, numel, [&](std::int64_t begin, std::int64_t end) {
        kernels_.clamp(static_cast<T>(limit), static_cast<T*>(x) + begin, end - begin);
    });
}

template <class T>
void CpuOps<T>::cast(DType from_dtype, const void* from, DType to_dtype, void* to,
                     std::int64_t numel) {
    const auto run = [&](const auto* x, auto* y) {
        split(numel, kColumnGrain, numel, [&](std::int64_t begin, std::int64_t end) {
            using To = std::remove_reference_t<decltype(*y)>;
            for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<To>(x[i]);
        });
    };
    const auto to_any = [&](const auto* x) {
        if (to_dtype == DType::kF64) return run(x, static_cast<double*>(to));
        if (to_dtype == DType::kF32) return run(x, static_cast<float*>(to));
        throw Error(ErrorCode::kUnsupported,
                    "the training layer on the CPU converts between f32 and f64 only");
    };
    if (from_dtype == DType::kF64) return to_any(static_cast<const double*>(from));
    to_any(static_cast<const float*>(from));
}

template <class T>
void CpuOps<T>::copy(const void* from, void* to, std::size_t bytes) {
    if (bytes > 0) std::memmove(to, from, bytes);
}

template <class T>
void CpuOps<T>::gather_rows(const GatherRowsArgs& args) {
    split(args.n, 1, args.n * args.row_size, [&](std::int64_t begin, std::int64_t end) {
        const std::size_t row_bytes = static_cast<std::size_t>(args.row_size) * sizeof(T);
        for (std::int64_t r = begin; r < end; ++r) {
            std::memcpy(static_cast<T*>(args.y) + r * args.row_size,
                        static_cast<const T*>(args.table) + args.ids[r] * args.row_size, row_bytes);
        }
    });
}

template <class T>
void CpuOps<T>::scatter_add_rows(const ScatterAddRowsArgs& args) {
    split(
        args.row_size, kColumnGrain, args.n * args.row_size,
        [&](std::int64_t begin, std::int64_t end) { kernels_.scatter_add_rows(args, begin, end); });
}

template <class T>
void CpuOps<T>::zero_rows(void* table, const RowSet& set) {
    split(set.num_rows, 1, set.num_rows * set.row_size, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            std::memset(static_cast<T*>(table) + set.rows[r] * set.row_size, 0,
                        static_cast<std::size_t>(set.row_size) * sizeof(T));
        }
    });
}

template <class T>
void CpuOps<T>::set_one_hot(void* x, std::int64_t classes, const std::int32_t* ids, std::int64_t n,
                            double value) {
    for (std::int64_t r = 0; r < n; ++r) {
        static_cast<T*>(x)[r * classes + ids[r]] = static_cast<T>(value);
    }
}

template <class T>
void CpuOps<T>::matmul(const MatMulArgs& args) {
    Gemm<T> g;
    g.trans_a = args.trans_a;
    g.trans_b = args.trans_b;
    g.m = args.m;
    g.n = args.n;
    g.k = args.k;
    g.alpha = static_cast<T>(args.alpha);
    g.a = static_cast<const T*>(args.a);
    g.lda = args.lda;
    g.b = static_cast<const T*>(args.b);
    g.ldb = args.ldb;
    g.beta = static_cast<T>(args.beta);
    g.c = static_cast<T*>(args.c);
    g.ldc = args.ldc;
    gemm(*pool_, g);
}

template <class T>
void CpuOps<T>::matvec(const MatVecArgs& args) {
    split(args.rows, kColumnGrain, args.rows * args.cols / 4,
          [&](std::int64_t begin, std::int64_t end) { kernels_.matvec(args, begin, end); });
}

template <class T>
void CpuOps<T>::add_bias(const AddBiasArgs& args) {
    split(args.rows, 1, args.rows * args.cols,
          [&](std::int64_t begin, std::int64_t end) { kernels_.add_bias(args, begin, end); });
}

template <class T>
void CpuOps<T>::column_sum(const ColumnSumArgs& args) {
    split(args.cols, kColumnGrain, args.rows * args.cols,
          [&](std::int64_t begin, std::int64_t end) { kernels_.column_sum(args, begin, end); });
}

template <class T>
void CpuOps<T>::softmax_xent(const SoftmaxXentArgs& given) {
    SoftmaxXentArgs args = given;
    if (args.loss_scale != nullptr) args.scale *= args.loss_scale->scale;
    split(args.rows, 1, args.rows * args.classes * 4,
          [&](std::int64_t begin, std::int64_t end) { kernels_.softmax_xent(args, begin, end); });
}

template <class T>
void CpuOps<T>::sum_losses(const LossSumArgs& args) {
    LossRecord sum;
    for (std::int64_t r = 0; r < args.rows; ++r) {
        sum.loss_sum += args.row_losses[r];
        sum.count += args.targets[r] >= 0 ? 1 : 0;
    }
    if (args.accumulate) {
        sum.loss_sum += args.record->loss_sum;
        sum.count += args.record->count;
    }
    *args.record = sum;
}

template <class T>
void CpuOps<T>::sample_tokens(const SampleTokensArgs&) {
    throw Error(ErrorCode::kUnsupported, "tokens are drawn by train::TokenDraw on the CPU");
}

template <class T>
void CpuOps<T>::dropout(const void* x, void* y, std::int64_t numel, double p, std::uint64_t seed,
                        std::uint64_t step, std::uint32_t layer) {
    split(numel, 64, numel * 4, [&](std::int64_t begin, std::int64_t end) {
        constexpr std::int64_t kBlock = 1024;
        T mask[kBlock];
        DropoutKey key;
        key.seed = seed;
        key.step = step;
        key.layer = layer;
        for (std::int64_t first = begin; first < end; first += kBlock) {
            const std::int64_t count = std::min(kBlock, end - first);
            fill_dropout_mask(key, p, first, count, mask);
            MultiplyArgs args;
            args.x = static_cast<const T*>(x) + first;
            args.mask = mask;
            args.y = static_cast<T*>(y) + first;
            kernels_.multiply(args, 0, count);
        }
    });
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace carousel::cpu
