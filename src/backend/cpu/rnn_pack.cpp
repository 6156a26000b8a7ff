#include <cstring>

#include "carousel/error.hpp"
#include "kernels/cell/gates.hpp"
#include "kernels/cpu/rnn_kernels.hpp"
#include "src/backend/cpu/cpu_isa.hpp"
#include "src/backend/cpu/rnn_backend.hpp"
#include "src/backend/cpu/rnn_context.hpp"

namespace carousel::cpu {

namespace {

template <class T>
RnnKernels<T> choose_kernels() {
    constexpr bool f32 = sizeof(T) == 4;
    switch (current_isa()) {
#if defined(__x86_64__)
        case CpuIsa::kAvx512:
            if constexpr (f32) {
                return rnn_kernels_avx512_f32();
            } else {
                return rnn_kernels_avx512_f64();
            }
        case CpuIsa::kAvx2:
            if constexpr (f32) {
                return rnn_kernels_avx2_f32();
            } else {
                return rnn_kernels_avx2_f64();
            }
#endif
        default:
            if constexpr (f32) {
                return rnn_kernels_baseline_f32();
            } else {
                return rnn_kernels_baseline_f64();
            }
    }
}

template <class T>
const T* data_of(const ConstTensorView& view) noexcept {
    return static_cast<const T*>(view.data);
}

/// bias[G*H]: both biases where they may be added outside the recurrent product; a reset-after
/// candidate keeps b_hn apart, in bias_hn[H].
template <class T>
void pack_bias(const RnnSpec& spec, const RnnLayerParams& params, T* bias, T* bias_hn) noexcept {
    const std::int64_t H = spec.hidden_size, rows = spec.num_gates() * H;
    const T* b_ih = data_of<T>(params.b_ih);
    const T* b_hh = data_of<T>(params.b_hh);
    const std::int64_t folded = bias_hn == nullptr ? rows : cell::kGruN * H;
    for (std::int64_t i = 0; i < rows; ++i)
        bias[i] = b_hh != nullptr && i < folded ? b_ih[i] + b_hh[i] : b_ih[i];
    if (bias_hn != nullptr)
        std::memcpy(bias_hn, b_hh + cell::kGruN * H, static_cast<std::size_t>(H) * sizeof(T));
}

}  // namespace

template <class T>
const RnnKernels<T>& rnn_kernels() {
    static const RnnKernels<T> table = choose_kernels<T>();
    return table;
}

int rnn_lanes(DType dtype) {
    return dtype == DType::kF64 ? rnn_kernels<double>().lanes : rnn_kernels<float>().lanes;
}

namespace {

/// Packing of W [gates*m, k] with the given strides into panels of inner size panel_k.
template <class T>
struct PackJob {
    const T* w;
    std::int64_t stride_m, stride_k, m, k;
    int gates = 1;
    std::int64_t panel_k = 0, k_begin = 0;  ///< panel_k 0 means k
};

template <class T>
void run_pack(const PackJob<T>& job, T* packed, Span vectors, std::int64_t first_vec, bool stream) {
    PackArgs<T> args;
    args.w = job.w;
    args.stride_m = job.stride_m;
    args.stride_k = job.stride_k;
    args.m = job.m;
    args.k = job.k;
    args.panel_k = job.panel_k == 0 ? job.k : job.panel_k;
    args.k_begin = job.k_begin;
    args.gates = job.gates;
    args.packed = packed;
    args.first_vec = first_vec;
    args.vec_begin = vectors.begin;
    args.vec_end = vectors.end;
    args.stream = stream;
    rnn_kernels<T>().pack(args);
}

}  // namespace

template <class T>
void pack_w_ih(const RnnSpec& spec, const RnnLayerParams& params, std::int64_t layer, Span vectors,
               T* panels, bool stream) {
    const std::int64_t I = spec.layer_input_size(layer);
    run_pack<T>(
        {data_of<T>(params.w_ih), I, 1, spec.hidden_size, I, static_cast<int>(spec.num_gates())},
        panels, vectors, vectors.begin, stream);
}

template <class T>
void pack_w_ih_t(const RnnSpec& spec, const RnnLayerParams& params, std::int64_t layer,
                 Span vectors, T* panels, bool stream) {
    const std::int64_t H = spec.hidden_size, I = spec.layer_input_size(layer),
                       GH = spec.num_gates() * H;
    const T* w = data_of<T>(params.w_ih);
    if (spec.cell != Cell::kGru) {
        run_pack<T>({w, 1, I, I, GH}, panels, vectors, vectors.begin, stream);
        return;
    }
    // A row of a reset-after GRU's gate gradients begins with dn.
    run_pack<T>({w + cell::kGruN * H * I, 1, I, I, H, 1, GH, cell::kGruGradN * H}, panels, vectors,
                vectors.begin, stream);
    run_pack<T>({w, 1, I, I, 2 * H, 1, GH, cell::kGruGradR * H}, panels, vectors, vectors.begin,
                stream);
}

template <class T>
void pack_state(const RnnSpec& spec, const RnnLayerParams& params, std::int64_t layer,
                const SliceLayout& slices, const PackedState& state, void* base, int tid,
                int num_threads, PackSkips skips) {
    const std::int64_t H = spec.hidden_size, O = spec.output_size(), P = spec.proj_size;
    const std::int64_t I = spec.layer_input_size(layer), G = spec.num_gates();
    const int recurrent = recurrent_gates(spec.cell), lanes = rnn_kernels<T>().lanes;
    const T* w_hh = data_of<T>(params.w_hh);
    const T* w_hn = recurrent < G ? w_hh + cell::kGruN * H * O : nullptr;
    const T* w_hr = data_of<T>(params.w_hr);
    const auto part = [&](std::int64_t m) {
        return split_evenly((m + lanes - 1) / lanes, tid, num_threads);
    };
    // Panels that the last-level cache would not keep until they are used go past it.
    constexpr std::size_t kCachedBytes = 20 * 1024 * 1024;
    const auto large = [&](std::size_t slice) { return slices[slice].bytes > kCachedBytes; };
    const auto pack = [&](std::size_t slice, const PackJob<T>& job) {
        if (slice != kNoSlice)
            run_pack(job, slices.at<T>(base, slice), part(job.m), 0, large(slice));
    };
    if (!skips.w_ih && state.w_ih != kNoSlice) {
        pack_w_ih(spec, params, layer, part(H),
                  slices.at<T>(base, state.w_ih) + part(H).begin * I * G * lanes,
                  large(state.w_ih));
    }
    if (!skips.w_ih_t && state.w_ih_t != kNoSlice) {
        pack_w_ih_t(spec, params, layer, part(I),
                    slices.at<T>(base, state.w_ih_t) + part(I).begin * G * H * lanes,
                    large(state.w_ih_t));
    }
    // W as stored has shape [gates*m, k] with row stride k; its transpose swaps the two strides.
    pack(state.w_hh, {w_hh, O, 1, H, O, recurrent});
    pack(state.w_hn, {w_hn, O, 1, H, H});
    pack(state.w_hr, {w_hr, H, 1, P, H});
    pack(state.w_hh_t, {w_hh, 1, O, O, recurrent * H});
    pack(state.w_hn_t, {w_hn, 1, O, H, H});
    pack(state.w_hr_t, {w_hr, 1, H, H, P});
    if (state.bias != kNoSlice && tid == 0) {
        pack_bias(spec, params, slices.at<T>(base, state.bias),
                  state.bias_hn == kNoSlice ? nullptr : slices.at<T>(base, state.bias_hn));
    }
}

namespace {

template <class T>
void pack_all(PackedWeights::Impl& packed, const RnnParams& params, ThreadPool* pool) {
    rnn_kernels<T>();
    const auto part = [&](int tid, int num_threads) {
        for (std::int64_t state = 0; state < packed.spec.num_states(); ++state) {
            const auto index = static_cast<std::size_t>(state);
            pack_state<T>(packed.spec, params.layers[index], state / packed.spec.num_directions(),
                          packed.slices, packed.states[index], packed.memory.data(), tid,
                          num_threads);
        }
    };
    if (pool == nullptr) {
        part(0, 1);
    } else {
        pool->impl().run([&](int tid) { part(tid, pool->num_threads()); });
    }
}

}  // namespace

void pack_all_weights(PackedWeights::Impl& packed, const RnnParams& params, ThreadPool* pool) {
    if (packed.spec.dtype == DType::kF64) {
        pack_all<double>(packed, params, pool);
    } else {
        pack_all<float>(packed, params, pool);
    }
}

std::uint64_t spec_hash(const RnnSpec& spec) noexcept {
    std::uint64_t hash = 1469598103934665603ULL;  // FNV-1a
    const auto mix = [&](std::uint64_t v) {
        for (int byte = 0; byte < 8; ++byte)
            hash = (hash ^ ((v >> (8 * byte)) & 0xff)) * 1099511628211ULL;
    };
    for (std::int64_t v :
         {static_cast<std::int64_t>(spec.cell), static_cast<std::int64_t>(spec.dtype),
          spec.input_size, spec.hidden_size, spec.proj_size, spec.num_layers, spec.num_directions(),
          static_cast<std::int64_t>(spec.bias)}) {
        mix(static_cast<std::uint64_t>(v));
    }
    std::uint64_t dropout_bits;
    std::memcpy(&dropout_bits, &spec.dropout, sizeof dropout_bits);
    mix(dropout_bits);
    return hash;
}

template const RnnKernels<float>& rnn_kernels<float>();
template const RnnKernels<double>& rnn_kernels<double>();
#define CAROUSEL_INSTANTIATE(T)                                                                 \
    template void pack_state<T>(const RnnSpec&, const RnnLayerParams&, std::int64_t,            \
                                const SliceLayout&, const PackedState&, void*, int, int,        \
                                PackSkips);                                                     \
    template void pack_w_ih<T>(const RnnSpec&, const RnnLayerParams&, std::int64_t, Span, T*,   \
                               bool);                                                           \
    template void pack_w_ih_t<T>(const RnnSpec&, const RnnLayerParams&, std::int64_t, Span, T*, \
                                 bool);
CAROUSEL_INSTANTIATE(float)
CAROUSEL_INSTANTIATE(double)
#undef CAROUSEL_INSTANTIATE

}  // namespace carousel::cpu
