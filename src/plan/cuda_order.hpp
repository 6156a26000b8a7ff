#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/plan/cuda_schedule.hpp"

namespace carousel {

/// What a step of a walk reads or writes: a range of time steps of one part of one array.
enum class CudaArray : std::uint8_t {
    kX,
    kHx,
    kCx,
    kY,
    kHy,
    kCy,
    kDy,
    kDx,
    kDhx,
    kDcx,
    kDw,
    kDb,
    kNorms,  // the caller's
    kKey,
    kWeights,
    kXPreact,
    kHPreact,
    kHPreactN,
    kProjected,
    kC,
    kHIn,
    kAux,
    kLayerY,
    kDgates,
    kLayerDy,
    kDhState,
    kDc,
    kDh,
    kDrh,
    kDp,
    kDbPartials,
    kNormPartials,
    kXRows,
    kGemm,
};
const char* cuda_array_name(CudaArray array) noexcept;

struct CudaAccess {
    CudaArray array;
    std::int64_t part = 0;
    std::int64_t begin = 0, end = 1;  ///< of time steps, or of whatever the array's parts hold
    bool writes = false;
};

/// All accesses of one step, appended. The sizes are those of a run (seq_len <= planned).
void append_accesses(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                     bool training, const CudaStep& step, std::vector<CudaAccess>& accesses);

/// Empty if every two steps that touch the same memory, one of them writing, are ordered by their
/// queue or by events; else a sentence about the first pair that is not. Pure.
std::string find_unordered(const RnnSpec& spec, const CudaRnnConfig& config, std::int64_t seq_len,
                           bool training, const std::vector<CudaStep>& steps);

}  // namespace carousel
