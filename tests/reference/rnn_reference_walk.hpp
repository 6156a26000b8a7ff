#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/rnn_reference.hpp"

// The order of steps of one sequence in one direction, and where its state comes from. Shared by
// forward and backward of the reference.

namespace reference {

inline std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// Where the state before a step comes from.
enum class Source { kZero, kInitial, kPreviousStep };

struct Walk {
    const Problem& p;
    std::int64_t n;
    std::int64_t dir;

    std::int64_t steps() const { return p.length(n); }
    /// Time index of the k-th step taken: the reverse direction starts at the true end.
    std::int64_t time(std::int64_t k) const { return dir == 0 ? k : steps() - 1 - k; }

    /// A mark at t is a boundary between t-1 and t. Going forward it is met before step t, going in
    /// reverse before step t-1. Marks at or beyond the end do not count.
    Source source(std::int64_t k) const {
        const std::int64_t mark = dir == 0 ? time(k) : time(k) + 1;
        const bool boundary =
            !p.reset.empty() && mark < steps() && p.reset[at(mark * p.N + n)] != 0;
        if (boundary) return Source::kZero;
        return k == 0 ? Source::kInitial : Source::kPreviousStep;
    }

    /// State h (size O) before the k-th step.
    std::vector<double> h_before(std::int64_t k, std::int64_t layer, const Forward& fwd) const {
        const std::int64_t O = p.output_size();
        std::vector<double> h(at(O), 0.0);
        const Source from = source(k);
        if (from == Source::kInitial && !p.hx.empty()) {
            for (std::int64_t j = 0; j < O; ++j) {
                h[at(j)] = p.hx[at(((layer * p.D + dir) * p.N + n) * O + j)];
            }
        } else if (from == Source::kPreviousStep) {
            const std::vector<double>& out = fwd.layer_outputs[at(layer)];
            for (std::int64_t j = 0; j < O; ++j) {
                h[at(j)] = out[at((time(k - 1) * p.N + n) * p.D * O + dir * O + j)];
            }
        }
        return h;
    }

    /// State c (size H) before the k-th step; zeros for cells without one.
    std::vector<double> c_before(std::int64_t k, std::int64_t layer, const Forward& fwd) const {
        std::vector<double> c(at(p.H), 0.0);
        if (!p.has_c()) return c;
        const std::int64_t state = layer * p.D + dir;
        const Source from = source(k);
        if (from == Source::kInitial && !p.cx.empty()) {
            for (std::int64_t j = 0; j < p.H; ++j) c[at(j)] = p.cx[at((state * p.N + n) * p.H + j)];
        } else if (from == Source::kPreviousStep) {
            for (std::int64_t j = 0; j < p.H; ++j) {
                c[at(j)] = fwd.cell_states[at(((state * p.T + time(k - 1)) * p.N + n) * p.H + j)];
            }
        }
        return c;
    }
};

/// sum_k w[row,k] v[k] + bias[row]; an absent bias is zero.
inline double affine_row(const std::vector<double>& w, const std::vector<double>& bias,
                         std::int64_t row, const double* v, std::int64_t size) {
    double sum = bias.empty() ? 0.0 : bias[at(row)];
    for (std::int64_t k = 0; k < size; ++k) sum += w[at(row * size + k)] * v[k];
    return sum;
}

}  // namespace reference
