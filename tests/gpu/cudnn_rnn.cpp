#include "tests/gpu/cudnn_rnn.hpp"

#if defined(CAROUSEL_HAS_CUDNN_HEADERS)

#include <cstring>
#include <stdexcept>

#include "tests/gpu/card.hpp"

namespace carousel::test {
namespace {

cudnnRNNMode_t mode_of(Cell cell) {
    switch (cell) {
        case Cell::kRnnTanh:
            return CUDNN_RNN_TANH;
        case Cell::kRnnRelu:
            return CUDNN_RNN_RELU;
        case Cell::kLstm:
            return CUDNN_LSTM;
        case Cell::kGru:
            return CUDNN_GRU;
        default:
            throw std::runtime_error(std::string("cuDNN has no ") + cell_name(cell));
    }
}

std::vector<float> to_float(const std::vector<double>& values) {
    return std::vector<float>(values.begin(), values.end());
}

std::vector<double> read(const Buffer& from, std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    copy_to_host(values.data(), from.data(), values.size() * sizeof(float), kCard);
    return std::vector<double>(values.begin(), values.end());
}

}  // namespace

Cudnn::Cudnn() : loaded({"libcudnn.so." + std::to_string(CUDNN_MAJOR)}) {
    loaded.find("cudnnCreate", create);
    loaded.find("cudnnDestroy", destroy);
    loaded.find("cudnnGetVersion", version);
    loaded.find("cudnnGetErrorString", error_string);
    loaded.find("cudnnCreateRNNDescriptor", create_rnn);
    loaded.find("cudnnDestroyRNNDescriptor", destroy_rnn);
    loaded.find("cudnnSetRNNDescriptor_v8", set_rnn);
    loaded.find("cudnnCreateRNNDataDescriptor", create_data);
    loaded.find("cudnnDestroyRNNDataDescriptor", destroy_data);
    loaded.find("cudnnSetRNNDataDescriptor", set_data);
    loaded.find("cudnnCreateTensorDescriptor", create_tensor);
    loaded.find("cudnnDestroyTensorDescriptor", destroy_tensor);
    loaded.find("cudnnSetTensorNdDescriptor", set_tensor);
    loaded.find("cudnnGetTensorNdDescriptor", get_tensor);
    loaded.find("cudnnCreateDropoutDescriptor", create_dropout);
    loaded.find("cudnnDestroyDropoutDescriptor", destroy_dropout);
    loaded.find("cudnnSetDropoutDescriptor", set_dropout);
    loaded.find("cudnnDropoutGetStatesSize", dropout_size);
    loaded.find("cudnnGetRNNWeightSpaceSize", weight_size);
    loaded.find("cudnnGetRNNTempSpaceSizes", temp_sizes);
    loaded.find("cudnnGetRNNWeightParams", weight_params);
    loaded.find("cudnnRNNForward", forward);
    loaded.find("cudnnRNNBackwardData_v8", backward_data);
    loaded.find("cudnnRNNBackwardWeights_v8", backward_weights);
}

CudnnRnn::CudnnRnn(const Cudnn& cudnn, const ShapeLine& line, const RnnData& data)
    : cudnn_(cudnn), line_(line), data_(data) {
    check(cudnn_.create(&handle_), "cudnnCreate");
    check(cudnn_.create_rnn(&rnn_), "cudnnCreateRNNDescriptor");
    check(cudnn_.create_dropout(&dropout_), "cudnnCreateDropoutDescriptor");
    check(cudnn_.create_data(&x_), "cudnnCreateRNNDataDescriptor");
    check(cudnn_.create_data(&y_), "cudnnCreateRNNDataDescriptor");
    check(cudnn_.create_tensor(&h_), "cudnnCreateTensorDescriptor");
    describe();
    std::size_t bytes = 0, work = 0, reserve = 0;
    check(cudnn_.weight_size(handle_, rnn_, &bytes), "cudnnGetRNNWeightSpaceSize");
    weights_ = zeros(static_cast<std::int64_t>(bytes / sizeof(float)));
    dweights_ = zeros(static_cast<std::int64_t>(bytes / sizeof(float)));
    check(cudnn_.temp_sizes(handle_, rnn_, CUDNN_FWD_MODE_TRAINING, x_, &work, &reserve),
          "cudnnGetRNNTempSpaceSizes");
    workspace_ = Buffer(work, kCard, "cuDNN's workspace");
    reserve_ = Buffer(reserve, kCard, "cuDNN's reserve");
    upload_weights();
}

CudnnRnn::~CudnnRnn() {
    if (h_ != nullptr) cudnn_.destroy_tensor(h_);
    if (y_ != nullptr) cudnn_.destroy_data(y_);
    if (x_ != nullptr) cudnn_.destroy_data(x_);
    if (dropout_ != nullptr) cudnn_.destroy_dropout(dropout_);
    if (rnn_ != nullptr) cudnn_.destroy_rnn(rnn_);
    if (handle_ != nullptr) cudnn_.destroy(handle_);
}

void CudnnRnn::check(cudnnStatus_t status, const char* call) const {
    if (status == CUDNN_STATUS_SUCCESS) return;
    throw std::runtime_error(std::string(call) + ": " + cudnn_.error_string(status));
}

void CudnnRnn::describe() {
    const RnnSpec& spec = line_.spec;
    std::size_t states_bytes = 0;
    check(cudnn_.dropout_size(handle_, &states_bytes), "cudnnDropoutGetStatesSize");
    dropout_states_ = Buffer(states_bytes, kCard, "cuDNN's dropout states");
    check(cudnn_.set_dropout(dropout_, handle_, 0.0F, dropout_states_.data(), states_bytes, 1),
          "cudnnSetDropoutDescriptor");
    const auto I = static_cast<std::int32_t>(spec.input_size);
    const auto H = static_cast<std::int32_t>(spec.hidden_size);
    const auto L = static_cast<std::int32_t>(spec.num_layers);
    const int D = static_cast<int>(spec.num_directions());
    const int T = static_cast<int>(line_.seq_len), N = static_cast<int>(line_.batch_size);
    check(cudnn_.set_rnn(rnn_, CUDNN_RNN_ALGO_STANDARD, mode_of(spec.cell), CUDNN_RNN_DOUBLE_BIAS,
                         spec.bidirectional ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL,
                         CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, I,
                         H, H, L, dropout_, CUDNN_RNN_PADDED_IO_ENABLED),
          "cudnnSetRNNDescriptor_v8");
    const std::vector<int> lengths(static_cast<std::size_t>(N), T);
    lengths_ = Buffer(lengths.size() * sizeof(int), kCard, "cuDNN's lengths");
    copy_to_device(lengths_.data(), lengths.data(), lengths.size() * sizeof(int), kCard);
    float padding = 0.0F;
    const auto set_data = [&](cudnnRNNDataDescriptor_t to, int features) {
        check(cudnn_.set_data(to, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, T, N,
                              features, lengths.data(), &padding),
              "cudnnSetRNNDataDescriptor");
    };
    set_data(x_, I);
    set_data(y_, D * H);
    const int dims[3] = {L * D, N, H}, strides[3] = {N * H, H, 1};
    check(cudnn_.set_tensor(h_, CUDNN_DATA_FLOAT, 3, dims, strides), "cudnnSetTensorNdDescriptor");
}

CudnnRnn::Place CudnnRnn::place(std::int64_t state, int id, bool bias) const {
    cudnnTensorDescriptor_t matrix = nullptr, vector = nullptr;
    check(cudnn_.create_tensor(&matrix), "cudnnCreateTensorDescriptor");
    check(cudnn_.create_tensor(&vector), "cudnnCreateTensorDescriptor");
    void *matrix_at = nullptr, *vector_at = nullptr;
    const cudnnStatus_t status =
        cudnn_.weight_params(handle_, rnn_, static_cast<std::int32_t>(state), weights_.bytes(),
                             weights_.data(), id, matrix, &matrix_at, vector, &vector_at);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int num_dims = 0, dims[3] = {}, strides[3] = {};
    cudnnStatus_t read = CUDNN_STATUS_SUCCESS;
    if (status == CUDNN_STATUS_SUCCESS) {
        read = cudnn_.get_tensor(bias ? vector : matrix, 3, &type, &num_dims, dims, strides);
    }
    cudnn_.destroy_tensor(matrix);
    cudnn_.destroy_tensor(vector);
    check(status, "cudnnGetRNNWeightParams");
    check(read, "cudnnGetTensorNdDescriptor");
    const void* at = bias ? vector_at : matrix_at;
    if (at == nullptr || num_dims != 3) {
        throw std::runtime_error("cuDNN has no tensor with linLayerID " + std::to_string(id));
    }
    const auto bytes = static_cast<const char*>(at) - static_cast<const char*>(weights_.data());
    return {static_cast<std::size_t>(bytes) / sizeof(float), dims[1], dims[2]};
}

// linLayerID counts the gates in the order of the weights, LSTM i,f,g,o and GRU r,z,n, first of the
// input matrices and then of the recurrent ones.
template <class Tensors, class Visit>
void CudnnRnn::for_each_gate(Tensors& states, const Visit& visit) const {
    const RnnSpec& spec = line_.spec;
    const int G = static_cast<int>(spec.num_gates());
    for (std::int64_t s = 0; s < spec.num_states(); ++s) {
        auto& w = states[static_cast<std::size_t>(s)];
        for (int gate = 0; gate < G; ++gate) {
            const std::int64_t row = gate * spec.hidden_size;
            visit(place(s, gate, false), w.w_ih, row);
            visit(place(s, G + gate, false), w.w_hh, row);
            visit(place(s, gate, true), w.b_ih, row);
            visit(place(s, G + gate, true), w.b_hh, row);
        }
    }
}

Buffer CudnnRnn::upload(const std::vector<double>& values, std::int64_t count) const {
    if (values.empty()) return zeros(count);
    const std::vector<float> floats = to_float(values);
    Buffer to(floats.size() * sizeof(float), kCard, "cuDNN's tensor");
    copy_to_device(to.data(), floats.data(), to.bytes(), kCard);
    return to;
}

Buffer CudnnRnn::zeros(std::int64_t count) const {
    return upload(std::vector<double>(static_cast<std::size_t>(count), 0.0), count);
}

void CudnnRnn::upload_weights() {
    std::vector<float> space(weights_.bytes() / sizeof(float));
    const auto put = [&](const Place& p, const std::vector<double>& from, std::int64_t row) {
        for (std::int64_t e = 0; e < p.rows * p.columns; ++e) {
            space.at(p.offset + static_cast<std::size_t>(e)) =
                static_cast<float>(from.at(static_cast<std::size_t>(row * p.columns + e)));
        }
    };
    for_each_gate(data_.problem.weights, put);
    copy_to_device(weights_.data(), space.data(), weights_.bytes(), kCard);
}

void CudnnRnn::read_gradients(NamedTensors& results) const {
    const std::vector<double> space =
        read(dweights_, static_cast<std::int64_t>(dweights_.bytes() / sizeof(float)));
    std::vector<reference::Weights> grads = data_.problem.weights;
    const auto get = [&](const Place& p, std::vector<double>& to, std::int64_t row) {
        for (std::int64_t e = 0; e < p.rows * p.columns; ++e) {
            to.at(static_cast<std::size_t>(row * p.columns + e)) =
                space.at(p.offset + static_cast<std::size_t>(e));
        }
    };
    for_each_gate(grads, get);
    const std::int64_t D = line_.spec.num_directions();
    for (std::size_t s = 0; s < grads.size(); ++s) {
        const auto state = static_cast<std::int64_t>(s);
        results["d_" + param_name("weight_ih", state, D)] = grads[s].w_ih;
        results["d_" + param_name("weight_hh", state, D)] = grads[s].w_hh;
        results["d_" + param_name("bias_ih", state, D)] = grads[s].b_ih;
        results["d_" + param_name("bias_hh", state, D)] = grads[s].b_hh;
    }
}

NamedTensors CudnnRnn::training_and_backward() {
    const RnnSpec& spec = line_.spec;
    const std::int64_t T = line_.seq_len, N = line_.batch_size, H = spec.hidden_size;
    const std::int64_t outputs = T * N * spec.num_directions() * H;
    const std::int64_t inputs = T * N * spec.input_size, states = spec.num_states() * N * H;
    const reference::Problem& p = data_.problem;
    const Buffer x = upload(p.x, inputs), hx = upload(p.hx, states), cx = upload(p.cx, states);
    const Buffer dy = upload(data_.dy, outputs), dhy = upload(data_.dhy, states);
    const Buffer dcy = upload(data_.dcy, states);
    const Buffer y = zeros(outputs), hy = zeros(states), cy = zeros(states), dx = zeros(inputs);
    const Buffer dhx = zeros(states), dcx = zeros(states);
    const auto* lengths = static_cast<const std::int32_t*>(lengths_.data());
    // Only an LSTM has a cell state to give.
    const auto cell_state = [&](const Buffer& c) {
        return cell_has_c(spec.cell) ? c.data() : nullptr;
    };
    check(cudnn_.forward(handle_, rnn_, CUDNN_FWD_MODE_TRAINING, lengths, x_, x.data(), y_,
                         y.data(), h_, hx.data(), hy.data(), h_, cell_state(cx), cell_state(cy),
                         weights_.bytes(), weights_.data(), workspace_.bytes(), workspace_.data(),
                         reserve_.bytes(), reserve_.data()),
          "cudnnRNNForward");
    check(
        cudnn_.backward_data(handle_, rnn_, lengths, y_, y.data(), dy.data(), x_, dx.data(), h_,
                             hx.data(), dhy.data(), dhx.data(), h_, cell_state(cx), cell_state(dcy),
                             cell_state(dcx), weights_.bytes(), weights_.data(), workspace_.bytes(),
                             workspace_.data(), reserve_.bytes(), reserve_.data()),
        "cudnnRNNBackwardData_v8");
    check(cudnn_.backward_weights(handle_, rnn_, CUDNN_WGRAD_MODE_ADD, lengths, x_, x.data(), h_,
                                  hx.data(), y_, y.data(), weights_.bytes(), dweights_.data(),
                                  workspace_.bytes(), workspace_.data(), reserve_.bytes(),
                                  reserve_.data()),
          "cudnnRNNBackwardWeights_v8");
    // cuDNN works on the default stream, which the library's own does not wait for.
    if (cudaDeviceSynchronize() != cudaSuccess) throw std::runtime_error("cuDNN's work failed");
    NamedTensors r = {{"y", read(y, outputs)},
                      {"hy", read(hy, states)},
                      {"dx", read(dx, inputs)},
                      {"dhx", read(dhx, states)}};
    if (cell_has_c(spec.cell)) {
        r["cy"] = read(cy, states);
        r["dcx"] = read(dcx, states);
    }
    read_gradients(r);
    return r;
}

}  // namespace carousel::test

#endif
