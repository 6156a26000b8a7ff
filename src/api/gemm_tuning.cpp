#include "carousel/gemm_tuning.hpp"

#include <memory>

#include "carousel/error.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/backend/cuda/gemm_choice.hpp"

namespace carousel {

namespace {

// Calls `use` with the part of `device` that chooses.
template <class Use>
auto with_tuning(const Device& device, const Use& use) {
    std::shared_ptr<cuda::DeviceApi> api;
    if (device.type == DeviceType::kCuda) api = cuda::device_api(device.index);
    auto* tuning = dynamic_cast<cuda::GemmTuning*>(api.get());
    if (tuning == nullptr) {
        throw Error(ErrorCode::kUnsupported,
                    "products on " + device.name() +
                        " have no choice of algorithms; expected a CUDA device");
    }
    return use(*tuning);
}

}  // namespace

void set_gemm_tuning(const Device& device, bool on) {
    with_tuning(device, [&](cuda::GemmTuning& tuning) { tuning.set_gemm_tuning(on); });
}

bool gemm_tuning(const Device& device) {
    return with_tuning(device, [](cuda::GemmTuning& tuning) { return tuning.gemm_tuning(); });
}

std::string gemm_choices(const Device& device) {
    return with_tuning(device, [](cuda::GemmTuning& tuning) { return tuning.gemm_choices(); });
}

void load_gemm_choices(const Device& device, const std::string& text, const std::string& name) {
    with_tuning(device, [&](cuda::GemmTuning& tuning) { tuning.load_gemm_choices(text, name); });
}

}  // namespace carousel
