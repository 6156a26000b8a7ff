#include "src/plan/packed_layout.hpp"

#include <string>

namespace carousel {

int recurrent_gates(Cell cell) noexcept {
    return cell == Cell::kGruResetBefore ? 2 : cell_num_gates(cell);
}

std::vector<PackedState> add_packed_weights(const RnnSpec& spec, int lanes, PackParts parts,
                                            SliceLayout& slices) {
    const std::size_t element = dtype_bytes(spec.dtype);
    const auto padded = [&](std::int64_t size) { return (size + lanes - 1) / lanes * lanes; };
    const std::int64_t H = spec.hidden_size, O = spec.output_size(), P = spec.proj_size;
    const std::int64_t G = spec.num_gates(), recurrent = recurrent_gates(spec.cell);
    const bool reset_before = spec.cell == Cell::kGruResetBefore;
    std::vector<PackedState> states;
    for (std::int64_t state = 0; state < spec.num_states(); ++state) {
        const std::int64_t layer = state / spec.num_directions();
        const std::int64_t input = spec.layer_input_size(layer);
        const std::string tag =
            " l" + std::to_string(layer) + (state % spec.num_directions() == 1 ? ".reverse" : "");
        PackedState packed;
        if (parts.forward) {
            packed.w_ih = slices.add("packed w_ih" + tag, padded(H) * G * input, element);
            packed.w_hh = slices.add("packed w_hh" + tag, padded(H) * recurrent * O, element);
            if (reset_before) packed.w_hn = slices.add("packed w_hn" + tag, padded(H) * H, element);
            if (P > 0) packed.w_hr = slices.add("packed w_hr" + tag, padded(P) * H, element);
            if (spec.bias != BiasMode::kNone)
                packed.bias = slices.add("bias" + tag, G * H, element);
            if (spec.cell == Cell::kGru && spec.bias == BiasMode::kDouble) {
                packed.bias_hn = slices.add("bias_hn" + tag, H, element);
            }
        }
        if (parts.backward) {
            packed.w_ih_t = slices.add("packed w_ih^T" + tag, padded(input) * G * H, element);
            packed.w_hh_t = slices.add("packed w_hh^T" + tag, padded(O) * recurrent * H, element);
            if (reset_before)
                packed.w_hn_t = slices.add("packed w_hn^T" + tag, padded(H) * H, element);
            if (P > 0) packed.w_hr_t = slices.add("packed w_hr^T" + tag, padded(H) * P, element);
        }
        states.push_back(packed);
    }
    return states;
}

}  // namespace carousel
