#pragma once

#include <string>
#include <vector>

#include "bench/core/grid.hpp"

// Which ways of running a case cuDNN is asked for, as plain values: no header of cuDNN here.

namespace carousel::bench {

enum class CudnnAlgo { kStandard = 0, kPersistStatic = 1, kPersistDynamic = 2, kSmallH = 3 };
enum class CudnnMath { kDefault = 0, kTensorOp = 1, kTensorOpConversion = 2, kFma = 3 };
/// Packed: no padding, which full-length sequences have anyway, and the longest sequence first; the
/// padded ones need padded I/O. The rows' tensors are not batch-major.
enum class CudnnLayout { kPadded = 0, kPacked = 1, kBatchMajor = 2 };

const char* cudnn_algo_name(CudnnAlgo algo) noexcept;
CudnnAlgo cudnn_algo_parse(const std::string& name);  ///< InvalidArgument if unknown
const char* cudnn_math_name(CudnnMath math) noexcept;

struct CudnnOptions {
    CudnnAlgo algo = CudnnAlgo::kStandard;
    CudnnMath math = CudnnMath::kDefault;
    CudnnLayout layout = CudnnLayout::kPacked;
    bool skip_input = false;  ///< x is added as it is: no input product
    double clip = 0.0;        ///< LSTM: |c| is cut at this; 0 = not

    /// "STANDARD tensor_op", with what is not the default behind it.
    std::string name() const;
    friend bool operator==(const CudnnOptions&, const CudnnOptions&) = default;
};

/// Empty if cuDNN can express the case, else a sentence.
std::string cudnn_cannot(const GridCase& c);

/// The algorithm of backward after a forward pass with `forward`: the kernel for narrow states goes
/// further in forward, and PyTorch then goes on with STANDARD.
CudnnAlgo cudnn_backward_algo(const GridCase& c, CudnnAlgo forward);

/// Every algorithm with every arithmetic that keeps the case's precision: f32 means FMA units,
/// 16-bit and tf32 tensor cores; `all_math` adds FMA units for those, too. PERSIST_DYNAMIC, which
/// cuDNN compiles at run time, comes once without it. Packed; varied lengths also padded where they
/// can run; and what PyTorch picks, which has padded I/O. What cuDNN refuses, it refuses when the
/// side is made or run.
std::vector<CudnnOptions> cudnn_candidates(const GridCase& c, bool all_math = false);

/// What PyTorch 2 picks on a card of compute capability 8 or 9, with TF32 allowed unless the case
/// is f32.
CudnnOptions pytorch_choice(const GridCase& c);

}  // namespace carousel::bench
