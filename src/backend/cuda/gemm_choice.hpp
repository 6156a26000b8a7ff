#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/backend/cuda/gemm_key.hpp"

// Algorithms of products that were chosen by timing: which wins, and how choices are written down and
// read back. Apart from cuBLASLt, so that it is tested without a GPU.

namespace carousel::cuda {

/// cuBLASLt's own bytes of an algorithm (cublasLtMatmulAlgo_t): they mean something to the same
/// version of the library only.
using GemmAlgo = std::array<std::uint64_t, 8>;

struct GemmChoice {
    GemmAlgo algo{};
    std::int64_t ns = 0;        ///< of one product; 0: nothing to compare with, so not timed
    std::int64_t first_ns = 0;  ///< of the heuristic's first

    friend bool operator==(const GemmChoice&, const GemmChoice&) = default;
};

/// By key, in an order that does not depend on when they were chosen.
struct GemmKeyOrder {
    bool operator()(const GemmKey& a, const GemmKey& b) const noexcept { return a.words < b.words; }
};
using GemmChoices = std::map<GemmKey, GemmChoice, GemmKeyOrder>;

/// What choices hold for: a device by name, and cuBLASLt's version as it numbers itself.
struct GemmPlace {
    std::string device;
    std::uint64_t cublaslt = 0;
};

/// Time of a candidate that could not run.
inline constexpr double kNeverNs = 1e300;

/// Index of the candidate to take, given the times of all, the heuristic's first in front: the
/// fastest if it beats the first by 3 %, else the first; of equals the earlier. So that noise does not
/// change the choice from run to run where there is little to win. `ns` is not empty.
std::size_t fastest_gemm(const std::vector<double>& ns);

/// Text of choices: four lines of heading (format, device, version, count), then a line per choice with
/// a check sum.
std::string print_gemm_choices(const GemmPlace& place, const GemmChoices& choices);

/// Reads such text back; `name` stands for it in sentences. Errors: InvalidArgument: another format,
/// device or version than `here`, a damaged or repeated line (by number), fewer or more than announced.
GemmChoices parse_gemm_choices(std::string_view text, const GemmPlace& here,
                               const std::string& name);

/// Devices whose product library offers a choice. Behind the public calls of the same names, which
/// have the contract. While it is on, DeviceApi::gemm waits at the first use of a product.
class GemmTuning {
public:
    virtual ~GemmTuning() = default;
    virtual void set_gemm_tuning(bool on) = 0;
    virtual bool gemm_tuning() = 0;
    virtual std::string gemm_choices() = 0;
    virtual void load_gemm_choices(const std::string& text, const std::string& name) = 0;
};

}  // namespace carousel::cuda
