#pragma once

#include <string>

#include "carousel/device.hpp"

namespace carousel {

/// Switches the choice of matrix products' algorithms by timing on or off for one device; off at first.
///
/// Off, a product runs by the algorithm that cuBLASLt's heuristic names first. On, the first use of a
/// product outside a stream capture times up to 8 of the heuristic's candidates on the device and
/// takes the fastest, if it beats the first by 3 %. Products are told apart by types, sizes, strides,
/// alignments, workspace, and whether they add to a result or a bias. A product met first while a
/// graph is recorded is recorded with the heuristic's algorithm and timed later; run a pass once
/// before recording it. Graphs recorded earlier keep their algorithms.
///
/// Stream   such a first use WAITS: for its stream, and for about 170 runs of the product. It runs
///          them on a stream of its own, on a scratch result; the caller's memory stays as it is.
///          Other products of the device wait meanwhile. Later uses only enqueue, as always.
/// Memory   as large as the result, during that call; without room the heuristic's first is used.
///          At most 4096 products are timed.
/// Repeat   Tuned choices may differ from run to run of a program, because times do, and with them the
///          last bits of results. Within a process a timed product keeps its choice. To have the same
///          bits in every run, store the choices once and load them, with tuning off.
/// Errors   Unsupported: the device cannot be used, or is the CPU, whose products have no choice.
CAROUSEL_API void set_gemm_tuning(const Device& device, bool on);

/// True if it is on. Errors: as set_gemm_tuning.
CAROUSEL_API bool gemm_tuning(const Device& device);

/// All choices of this process on `device`, timed and loaded, as text to be stored: a line per product
/// with the times measured, for this kind of device and this version of cuBLASLt.
/// Errors   as set_gemm_tuning.
CAROUSEL_API std::string gemm_choices(const Device& device);

/// Takes choices from such text; of a product that has one already, the loaded one counts. They are
/// used whether tuning is on or off, the same ones every time. A choice that cuBLASLt will not run
/// (cublasLtMatmulAlgoCheck) is dropped when its product comes up: the heuristic, or tuning, decides.
///
/// In       text   what gemm_choices() gave
///          name   stands for it in sentences, such as the file's name
/// Errors   InvalidArgument, and nothing is taken: the text is of another device, of another version
///          of cuBLASLt, damaged or cut off; the sentence names the line. Else as set_gemm_tuning.
CAROUSEL_API void load_gemm_choices(const Device& device, const std::string& text,
                                    const std::string& name = "the text");

}  // namespace carousel
