#include "src/backend/cuda/gemm_key.hpp"

#include <algorithm>
#include <utility>

namespace carousel::cuda {

namespace {

bool half_width(DType dtype) { return dtype == DType::kBf16 || dtype == DType::kF16; }

std::int64_t bytes_of(DType dtype) { return static_cast<std::int64_t>(dtype_bytes(dtype)); }

std::int64_t walked(std::int64_t batch, std::int64_t stride, DType dtype) {
    return batch > 1 ? stride * bytes_of(dtype) : 0;
}

std::string size_problem(const GemmArgs& g) {
    const auto short_by = [](const char* name, std::int64_t value, std::int64_t least) {
        return value >= least ? std::string()
                              : std::string(name) + " is " + std::to_string(value) +
                                    "; expected at least " + std::to_string(least);
    };
    const std::int64_t rows_a = g.trans_a ? g.k : g.m;
    const std::int64_t rows_b = g.trans_b ? g.n : g.k;
    for (std::string problem : {short_by("m", g.m, 1), short_by("n", g.n, 1), short_by("k", g.k, 1),
                                short_by("batch", g.batch, 1), short_by("lda", g.lda, rows_a),
                                short_by("ldb", g.ldb, rows_b), short_by("ldc", g.ldc, g.m)}) {
        if (!problem.empty()) return problem;
    }
    if (g.batch > INT32_MAX)
        return "batch is " + std::to_string(g.batch) + "; cuBLASLt takes 2^31-1";
    if (g.batch == 1) return "";
    // cuBLASLt documents no batches in falling order; RnnOperands multiplies such parts one by one.
    for (const auto& [name, stride] :
         {std::pair{"stride_a", g.stride_a}, {"stride_b", g.stride_b}, {"stride_c", g.stride_c}}) {
        if (stride >= 0) continue;
        return std::string(name) + " is " + std::to_string(stride) +
               "; expected at least 0: multiply parts in falling order one by one";
    }
    // Products of a batch may share an operand, never the result. Results may lie side by side in the
    // rows of one matrix.
    if (g.stride_c < g.m) {
        return "stride_c is " + std::to_string(g.stride_c) + ": results of the batch overlap";
    }
    return "";
}

}  // namespace

std::uint32_t alignment_of(const void* address, std::int64_t stride_bytes) noexcept {
    const std::uint64_t bits = reinterpret_cast<std::uintptr_t>(address) |
                               static_cast<std::uint64_t>(stride_bytes) | kMaxAlignment;
    return static_cast<std::uint32_t>(bits & (~bits + 1));
}

std::string gemm_problem(const GemmArgs& g) {
    if (g.a == nullptr || g.b == nullptr || g.c == nullptr) return "an operand's address is null";
    const bool wide = g.dtype == DType::kF32 || g.dtype == DType::kF64 || g.dtype == DType::kTf32;
    if (!wide && !half_width(g.dtype)) {
        return std::string("dtype ") + dtype_name(g.dtype) + " has no products";
    }
    const DType widest = g.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    const bool plain_out = g.out_dtype == widest;
    const bool same_out = g.out_dtype == g.dtype;
    if (!plain_out && !same_out) {
        return std::string("a product of ") + dtype_name(g.dtype) + " with a result in " +
               dtype_name(g.out_dtype);
    }
    if (g.bias != nullptr && (g.dtype == DType::kF64 || (half_width(g.dtype) && !same_out))) {
        return std::string("a bias with a product of ") + dtype_name(g.dtype) +
               " and a result in " + dtype_name(g.out_dtype) +
               "; cuBLASLt adds one of the result's type, to no f64";
    }
    return size_problem(g);
}

GemmWorkspace gemm_workspace(const GemmArgs& g) noexcept {
    if (g.workspace == nullptr) return {};
    const auto begin = reinterpret_cast<std::uintptr_t>(g.workspace);
    const std::uintptr_t end = begin + g.workspace_bytes;
    const auto up = [](std::uintptr_t address) {
        return (address + kMaxAlignment - 1) / kMaxAlignment * kMaxAlignment;
    };
    GemmWorkspace parts;
    std::uintptr_t next = up(begin);
    if (g.bias != nullptr && alignment_of(g.bias) < kBiasAlignment) {
        const auto bias_bytes = static_cast<std::uintptr_t>(g.m * bytes_of(g.dtype));
        if (next <= end && bias_bytes <= end - next) {
            parts.bias_copy = reinterpret_cast<void*>(next);
            next = up(next + bias_bytes);
        }
    }
    if (next < end) {
        parts.memory = reinterpret_cast<void*>(next);
        parts.bytes = end - next;
    }
    return parts;
}

GemmAlignments gemm_alignments(const GemmArgs& g) noexcept {
    GemmAlignments alignments;
    alignments.a = alignment_of(g.a, walked(g.batch, g.stride_a, g.dtype));
    alignments.b = alignment_of(g.b, walked(g.batch, g.stride_b, g.dtype));
    alignments.c = alignment_of(g.c, walked(g.batch, g.stride_c, g.out_dtype));
    if (g.bias != nullptr) {
        const void* copy = gemm_workspace(g).bias_copy;
        alignments.bias = alignment_of(copy != nullptr ? copy : g.bias);
    }
    return alignments;
}

std::size_t gemm_result_bytes(const GemmArgs& g) noexcept {
    const std::int64_t numel = (g.batch - 1) * g.stride_c + (g.n - 1) * g.ldc + g.m;
    return static_cast<std::size_t>(numel * bytes_of(g.out_dtype));
}

GemmPartSizes gemm_part_sizes(const GemmArgs& g) noexcept {
    // Columns that a matrix of this leading dimension may have; whole alignments of them, so that
    // the parts lie as the whole does.
    const auto columns = [](std::int64_t ld) -> std::int64_t {
        const std::int64_t most = kMaxCallElements / std::max<std::int64_t>(ld, 1);
        return most > kMaxAlignment ? most / kMaxAlignment * kMaxAlignment
                                    : std::max<std::int64_t>(most, 1);
    };
    GemmPartSizes sizes{std::min(g.batch, kMaxCallBatch), std::min(g.n, columns(g.ldc)), g.k};
    // As stored, A has k columns unless it is transposed, B has n of them, or k if it is.
    if (!g.trans_a) sizes.k = std::min(sizes.k, columns(g.lda));
    std::int64_t& along_b = g.trans_b ? sizes.k : sizes.n;
    along_b = std::min(along_b, columns(g.ldb));
    return sizes;
}

GemmArgs gemm_part(const GemmArgs& g, const GemmPartSizes& sizes, std::int64_t batch,
                   std::int64_t column, std::int64_t term) noexcept {
    const auto moved = [](const void* base, std::int64_t elements, DType dtype) {
        return static_cast<const std::byte*>(base) + elements * bytes_of(dtype);
    };
    GemmArgs part = g;
    part.batch = std::min(sizes.batch, g.batch - batch);
    part.n = std::min(sizes.n, g.n - column);
    part.k = std::min(sizes.k, g.k - term);
    part.a = moved(g.a, batch * g.stride_a + term * (g.trans_a ? 1 : g.lda), g.dtype);
    part.b = moved(
        g.b, batch * g.stride_b + column * (g.trans_b ? 1 : g.ldb) + term * (g.trans_b ? g.ldb : 1),
        g.dtype);
    part.c = const_cast<std::byte*>(moved(g.c, batch * g.stride_c + column * g.ldc, g.out_dtype));
    if (term > 0) {
        part.beta = 1.0;
        part.bias = nullptr;
    }
    return part;
}

GemmKey gemm_key(const GemmArgs& g) noexcept {
    const GemmAlignments alignments = gemm_alignments(g);
    const bool batched = g.batch > 1;
    const std::int64_t flags = (g.trans_a ? 1 : 0) | (g.trans_b ? 2 : 0) | (g.beta == 0.0 ? 4 : 0);
    return {{static_cast<std::int64_t>(g.dtype), static_cast<std::int64_t>(g.out_dtype), flags, g.m,
             g.n, g.k, g.lda, g.ldb, g.ldc, g.batch, batched ? g.stride_a : 0,
             batched ? g.stride_b : 0, batched ? g.stride_c : 0, alignments.a, alignments.b,
             alignments.c, alignments.bias, static_cast<std::int64_t>(gemm_workspace(g).bytes)}};
}

std::size_t GemmKeyHash::operator()(const GemmKey& key) const noexcept {
    // FNV-1a over words: offset basis and prime of its 64-bit form.
    std::uint64_t hash = 14695981039346656037ULL;
    for (const std::int64_t word : key.words) {
        hash = (hash ^ static_cast<std::uint64_t>(word)) * 1099511628211ULL;
    }
    return static_cast<std::size_t>(hash ^ (hash >> 32));
}

std::string gemm_text(const GemmArgs& g) {
    const auto side = [](bool transposed, std::int64_t rows, std::int64_t columns) {
        return (transposed ? std::string("T") : std::string()) + "[" + std::to_string(rows) + "," +
               std::to_string(columns) + "]";
    };
    std::string text = std::string(dtype_name(g.dtype)) + " gemm of " + side(g.trans_a, g.m, g.k) +
                       " x " + side(g.trans_b, g.k, g.n);
    if (g.out_dtype != g.dtype) text += std::string(" to ") + dtype_name(g.out_dtype);
    if (g.batch > 1) text += ", batch " + std::to_string(g.batch);
    return text;
}

}  // namespace carousel::cuda
