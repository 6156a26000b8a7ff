#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "bench/tests/cudnn/fake_cudnn_objects.hpp"
#include "tests/reference/rnn_reference.hpp"

// The passes in double precision, by the reference of tests/reference. The reserve starts with a
// record of what it holds; BackwardData overwrites what forward saved with what BackwardWeights
// needs.

namespace carousel::test {

namespace {

constexpr std::uint64_t kMagic = 0x52657365727665ULL;
enum Phase : std::uint64_t { kSavedByForward = 1, kLeftByBackwardData = 2 };

/// Beginning of the reserve; the rest are doubles.
struct Record {
    std::uint64_t magic, phase, shape, x, y, hx, cx, weights;
};

double load(const void* data, cudnnDataType_t type, std::int64_t index) {
    const auto* at =
        static_cast<const std::byte*>(data) + static_cast<std::size_t>(index) * bytes_of(type);
    const auto as = [at](auto value) {
        std::memcpy(&value, at, sizeof(value));
        return value;
    };
    switch (type) {
        case CUDNN_DATA_DOUBLE:
            return as(double{});
        case CUDNN_DATA_FLOAT:
            return static_cast<double>(as(float{}));
        case CUDNN_DATA_BFLOAT16:
            return static_cast<double>(__bfloat162float(as(__nv_bfloat16{})));
        default:
            return static_cast<double>(__half2float(as(__half{})));
    }
}

void store(void* data, cudnnDataType_t type, std::int64_t index, double value) {
    auto* at = static_cast<std::byte*>(data) + static_cast<std::size_t>(index) * bytes_of(type);
    const auto put = [at](auto rounded) { std::memcpy(at, &rounded, sizeof(rounded)); };
    switch (type) {
        case CUDNN_DATA_DOUBLE:
            return put(value);
        case CUDNN_DATA_FLOAT:
            return put(static_cast<float>(value));
        case CUDNN_DATA_BFLOAT16:
            return put(__float2bfloat16_rn(static_cast<float>(value)));
        default:
            return put(__float2half_rn(static_cast<float>(value)));
    }
}

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::vector<double> load_all(const void* data, cudnnDataType_t type, std::int64_t count) {
    if (data == nullptr) return {};
    std::vector<double> values(size(count));
    for (std::int64_t i = 0; i < count; ++i) values[size(i)] = load(data, type, i);
    return values;
}

void store_all(void* data, cudnnDataType_t type, const std::vector<double>& values) {
    if (data == nullptr) return;
    for (std::size_t i = 0; i < values.size(); ++i) {
        store(data, type, static_cast<std::int64_t>(i), values[i]);
    }
}

/// As [T,N,width], zeros beyond the ends.
std::vector<double> load_sequence(const void* data, const cudnnRNNDataStruct& shape) {
    const std::int64_t width = shape.width;
    std::vector<double> values(size(shape.steps * shape.batch * width), 0.0);
    for (std::int64_t t = 0; t < shape.steps; ++t) {
        for (std::int64_t n = 0; n < shape.batch; ++n) {
            const std::int64_t row = shape.row(t, n);
            for (std::int64_t j = 0; row >= 0 && j < width; ++j) {
                values[size((t * shape.batch + n) * width + j)] =
                    load(data, shape.type, row * width + j);
            }
        }
    }
    return values;
}

/// `padding` goes where a sequence has ended, if the layout has such places.
void store_sequence(void* data, const cudnnRNNDataStruct& shape, const std::vector<double>& values,
                    double padding) {
    const std::int64_t width = shape.width;
    for (std::int64_t i = 0; i < shape.rows() * width; ++i) store(data, shape.type, i, padding);
    for (std::int64_t t = 0; t < shape.steps; ++t) {
        for (std::int64_t n = 0; n < shape.batch; ++n) {
            const std::int64_t row = shape.row(t, n);
            for (std::int64_t j = 0; row >= 0 && j < width; ++j) {
                store(data, shape.type, row * width + j,
                      values[size((t * shape.batch + n) * width + j)]);
            }
        }
    }
}

std::uint64_t fingerprint(const std::vector<double>& values) {
    std::uint64_t hash = 0xcbf29ce484222325ULL ^ values.size();
    for (const double value : values) {
        std::uint64_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        hash = (hash ^ bits) * 0x100000001b3ULL;
        hash ^= hash >> 29;
    }
    return hash;
}

/// Of all that must be the same in the passes that share a reserve. STANDARD goes on after the
/// kernel for narrow states, as PyTorch has it; no other two algorithms go together.
std::uint64_t shape_of(const RnnCall& call) {
    const cudnnRNNStruct& r = call.rnn;
    const cudnnRNNDataStruct& x = call.x_shape;
    const bool small_h = r.algo == CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H;
    const cudnnRNNAlgo_t algo = small_h ? CUDNN_RNN_ALGO_STANDARD : r.algo;
    std::vector<double> facts;
    for (const std::int64_t fact :
         {std::int64_t{algo}, std::int64_t{r.cell}, std::int64_t{r.bias}, std::int64_t{r.direction},
          std::int64_t{r.input}, std::int64_t{r.type}, std::int64_t{r.math_precision},
          std::int64_t{r.math}, std::int64_t{r.input_size}, std::int64_t{r.hidden_size},
          std::int64_t{r.proj_size}, std::int64_t{r.num_layers}, std::int64_t{r.flags},
          std::int64_t{x.layout}, std::int64_t{x.steps}, std::int64_t{x.batch}}) {
        facts.push_back(static_cast<double>(fact));
    }
    facts.insert(facts.end(), x.lengths.begin(), x.lengths.end());
    return fingerprint(facts);
}

reference::Cell cell_of(cudnnRNNMode_t cell) {
    switch (cell) {
        case CUDNN_RNN_RELU:
            return reference::Cell::kRelu;
        case CUDNN_RNN_TANH:
            return reference::Cell::kTanh;
        case CUDNN_GRU:
            return reference::Cell::kGruResetAfter;
        default:
            return reference::Cell::kLstm;
    }
}

/// The tensor of a weight that cuDNN's linear layer `id` is gate `id % gates` of.
std::vector<double>& tensor_of(reference::Weights& w, int id, int gates, bool bias) {
    if (id == 2 * gates) return w.w_hr;
    if (bias) return id < gates ? w.b_ih : w.b_hh;
    return id < gates ? w.w_ih : w.w_hh;
}

/// Calls visit(block, its tensor, where in the tensor it begins) for every block of weights.
template <class Visit>
void for_each_block(const cudnnRNNStruct& rnn, std::vector<reference::Weights>& weights,
                    const Visit& visit) {
    const WeightLayout layout = weight_layout(rnn);
    const int gates = rnn.gates();
    for (std::size_t state = 0; state < weights.size(); ++state) {
        for (int id = 0; id <= 2 * gates; ++id) {
            for (const bool bias : {false, true}) {
                const auto& blocks = bias ? layout.biases[state] : layout.matrices[state];
                const WeightBlock& block = blocks[static_cast<std::size_t>(id)];
                const std::int64_t first = id == 2 * gates ? 0 : id % gates * block.count();
                if (block.count() == 0) continue;
                visit(block, tensor_of(weights[state], id, gates, bias), first);
            }
        }
    }
}

std::vector<reference::Weights> load_weights(const cudnnRNNStruct& rnn, const void* space) {
    std::vector<reference::Weights> weights(size(rnn.states()));
    for_each_block(rnn, weights,
                   [&](const WeightBlock& block, std::vector<double>& tensor, std::int64_t first) {
                       tensor.resize(std::max(tensor.size(), size(first + block.count())));
                       for (std::int64_t i = 0; i < block.count(); ++i) {
                           tensor[size(first + i)] = load(space, rnn.type, block.offset + i);
                       }
                   });
    if (rnn.skips()) {  // every gate of the first layer sees x itself
        const std::int64_t hidden = rnn.hidden_size;
        for (int dir = 0; dir < rnn.directions(); ++dir) {
            std::vector<double>& w = weights[size(dir)].w_ih;
            w.assign(size(rnn.gates() * hidden * hidden), 0.0);
            for (std::int64_t row = 0; row < rnn.gates() * hidden; ++row) {
                w[size(row * hidden + row % hidden)] = 1.0;
            }
        }
    }
    return weights;
}

std::uint64_t fingerprint(const std::vector<reference::Weights>& weights) {
    std::vector<double> all;
    for (const reference::Weights& w : weights) {
        for (const auto* tensor : {&w.w_ih, &w.w_hh, &w.b_ih, &w.b_hh, &w.w_hr}) {
            all.insert(all.end(), tensor->begin(), tensor->end());
        }
    }
    return fingerprint(all);
}

/// All but x, which backward takes from the reserve.
reference::Problem problem_of(const RnnCall& call) {
    const cudnnRNNStruct& r = call.rnn;
    reference::Problem p;
    p.cell = cell_of(r.cell);
    p.T = call.x_shape.steps;
    p.N = call.x_shape.batch;
    p.I = r.input_size;
    p.H = r.hidden_size;
    p.P = r.projects() ? r.proj_size : 0;
    p.L = r.num_layers;
    p.D = r.directions();
    p.weights = load_weights(r, call.weights);
    const std::int64_t states = std::int64_t{r.states()} * p.N;
    p.hx = load_all(call.hx, r.type, states * r.proj_size);
    p.cx = load_all(call.cx, r.type, states * r.hidden_size);
    p.lengths.assign(call.x_shape.lengths.begin(), call.x_shape.lengths.end());
    return p;
}

std::int64_t saved_doubles(const cudnnRNNStruct& r, const cudnnRNNDataStruct& x) {
    const std::int64_t tokens = std::int64_t{x.steps} * x.batch;
    const std::int64_t per_state = std::int64_t{r.gates() + 1} * r.hidden_size;
    return tokens * (r.input_size + std::int64_t{r.num_layers} * r.directions() * r.proj_size +
                     r.states() * per_state);
}

double* doubles_of(void* reserve) {
    return reinterpret_cast<double*>(static_cast<std::byte*>(reserve) + sizeof(Record));
}

/// Moves what forward saved to the doubles of the reserve, or from there.
template <class Move>
void for_each_saved(reference::Forward& fwd, const Move& move) {
    move(fwd.layer_inputs[0]);
    for (std::vector<double>& output : fwd.layer_outputs) move(output);
    move(fwd.gates);
    move(fwd.cell_states);
}

void save(const reference::Problem& p, reference::Forward& fwd, double* to) {
    if (!p.has_c()) fwd.cell_states.clear();
    for_each_saved(fwd, [&](const std::vector<double>& values) {
        to = std::copy(values.begin(), values.end(), to);
    });
}

reference::Forward restore(const reference::Problem& p, const double* from) {
    reference::Forward fwd;
    const std::int64_t tokens = p.T * p.N, states = p.L * p.D;
    fwd.layer_inputs.resize(size(p.L));
    fwd.layer_inputs[0].resize(size(tokens * p.I));
    fwd.layer_outputs.assign(size(p.L), std::vector<double>(size(tokens * p.D * p.output_size())));
    fwd.gates.resize(size(states * tokens * reference::gates_of(p.cell) * p.H));
    if (p.has_c()) fwd.cell_states.resize(size(states * tokens * p.H));
    for_each_saved(fwd, [&](std::vector<double>& values) {
        std::copy_n(from, values.size(), values.begin());
        from += values.size();
    });
    for (std::size_t layer = 1; layer < fwd.layer_inputs.size(); ++layer) {
        fwd.layer_inputs[layer] = fwd.layer_outputs[layer - 1];
    }
    return fwd;
}

/// Notes what cuDNN would compute from without a word; false if there was anything.
bool sound(const char* pass, const std::vector<std::pair<bool, const char*>>& facts) {
    bool all = true;
    for (const auto& [fine, what] : facts) {
        if (fine) continue;
        all = false;
        fake_cudnn().violations.push_back(std::string(pass) + ": " + what);
    }
    return all;
}

void scribble(const RnnCall& call) {
    if (call.workspace == nullptr) return;
    std::memset(call.workspace, 0xA5, workspace_bytes(call.rnn, call.x_shape, call.training));
}

std::vector<double> nans(std::int64_t count) {
    return std::vector<double>(size(count), std::numeric_limits<double>::quiet_NaN());
}

}  // namespace

std::size_t reserve_bytes(const cudnnRNNStruct& rnn, const cudnnRNNDataStruct& x) {
    const std::int64_t doubles = std::max(saved_doubles(rnn, x), weight_layout(rnn).count);
    return sizeof(Record) + size(doubles) * sizeof(double);
}

void run_forward(const RnnCall& call) {
    ++fake_cudnn().ran["cudnnRNNForward"];
    scribble(call);
    reference::Problem p = problem_of(call);
    p.x = load_sequence(call.x, call.x_shape);
    reference::Forward fwd = reference::forward(p);
    store_sequence(
        call.y, call.y_shape, fwd.y(),
        call.y_shape.fills ? call.y_shape.fill : std::numeric_limits<double>::quiet_NaN());
    store_all(call.hy, call.rnn.type, fwd.hy);
    store_all(call.cy, call.rnn.type, fwd.cy);
    if (!call.training) return;
    const Record record{kMagic,
                        kSavedByForward,
                        shape_of(call),
                        fingerprint(p.x),
                        fingerprint(load_sequence(call.y, call.y_shape)),
                        fingerprint(p.hx),
                        fingerprint(p.cx),
                        fingerprint(p.weights)};
    std::memset(call.reserve, 0xA5, reserve_bytes(call.rnn, call.x_shape));
    std::memcpy(call.reserve, &record, sizeof(record));
    save(p, fwd, doubles_of(call.reserve));
}

void run_backward_data(const RnnCall& call) {
    ++fake_cudnn().ran["cudnnRNNBackwardData_v8"];
    scribble(call);
    const reference::Problem p = problem_of(call);
    Record record;
    std::memcpy(&record, call.reserve, sizeof(record));
    reference::Backward out;
    const bool usable =
        sound("BackwardData",
              {{record.magic == kMagic, "not a reserve"},
               {record.phase == kSavedByForward, "the reserve is not as forward left it"},
               {record.shape == shape_of(call), "the reserve is of another RNN or batch"}});
    if (usable &&
        sound("BackwardData",
              {{record.y == fingerprint(load_sequence(call.y, call.y_shape)), "another y"},
               {record.hx == fingerprint(p.hx), "another hx"},
               {record.cx == fingerprint(p.cx), "another cx"},
               {record.weights == fingerprint(p.weights), "other weights"}})) {
        const std::int64_t states = p.L * p.D * p.N;
        out = reference::backward(p, restore(p, doubles_of(call.reserve)),
                                  load_sequence(call.dy, call.y_shape),
                                  load_all(call.dhy, call.rnn.type, states * p.output_size()),
                                  load_all(call.dcy, call.rnn.type, states * p.H));
    } else {
        out.dx = nans(p.T * p.N * p.I);
        out.dhx = nans(p.L * p.D * p.N * p.output_size());
        out.dcx = nans(p.L * p.D * p.N * p.H);
        out.dweights = p.weights;
    }
    store_sequence(call.dx, call.x_shape, out.dx, std::numeric_limits<double>::quiet_NaN());
    store_all(call.dhx, call.rnn.type, out.dhx);
    store_all(call.dcx, call.rnn.type, out.dcx);
    // What forward saved is gone; the gradients stand where the weight space has them.
    record.phase = kLeftByBackwardData;
    std::memset(call.reserve, 0xA5, reserve_bytes(call.rnn, call.x_shape));
    std::memcpy(call.reserve, &record, sizeof(record));
    double* left = doubles_of(call.reserve);
    for_each_block(
        call.rnn, out.dweights,
        [&](const WeightBlock& block, const std::vector<double>& tensor, std::int64_t first) {
            std::copy_n(tensor.begin() + first, block.count(), left + block.offset);
        });
}

void run_backward_weights(const RnnCall& call) {
    ++fake_cudnn().ran["cudnnRNNBackwardWeights_v8"];
    scribble(call);
    const cudnnRNNStruct& rnn = call.rnn;
    Record record;
    std::memcpy(&record, call.reserve, sizeof(record));
    const std::int64_t states = std::int64_t{rnn.states()} * call.x_shape.batch;
    const bool usable =
        sound("BackwardWeights",
              {{record.magic == kMagic, "not a reserve"},
               {record.phase == kLeftByBackwardData, "the reserve is not as BackwardData left it"},
               {record.shape == shape_of(call), "the reserve is of another RNN or batch"},
               {record.x == fingerprint(load_sequence(call.x, call.x_shape)), "another x"},
               {record.y == fingerprint(load_sequence(call.y, call.y_shape)), "another y"},
               {record.hx == fingerprint(load_all(call.hx, rnn.type, states * rnn.proj_size)),
                "another hx"}});
    std::vector<reference::Weights> weights(size(rnn.states()));
    const double* left = doubles_of(call.reserve);
    for_each_block(rnn, weights, [&](const WeightBlock& block, std::vector<double>&, std::int64_t) {
        for (std::int64_t i = block.offset; i < block.offset + block.count(); ++i) {
            const double gradient = usable ? left[i] : std::numeric_limits<double>::quiet_NaN();
            store(call.dweights, rnn.type, i, load(call.dweights, rnn.type, i) + gradient);
        }
    });
}

}  // namespace carousel::test
