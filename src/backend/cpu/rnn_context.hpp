#pragma once

// What the members of a team share while a pass runs. Everything here is fixed before the parallel
// region begins; members differ in `Member` only.

#include <cstdint>
#include <cstring>

#include "carousel/rnn.hpp"
#include "kernels/rnn_args.hpp"
#include "src/backend/cpu/thread_pool.hpp"
#include "src/backend/rnn_executor.hpp"

namespace carousel::cpu {

/// A [T,N,*] tensor by the address of (0,0) and two strides in elements; the last stride is 1.
template <class T>
struct Sequence {
    T* base = nullptr;
    std::int64_t stride_t = 0, stride_n = 0;

    T* row(std::int64_t t, std::int64_t n) const noexcept {
        return base + t * stride_t + n * stride_n;
    }
    bool defined() const noexcept { return base != nullptr; }
};

template <class T, class Void>
Sequence<T> as_sequence(const BasicTensorView<Void>& view) noexcept {
    return {static_cast<T*>(view.data), view.strides[0], view.strides[1]};
}
template <class T>
Sequence<T> dense(T* base, std::int64_t N, std::int64_t width) noexcept {
    return {base, N * width, width};
}

/// Weights of one (layer, direction) as the kernels read them.
template <class T>
struct StateWeights {
    const T *w_ih, *w_hh, *w_hn, *w_hr, *bias, *bias_hn;
    const T *w_ih_t, *w_hh_t, *w_hn_t, *w_hr_t;
};

template <class T>
const T* slice_or_null(const SliceLayout& slices, const void* base, std::size_t index) noexcept {
    return index == kNoSlice ? nullptr : slices.at<T>(base, index);
}

template <class T>
StateWeights<T> weights_at(const SliceLayout& slices, const PackedState& s,
                           const void* base) noexcept {
    const auto at = [&](std::size_t index) { return slice_or_null<T>(slices, base, index); };
    return {at(s.w_ih),    at(s.w_hh),   at(s.w_hn),   at(s.w_hr),   at(s.bias),
            at(s.bias_hn), at(s.w_ih_t), at(s.w_hh_t), at(s.w_hn_t), at(s.w_hr_t)};
}

/// The weights of a state: the caller's PackedWeights, or what this run packs into its workspace.
template <class T>
StateWeights<T> state_weights(const PackedWeights* packed, const RnnSchedule::Workspace& work,
                              const void* workspace, std::int64_t state) noexcept {
    const auto index = static_cast<std::size_t>(state);
    if (packed == nullptr) return weights_at<T>(work.slices, work.packed[index], workspace);
    const PackedWeights::Impl& made = packed->impl();
    return weights_at<T>(made.slices, made.states[index], made.memory.data());
}

/// One direction's walk over time, and where state enters and leaves it.
struct Walk {
    std::int64_t T, N;
    bool reverse;
    SequenceMask mask;

    std::int64_t step(std::int64_t s) const noexcept { return reverse ? T - 1 - s : s; }
    std::int64_t length(std::int64_t n) const noexcept {
        return mask.lengths == nullptr ? T : mask.lengths[n];
    }
    bool active(std::int64_t t, std::int64_t n) const noexcept { return t < length(n); }
    std::int64_t first(std::int64_t n) const noexcept { return reverse ? length(n) - 1 : 0; }
    std::int64_t last(std::int64_t n) const noexcept { return reverse ? 0 : length(n) - 1; }
    std::int64_t previous(std::int64_t t) const noexcept { return reverse ? t + 1 : t - 1; }
    std::int64_t next(std::int64_t t) const noexcept { return reverse ? t - 1 : t + 1; }
    /// True if the state is zeroed before x_t is read.
    bool cut_before(std::int64_t t, std::int64_t n) const noexcept {
        if (mask.reset == nullptr) return false;
        const std::int64_t boundary = reverse ? t + 1 : t;
        return boundary < length(n) && mask.reset[boundary * N + n] != 0;
    }
};

/// Rows of the batch times vectors of units.
struct Piece {
    Span rows, vectors;
};
/// A member's part of a step.
struct Pieces {
    static constexpr int kMost = 3;
    Piece list[kMost];
    int count = 0;

    void add(Span rows, Span vectors) noexcept {
        if (rows.size() > 0 && vectors.size() > 0) list[count++] = {rows, vectors};
    }
    const Piece* begin() const noexcept { return list; }
    const Piece* end() const noexcept { return list + count; }
};

/// One thread's place in the team and its part of the work.
struct Member {
    int tid, num_threads;
    int group, unit;  ///< batch group, member of it
    int unit_groups;
    SpinBarrier* team_barrier;
    SpinBarrier* group_barrier;
    Span rows;  ///< n of its batch group

    Span part(std::int64_t count, std::int64_t grain = 1) const noexcept {
        return split_evenly(count, tid, num_threads, grain);
    }
    Span vectors(std::int64_t size, int lanes) const noexcept {
        return split_evenly((size + lanes - 1) / lanes, unit, unit_groups);
    }
    /// Vectors that are left over when each member of the group has the same number are split by rows,
    /// if that gives each member enough rows: of 13 vectors, two members would have 7 and 6.
    Pieces pieces(std::int64_t size, int lanes, bool split_left_over) const noexcept {
        constexpr std::int64_t kRows = 4;
        const std::int64_t count = (size + lanes - 1) / lanes, left = count % unit_groups;
        Pieces pieces;
        if (!split_left_over || left * rows.size() < kRows * unit_groups) {
            pieces.list[pieces.count++] = {rows, vectors(size, lanes)};
            return pieces;
        }
        const std::int64_t each = count / unit_groups;
        pieces.add(rows, {each * unit, each * (unit + 1)});
        const Span share = split_evenly(left * rows.size(), unit, unit_groups);
        for (std::int64_t v = 0; v < left; ++v) {
            const std::int64_t begin = v * rows.size(), end = begin + rows.size();
            const std::int64_t from = share.begin > begin ? share.begin : begin;
            const std::int64_t to = share.end < end ? share.end : end;
            const std::int64_t vec = each * unit_groups + v;
            if (from < to)
                pieces.add({rows.begin + from - begin, rows.begin + to - begin}, {vec, vec + 1});
        }
        return pieces;
    }
    void meet_team() const noexcept { team_barrier->wait(); }
    void meet_group() const noexcept { group_barrier->wait(); }
};

/// A step in two halves has a barrier between them, which every member passes once.
inline bool splits_left_over(const RnnSpec& spec) noexcept {
    return spec.cell != Cell::kGruResetBefore && spec.proj_size == 0;
}

/// Units [begin, end) of a span of vectors.
inline Span units_of(Span vectors, int lanes, std::int64_t size) noexcept {
    const auto clip = [&](std::int64_t v) { return v * lanes < size ? v * lanes : size; };
    return {clip(vectors.begin), clip(vectors.end)};
}

/// base + offset, or null for an absent tensor.
template <class T>
T* offset_or_null(T* base, std::int64_t offset) noexcept {
    return base == nullptr ? nullptr : base + offset;
}

template <class T>
void copy_span(T* to, const T* from, Span span) noexcept {
    if (span.size() > 0) {
        std::memcpy(to + span.begin, from + span.begin,
                    static_cast<std::size_t>(span.size()) * sizeof(T));
    }
}
template <class T>
void zero_span(T* to, Span span) noexcept {
    if (span.size() > 0)
        std::memset(to + span.begin, 0, static_cast<std::size_t>(span.size()) * sizeof(T));
}

/// Elements of a layer's output that a member drops out at least: whole words of several random blocks.
constexpr std::int64_t kDropoutGrain = 256;

/// Rows in two lists that share one memory: those with a state fill it from the front, those whose state
/// is zero (or whose gradient starts here) from the back.
struct TwoLists {
    std::int64_t front, back, end;
};

/// Calls `kernel` for both lists of rows; those at the back skip the product.
template <class Args, class T>
void run_both(void (*kernel)(const Args&), Args& args, const TwoLists& lists, const T* w,
              std::int64_t k) noexcept {
    const auto* rows = args.rows;
    args.w = w;
    args.w_k = args.k = k;
    args.num_rows = lists.front;
    kernel(args);
    args.rows = rows + lists.back;
    args.num_rows = lists.end - lists.back;
    args.k = 0;
    kernel(args);
    args.rows = rows;
}

/// First 64 bytes of a reserve: which forward pass filled it.
struct ReserveHeader {
    static constexpr std::uint64_t kMagic = 0x43526c6573757261ULL;
    std::uint64_t magic;
    std::int64_t seq_len, batch_size;
    std::uint64_t dropout_seed, dropout_step;
    std::uint64_t spec_hash;
};
std::uint64_t spec_hash(const RnnSpec& spec) noexcept;

/// Kernels of the instruction set in use.
template <class T>
const RnnKernels<T>& rnn_kernels();

/// What pack_state leaves out, because the caller packs it panel by panel where it is used.
struct PackSkips {
    bool w_ih = false;
    bool w_ih_t = false;
};

/// Packs one state's weights; each team member does its part. Parts whose slice is absent are skipped.
template <class T>
void pack_state(const RnnSpec& spec, const RnnLayerParams& params, std::int64_t layer,
                const SliceLayout& slices, const PackedState& state, void* base, int tid,
                int num_threads, PackSkips skips = {});

/// Packs the panels of `vectors` of w_ih, or of w_ih^T, to `panels`; past the caches if `stream`.
template <class T>
void pack_w_ih(const RnnSpec& spec, const RnnLayerParams& params, std::int64_t layer, Span vectors,
               T* panels, bool stream = false);
template <class T>
void pack_w_ih_t(const RnnSpec& spec, const RnnLayerParams& params, std::int64_t layer,
                 Span vectors, T* panels, bool stream = false);

}  // namespace carousel::cpu
