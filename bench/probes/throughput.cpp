#include "bench/probes/measure.hpp"

#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "bench/core/problem.hpp"
#include "src/io/convert.hpp"

// The cell's latency, products with weights in registers, peaks and bandwidths.

namespace carousel::bench::probes {

void Probes::resident() {
    if (!wanted("resident")) return;
    std::vector<std::uint16_t> weights(kResidentBytes / 2);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        weights[i] = io::f64_to_bf16(0.05 * std::sin(static_cast<double>(i)));
    }
    const Buffer on_device(kResidentBytes, api_->device(), "weights");
    copy_to_device(on_device.data(), weights.data(), kResidentBytes, api_->device());
    for (const auto& [name, n] :
         {std::pair{"mma_sync", 8U}, std::pair{"mma_sync", 16U}, std::pair{"mma_sync", 32U},
          std::pair{"wgmma", 8U}, std::pair{"wgmma", 16U}, std::pair{"wgmma", 32U},
          std::pair{"wgmma", 64U}}) {
        const bool group = std::strcmp(name, "wgmma") == 0;
        line({{"probe", "resident"}, {"kind", name}, {"n", n}, {"blocks", sms()}},
             [&, columns = n](Json& j) {
                 const double us = us_per_iteration(
                     [&](const Common& common) {
                         auto* out = scratch_.as<float>();
                         return group
                                    ? wgmma_resident(common, columns, sms(), on_device.data(), out)
                                    : mma_resident(common, columns, sms(), on_device.data(), out);
                     },
                     100, 2100);
                 j["us"] = rounded(us);
                 j["tflops"] = rounded(2.0 * (kResidentBytes / 2.0) * columns * sms() / us * 1e-6);
             });
    }
}

void Probes::pointwise_chain() {
    if (!wanted("pointwise")) return;
    line({{"probe", "pointwise"}, {"cell", "lstm"}}, [&](Json& j) {
        j["us"] = rounded(us_per_iteration(
            [&](const Common& common) { return pointwise(common, scratch_.as<float>()); }, 1000,
            101'000));
    });
}

void Probes::peaks() {
    if (!wanted("peak")) return;
    for (const auto& [dtype, n] : {std::pair{DType::kBf16, 8192}, std::pair{DType::kF16, 8192},
                                   std::pair{DType::kTf32, 8192}, std::pair{DType::kF32, 4096},
                                   std::pair{DType::kF64, 4096}}) {
        line({{"probe", "peak"}, {"dtype", dtype_name(dtype)}, {"n", n}},
             [&, type = dtype, size = std::int64_t{n}](Json& j) {
                 // Not zeros, which cost less power and are faster than any data.
                 const Buffer a = random_tensor(type, 1, size * size, api_->device(), "A");
                 const Buffer b = random_tensor(type, 2, size * size, api_->device(), "B");
                 const Buffer c(a.bytes(), api_->device(), "C");
                 const Buffer workspace(api_->gemm_workspace_bytes() + 256, api_->device());
                 cuda::GemmArgs g;
                 g.trans_a = true;
                 g.m = g.n = g.k = g.lda = g.ldb = g.ldc = size;
                 g.dtype = type;
                 g.out_dtype = type == DType::kTf32 ? DType::kF32 : type;
                 g.a = a.data();
                 g.b = b.data();
                 g.c = c.data();
                 g.workspace = workspace.data();
                 g.workspace_bytes = workspace.bytes();
                 for (int i = 0; i < 3; ++i) api_->gemm(queue_, g);
                 constexpr int kMany = 10;
                 const double ms = queue_ms([&] {
                     for (int i = 0; i < kMany; ++i) api_->gemm(queue_, g);
                 });
                 api_->synchronize(queue_);
                 j["tflops"] = rounded(2e-9 * std::pow(static_cast<double>(size), 3) * kMany / ms);
             });
    }
}

void Probes::bandwidths() {
    if (!wanted("bandwidth")) return;
    line({{"probe", "bandwidth"}, {"level", "memory"}, {"kind", "copy"}}, [&](Json& j) {
        constexpr std::size_t kBytes = std::size_t{2} << 30;
        const Buffer from(kBytes, api_->device()), to(kBytes, api_->device());
        api_->copy(queue_, to.data(), from.data(), kBytes);
        constexpr int kMany = 10;
        const double ms = queue_ms([&] {
            for (int i = 0; i < kMany; ++i) api_->copy(queue_, to.data(), from.data(), kBytes);
        });
        api_->synchronize(queue_);
        j["tb_per_s"] = rounded(2.0 * kBytes * kMany / ms * 1e-9);
    });
    constexpr std::size_t kBytes = std::size_t{24} << 20;
    line({{"probe", "bandwidth"}, {"level", "l2"}, {"kind", "read"}, {"bytes", kBytes}},
         [&](Json& j) {
             const double us = us_per_iteration(
                 [&](const Common& common) {
                     return read_l2(common, scratch_.data(), kBytes, 2 * sms(),
                                    flags_.as<std::uint32_t>());
                 },
                 20, 220);
             j["tb_per_s"] = rounded(static_cast<double>(kBytes) / us * 1e-6);
         });
}

}  // namespace carousel::bench::probes
