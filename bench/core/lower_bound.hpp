#pragma once

#include <map>
#include <string>

#include "bench/core/grid.hpp"

// What no implementation can go below on a given card, from figures that the probes measure.
//
//   chain       (T + L - 1) * (exchange hop + pointwise latency): each step needs the one before, and
//               layers run one step behind each other at best
//   throughput  T * max(FLOP per step / peak, bytes per step / bandwidth), all layers and directions
//   bound       chain + throughput
//
// Weights of all layers that fit on chip are read once; beyond that they come from L2 in every step, and
// from memory where L2 is too small.

namespace carousel::bench {

enum class Pass { kInfer, kForward, kBackwardData, kBackward, kTrain };
inline constexpr Pass kPasses[] = {Pass::kInfer, Pass::kForward, Pass::kBackwardData,
                                   Pass::kBackward, Pass::kTrain};
const char* pass_name(Pass pass) noexcept;

/// Floating-point operations of the matrix products of a pass.
double pass_flops(const GridCase& c, Pass pass);

/// Figures of a card. Units: TFLOP/s, TB/s, us, bytes.
struct CardFigures {
    std::string source;  ///< where they come from, for the header of a result
    std::map<std::string, double> peak_tflops;  ///< by dtype
    double memory_tb_s = 0.0, l2_tb_s = 0.0;
    double on_chip_bytes = 0.0;   ///< registers and shared memory that can hold weights
    double cluster_bytes = 0.0;   ///< of which one cluster has
    double sm_bytes = 0.0;        ///< and one SM
    double l2_bytes = 0.0;        ///< beyond which weights come from memory
    double cluster_hop_us = 0.0;  ///< from block to block of a cluster
    double l2_hop_us = 0.0;       ///< from block to block through L2
    double pointwise_us = 0.0;    ///< product's latency and the cell of one step
};

/// Published figures and estimates for an H200, for runs without measured ones.
CardFigures estimated_figures();

/// Estimates, with what the JSON lines of carousel_probes measured in their place.
/// Errors: InvalidArgument: not a file of such lines.
CardFigures figures_from_probes(const std::string& path);
CardFigures figures_from_probe_text(const std::string& text, const std::string& name);

struct LowerBound {
    double chain_us = 0.0, throughput_us = 0.0;
    double us() const { return chain_us + throughput_us; }
};
LowerBound lower_bound(const GridCase& c, Pass pass, const CardFigures& figures);

}  // namespace carousel::bench
