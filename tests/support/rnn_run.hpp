#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "carousel/rnn.hpp"
#include "tests/support/host_tensor.hpp"
#include "tests/support/rnn_data.hpp"
#include "tests/support/shape_line.hpp"

namespace carousel::test {

/// Results by name: y, hy, cy, layer_outputs, cell_states, gates, dx, dhx, dcx, dh_norms and
/// d_<PyTorch name of the weight>. Gates and cell states beyond a sequence's end are set to 0
/// (their content is not specified).
using NamedTensors = std::map<std::string, std::vector<double>>;

/// Memory of the weights of one (layer, direction), or of their gradients.
struct LayerTensors {
    HostTensor w_ih, w_hh, b_ih, b_hh, w_hr;
};

/// One case on the library: plan, tensors at their own addresses, and argument structs that a test
/// may change before it calls. Outputs, workspace and reserve start as NaN.
class RnnRun {
public:
    /// On a CUDA device every tensor has a copy there, which the calls below bring up to date before
    /// and read back after.
    RnnRun(const ShapeLine& line, const RnnData& data, Device device = {},
           Algorithm algorithm = Algorithm::kAuto);
    RnnRun(const RnnRun&) = delete;
    RnnRun& operator=(const RnnRun&) = delete;

    void inference();
    void training();
    void backward();
    /// training() and backward(); the results of both.
    NamedTensors training_and_backward();
    /// Makes another plan for the same tensors, with fresh workspace and reserve.
    void replan(const RnnPlanOptions& options);

    /// upload(), and NaN in workspace and reserve.
    void poison_scratch();

    NamedTensors forward_results() const;
    NamedTensors backward_results() const;

    /// Bring every tensor's copy on the device up to date, and read them all back, for runs that are
    /// not made by the calls above.
    void upload();
    void download();

    ShapeLine line;
    RnnPlanOptions options;
    RnnPlan plan;
    HostTensor x, hx, cx, y, hy, cy, layer_outputs, cell_states, gates;
    HostTensor dy, dhy, dcy, dx, dhx, dcx, dh_norms;
    std::vector<LayerTensors> weights, dweights;
    std::vector<std::int64_t> lengths;
    std::vector<std::uint8_t> reset;
    RnnParams params;
    RnnGrads grads;
    std::unique_ptr<PackedWeights> packed;
    AlignedBytes workspace, reserve;
    Buffer device_workspace, device_reserve;
    RnnForwardArgs forward_args;
    RnnBackwardArgs backward_args;

private:
    void make_tensors(const RnnData& data);
    void make_weights(const RnnData& data);
    void make_args(const RnnData& data);
    /// The view that the library is given: of `tensor` itself, or of its copy on the device.
    TensorView view(HostTensor& tensor);
    const void* on_device(const void* data, std::size_t bytes);
    void poison(AlignedBytes& host, const Buffer& device_memory);

    struct Copy {
        HostTensor* host;
        Buffer device;
    };
    Device device_;
    std::vector<Copy> copies_;
    std::vector<Buffer> masks_;
};

/// What the reference says, under the same names. With dropout in the spec, `data.problem.dropout`
/// must hold the multipliers; `training` false ignores them.
NamedTensors reference_forward(const RnnData& data, bool training);
/// Forward (training) and backward results together.
NamedTensors reference_all(const RnnData& data);
/// The same with the backward pass taken where `gates` [S,T,N,G*H] say: for ReLU units, whose gradient
/// jumps at 0, when rounding may have put a pre-activation near 0 on the other side.
NamedTensors reference_all(const RnnData& data, const std::vector<double>& gates);

/// make_rnn_data, with the dropout multipliers that the library will use filled in.
RnnData make_rnn_data_with_dropout(const ShapeLine& line);

/// "weight_ih_l0_reverse" for ("weight_ih", state 1 of D = 2).
std::string param_name(const char* kind, std::int64_t state, std::int64_t num_directions);

}  // namespace carousel::test
