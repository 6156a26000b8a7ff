#include "bench/gpu/cudnn_weights.hpp"

#include <array>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

std::int64_t elements_of(const TensorDescriptor& descriptor) {
    cudnnDataType_t type;
    int dims = 0;
    std::array<int, CUDNN_DIM_MAX> shape{}, strides{};
    check_cudnn(cudnn().GetTensorNdDescriptor(descriptor.get(), CUDNN_DIM_MAX, &type, &dims,
                                              shape.data(), strides.data()),
                "cudnnGetTensorNdDescriptor");
    std::int64_t count = 1;
    for (int d = 0; d < dims; ++d) count *= shape[static_cast<std::size_t>(d)];
    return count;
}

/// Pieces of one (layer, direction), which cuDNN calls a pseudo layer.
struct StateWeights {
    cudnnHandle_t handle;
    cudnnRNNDescriptor_t rnn;
    int state;
    DType value;
    std::byte* space;
    std::size_t space_bytes;
    std::vector<WeightPiece>& pieces;

    /// Part `gate` of `gates` of a tensor, which cuDNN has at `at`.
    void add(const RnnParamInfo* info, std::int64_t gate, std::int64_t gates, const void* at,
             const TensorDescriptor& shape) {
        if (info == nullptr || at == nullptr) return;
        const std::int64_t count = info->numel / gates;
        if (elements_of(shape) != count) {
            throw Error(ErrorCode::kInternal, info->name + " has another size in cuDNN");
        }
        const auto bytes = static_cast<const std::byte*>(at) - space;
        pieces.push_back({bytes / static_cast<std::ptrdiff_t>(dtype_bytes(value)),
                          info->offset + gate * count, count});
    }

    /// cuDNN's linear layer `id`.
    void add(int id, const RnnParamInfo* matrix, const RnnParamInfo* bias, std::int64_t gate,
             std::int64_t gates) {
        TensorDescriptor matrix_shape, bias_shape;
        void *matrix_at = nullptr, *bias_at = nullptr;
        check_cudnn(
            cudnn().GetRNNWeightParams(handle, rnn, state, space_bytes, space, id,
                                       matrix_shape.get(), &matrix_at, bias_shape.get(), &bias_at),
            "cudnnGetRNNWeightParams");
        add(matrix, gate, gates, matrix_at, matrix_shape);
        add(bias, gate, gates, bias_at, bias_shape);
    }
};

}  // namespace

std::vector<WeightPiece> weight_pieces(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn,
                                       const RnnSpec& spec, DType value, void* space,
                                       std::size_t space_bytes) {
    std::vector<WeightPiece> pieces;
    const std::vector<RnnParamInfo> layout = param_layout(spec);
    const int gates = static_cast<int>(spec.num_gates());
    const auto directions = static_cast<int>(spec.num_directions());
    for (int state = 0; state < static_cast<int>(spec.num_states()); ++state) {
        const std::string suffix =
            "_l" + std::to_string(state / directions) + (state % directions == 1 ? "_reverse" : "");
        const auto find = [&](const std::string& name) -> const RnnParamInfo* {
            for (const RnnParamInfo& info : layout) {
                if (info.name == name + suffix) return &info;
            }
            return nullptr;
        };
        StateWeights weights{handle,      rnn,   state, value, static_cast<std::byte*>(space),
                             space_bytes, pieces};
        // The order of gates is the same: LSTM i,f,g,o; GRU r,z,n. First the input's, then the
        // state's.
        for (int gate = 0; gate < gates; ++gate) {
            weights.add(gate, find("weight_ih"), find("bias_ih"), gate, gates);
            weights.add(gates + gate, find("weight_hh"), find("bias_hh"), gate, gates);
        }
        if (spec.proj_size > 0) weights.add(2 * gates, find("weight_hr"), nullptr, 0, 1);
    }
    return pieces;
}

}  // namespace carousel::bench
