#include "tests/support/rnn_data.hpp"

#include <cmath>
#include <limits>
#include <random>

#include "tests/support/rnn_run.hpp"

namespace carousel::test {
namespace {

reference::Cell reference_cell(Cell cell) {
    switch (cell) {
        case Cell::kRnnTanh:
            return reference::Cell::kTanh;
        case Cell::kRnnRelu:
            return reference::Cell::kRelu;
        case Cell::kLstm:
            return reference::Cell::kLstm;
        case Cell::kGru:
            return reference::Cell::kGruResetAfter;
        case Cell::kGruResetBefore:
            return reference::Cell::kGruResetBefore;
    }
    return reference::Cell::kTanh;
}

/// Draws tensors one after the other from one seed, rounded to the dtype.
class Draw {
public:
    Draw(std::uint64_t seed, DType dtype) : seed_(seed * 1000003U), dtype_(dtype) {}
    std::vector<double> operator()(std::int64_t count, double scale) {
        std::vector<double> values = random_values(++seed_, count, scale);
        for (double& value : values) value = round_to(dtype_, value);
        return values;
    }
    std::uint64_t next_seed() { return ++seed_; }

private:
    std::uint64_t seed_;
    DType dtype_;
};

/// Spectral radius near 0.8: states of long recurrences neither die nor explode, and gradients of
/// early steps stay well above rounding.
double weight_scale(std::int64_t fan_in) { return 1.4 / std::sqrt(static_cast<double>(fan_in)); }

reference::Weights draw_weights(const RnnSpec& spec, std::int64_t layer, Draw& draw) {
    const std::int64_t rows = spec.num_gates() * spec.hidden_size;
    const std::int64_t in = spec.layer_input_size(layer);
    reference::Weights w;
    w.w_ih = draw(rows * in, weight_scale(in));
    w.w_hh = draw(rows * spec.output_size(), weight_scale(spec.output_size()));
    if (spec.bias != BiasMode::kNone) w.b_ih = draw(rows, 0.5);
    if (spec.bias == BiasMode::kDouble) w.b_hh = draw(rows, 0.5);
    if (spec.proj_size > 0) {
        w.w_hr = draw(spec.proj_size * spec.hidden_size, weight_scale(spec.hidden_size));
    }
    return w;
}

/// Unsorted, from 0 to T; the first sequences cover 0, T and 1 as far as the batch reaches.
std::vector<std::int64_t> draw_lengths(std::int64_t seq_len, std::int64_t batch_size,
                                       std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<std::int64_t> lengths;
    for (std::int64_t n = 0; n < batch_size; ++n) {
        lengths.push_back(static_cast<std::int64_t>(random() % (seq_len + 1ULL)));
    }
    if (batch_size > 1) lengths[static_cast<std::size_t>(batch_size / 2)] = 0;
    if (batch_size > 2) lengths[static_cast<std::size_t>(batch_size - 1)] = seq_len;
    if (batch_size > 3) lengths[0] = 1;
    return lengths;
}

/// About one mark in five, t = 0 and steps beyond the end included.
std::vector<std::uint8_t> draw_reset(std::int64_t count, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<std::uint8_t> reset;
    for (std::int64_t e = 0; e < count; ++e) reset.push_back(random() % 5 == 0 ? 1 : 0);
    return reset;
}

void poison_beyond_end(const reference::Problem& p, std::int64_t features,
                       std::vector<double>& values) {
    for (std::int64_t t = 0; t < p.T; ++t) {
        for (std::int64_t n = 0; n < p.N; ++n) {
            if (t < p.length(n)) continue;
            for (std::int64_t k = 0; k < features; ++k) {
                values[static_cast<std::size_t>((t * p.N + n) * features + k)] =
                    std::numeric_limits<double>::quiet_NaN();
            }
        }
    }
}

}  // namespace

std::vector<double> random_values(std::uint64_t seed, std::int64_t count, double scale) {
    std::mt19937_64 random(seed);
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& value : values) {
        value = scale * (static_cast<double>(random() >> 11) * 0x1.0p-52 - 1.0);
    }
    return values;
}

reference::Problem make_problem(const RnnSpec& spec, std::int64_t seq_len,
                                std::int64_t batch_size) {
    reference::Problem p;
    p.cell = reference_cell(spec.cell);
    p.T = seq_len;
    p.N = batch_size;
    p.I = spec.input_size;
    p.H = spec.hidden_size;
    p.P = spec.proj_size;
    p.L = spec.num_layers;
    p.D = spec.num_directions();
    return p;
}

RnnData make_rnn_data(const ShapeLine& line) {
    const RnnSpec& spec = line.spec;
    RnnData data;
    reference::Problem& p = data.problem;
    p = make_problem(spec, line.seq_len, line.batch_size);
    Draw draw(line.seed, spec.dtype);
    const std::int64_t O = spec.output_size();
    const std::int64_t states = spec.num_states() * p.N;
    p.x = draw(p.T * p.N * p.I, 1.5);
    data.dy = draw(p.T * p.N * p.D * O, 1.0);
    for (std::int64_t s = 0; s < spec.num_states(); ++s) {
        p.weights.push_back(draw_weights(spec, s / p.D, draw));
    }
    if (line.states) {
        p.hx = draw(states * O, 0.7);
        data.dhy = draw(states * O, 1.0);
        if (p.has_c()) {
            p.cx = draw(states * p.H, 0.7);
            data.dcy = draw(states * p.H, 1.0);
        }
    }
    if (line.lengths) p.lengths = draw_lengths(p.T, p.N, draw.next_seed());
    if (line.reset) p.reset = draw_reset(p.T * p.N, draw.next_seed());
    poison_beyond_end(p, p.I, p.x);
    poison_beyond_end(p, p.D * O, data.dy);
    data.dropout_seed = draw.next_seed();
    data.dropout_step = line.seed + 17;
    return data;
}

namespace {

/// ReLU network whose layers give exactly 1, but for layer `observed + 1`, which passes its input.
RnnData make_dropout_probe(const RnnSpec& probe, std::int64_t seq_len, std::int64_t batch_size,
                           std::int64_t observed) {
    RnnData data;
    data.problem = make_problem(probe, seq_len, batch_size);
    const std::int64_t H = probe.hidden_size;
    for (std::int64_t s = 0; s < probe.num_states(); ++s) {
        const std::int64_t layer = s / probe.num_directions();
        const std::int64_t in = probe.layer_input_size(layer);
        reference::Weights w;
        w.w_ih.assign(static_cast<std::size_t>(H * in), 0.0);
        w.w_hh.assign(static_cast<std::size_t>(H * H), 0.0);
        w.b_ih.assign(static_cast<std::size_t>(H), 1.0);
        if (layer == observed + 1) {
            w.b_ih.assign(static_cast<std::size_t>(H), 0.0);
            const std::int64_t first = (s % probe.num_directions()) * H;
            for (std::int64_t j = 0; j < H; ++j) {
                w.w_ih[static_cast<std::size_t>(j * in + first + j)] = 1.0;
            }
        }
        data.problem.weights.push_back(std::move(w));
    }
    data.problem.x.assign(static_cast<std::size_t>(seq_len * batch_size), 0.0);
    return data;
}

}  // namespace

std::vector<std::vector<double>> observe_dropout(const RnnSpec& spec, std::int64_t seq_len,
                                                 std::int64_t batch_size, std::uint64_t seed,
                                                 std::uint64_t step, int threads) {
    ShapeLine line;
    line.spec = spec;
    line.spec.cell = Cell::kRnnRelu;
    line.spec.input_size = 1;
    line.spec.hidden_size = spec.output_size();
    line.spec.proj_size = 0;
    line.spec.bias = BiasMode::kSingle;
    line.seq_len = line.planned_seq_len = seq_len;
    line.batch_size = line.planned_batch_size = batch_size;
    line.states = false;
    line.threads = threads;
    std::vector<std::vector<double>> multipliers;
    for (std::int64_t layer = 0; layer + 1 < spec.num_layers; ++layer) {
        RnnData data = make_dropout_probe(line.spec, seq_len, batch_size, layer);
        data.dropout_seed = seed;
        data.dropout_step = step;
        RnnRun run(line, data);
        run.training();
        const std::vector<double> outputs = run.layer_outputs.get();
        const std::int64_t size = static_cast<std::int64_t>(outputs.size()) / spec.num_layers;
        multipliers.emplace_back(outputs.begin() + (layer + 1) * size,
                                 outputs.begin() + (layer + 2) * size);
    }
    return multipliers;
}

}  // namespace carousel::test
