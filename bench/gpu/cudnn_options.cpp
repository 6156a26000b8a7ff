#include "bench/gpu/cudnn_options.hpp"

#include <algorithm>

#include "carousel/error.hpp"

namespace carousel::bench {

const char* cudnn_algo_name(CudnnAlgo algo) noexcept {
    switch (algo) {
        case CudnnAlgo::kPersistStatic:
            return "PERSIST_STATIC";
        case CudnnAlgo::kPersistDynamic:
            return "PERSIST_DYNAMIC";
        case CudnnAlgo::kSmallH:
            return "PERSIST_STATIC_SMALL_H";
        default:
            return "STANDARD";
    }
}

const char* cudnn_math_name(CudnnMath math) noexcept {
    switch (math) {
        case CudnnMath::kTensorOp:
            return "tensor_op";
        case CudnnMath::kTensorOpConversion:
            return "tensor_op_conversion";
        case CudnnMath::kFma:
            return "fma";
        default:
            return "default";
    }
}

std::string CudnnOptions::name() const {
    std::string text = std::string(cudnn_algo_name(algo)) + " " + cudnn_math_name(math);
    if (layout == CudnnLayout::kPadded) text += " padded";
    if (layout == CudnnLayout::kBatchMajor) text += " batch_major";
    if (skip_input) text += " skip_input";
    if (clip > 0.0) text += " clip";
    return text;
}

std::string cudnn_cannot(const GridCase& c) {
    if (c.spec.cell == Cell::kGruResetBefore) return "cuDNN's GRU is reset-after";
    return "";
}

CudnnAlgo cudnn_algo_parse(const std::string& name) {
    for (const CudnnAlgo algo : {CudnnAlgo::kStandard, CudnnAlgo::kPersistStatic,
                                 CudnnAlgo::kSmallH, CudnnAlgo::kPersistDynamic}) {
        if (name == cudnn_algo_name(algo)) return algo;
    }
    throw Error(ErrorCode::kInvalidArgument,
                "'" + name +
                    "' is no algorithm of cuDNN; expected STANDARD, PERSIST_STATIC, "
                    "PERSIST_STATIC_SMALL_H or PERSIST_DYNAMIC.");
}

namespace {

/// How wide a state the kernel for narrow states takes, by cuDNN's documentation.
std::int64_t small_h_most(Cell cell, bool backward) {
    const bool plain = cell == Cell::kRnnTanh || cell == Cell::kRnnRelu;
    if (backward) return plain ? 256 : 128;
    return plain ? 384 : 192;
}

bool fits_persist_static(const GridCase& c) {
    const RnnSpec& s = c.spec;
    const bool shape = s.num_layers == 1 && !s.bidirectional && s.hidden_size <= 1024 &&
                       s.hidden_size % 128 == 0 && s.input_size % 128 == 0 &&
                       c.batch_size % 8 == 0 && c.batch_size <= 128;
    if (s.dtype != DType::kF16 || !shape || s.cell == Cell::kGru) return false;
    return s.cell == Cell::kLstm || c.batch_size < 96 || s.hidden_size < 896;
}

}  // namespace

CudnnAlgo cudnn_backward_algo(const GridCase& c, CudnnAlgo forward) {
    const bool narrow = c.spec.hidden_size <= small_h_most(c.spec.cell, true);
    return forward == CudnnAlgo::kSmallH && !narrow ? CudnnAlgo::kStandard : forward;
}

std::vector<CudnnOptions> cudnn_candidates(const GridCase& c, bool all_math) {
    std::vector<CudnnMath> maths;
    if (c.spec.dtype == DType::kF32) {
        maths = {CudnnMath::kFma};  // any other may round the factors to TF32
    } else if (c.spec.dtype == DType::kF64) {
        maths = {CudnnMath::kDefault};
    } else {
        maths = {CudnnMath::kDefault, CudnnMath::kTensorOp};
        if (all_math) maths.push_back(CudnnMath::kFma);
    }
    const bool varied = c.row.lengths_from < 1.0;
    std::vector<CudnnOptions> all;
    for (const CudnnAlgo algo : {CudnnAlgo::kStandard, CudnnAlgo::kPersistStatic,
                                 CudnnAlgo::kSmallH, CudnnAlgo::kPersistDynamic}) {
        for (const CudnnMath math : maths) {
            // Compiled at run time, for seconds: once for a case, in the arithmetic it would pick.
            if (algo == CudnnAlgo::kPersistDynamic && math != maths.front() && !all_math) continue;
            CudnnOptions options;
            options.algo = algo;
            options.math = math;
            all.push_back(options);
            if (!varied || algo != CudnnAlgo::kStandard) continue;
            options.layout = CudnnLayout::kPadded;
            all.push_back(options);
        }
    }
    const CudnnOptions torch = pytorch_choice(c);
    if (std::find(all.begin(), all.end(), torch) == all.end()) all.push_back(torch);
    return all;
}

CudnnOptions pytorch_choice(const GridCase& c) {
    const RnnSpec& s = c.spec;
    CudnnOptions options;
    options.math = s.dtype == DType::kF32   ? CudnnMath::kFma
                   : s.dtype == DType::kF16 ? CudnnMath::kTensorOp
                                            : CudnnMath::kDefault;
    if (c.row.lengths_from < 1.0) return options;  // a PackedSequence
    options.layout = CudnnLayout::kPadded;
    if (s.proj_size > 0) return options;
    if (s.dtype != DType::kF64 && s.hidden_size <= small_h_most(s.cell, false)) {
        options.algo = CudnnAlgo::kSmallH;
    } else if (fits_persist_static(c)) {
        options.algo = CudnnAlgo::kPersistStatic;
    }
    return options;
}

}  // namespace carousel::bench
