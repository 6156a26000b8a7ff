#include <string>

#include "carousel/error.hpp"
#include "carousel/module.hpp"
#include "src/backend/ops.hpp"
#include "src/nn/check.hpp"

namespace carousel {

Dropout::Dropout(const ModuleContext& context, double p, std::int64_t layer)
    : context_(context), p_(p), layer_(layer) {
    if (!(p >= 0.0 && p < 1.0)) {
        throw Error(ErrorCode::kInvalidArgument,
                    "dropout is " + nn::number_text(p) + "; it must lie in [0, 1)");
    }
}

void Dropout::apply(const void* x, std::int64_t numel, std::uint64_t seed, std::uint64_t step,
                    void* y) const {
    nn::check_given("numel", numel, {{"x", x}, {"y", y}});
    if (p_ == 0.0) {
        if (x != y) {
            context_.ops().copy(x, y,
                                static_cast<std::size_t>(numel) * dtype_bytes(context_.dtype()));
        }
        return;
    }
    context_.ops().dropout(x, y, numel, p_, seed, step, static_cast<std::uint32_t>(layer_));
}

void Dropout::apply(const void* x, std::int64_t numel, const std::uint64_t* key, void* y) const {
    if (p_ == 0.0) return apply(x, numel, 0, 0, y);
    nn::check_given("numel", numel, {{"x", x}, {"y", y}});
    context_.ops().dropout_keyed(x, y, numel, p_, key, static_cast<std::uint32_t>(layer_));
}

}  // namespace carousel
