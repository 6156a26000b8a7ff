#include "bench/cpu/onednn_primitives.hpp"

#include <array>
#include <string>

#include "carousel/error.hpp"

namespace carousel::bench {

namespace {

using dnnl::memory;
using dnnl::prop_kind;
using Tag = memory::format_tag;

constexpr auto kLeftToRight = dnnl::rnn_direction::unidirectional_left2right;
constexpr auto kF32 = memory::data_type::f32;

/// Version 2 makes a primitive's description from an operation's, version 3 at once.
template <class Forward, class... Operation>
auto forward_primitive(const dnnl::engine& engine, const Operation&... operation) {
#if DNNL_VERSION_MAJOR >= 3
    return typename Forward::primitive_desc(engine, operation...);
#else
    return typename Forward::primitive_desc(typename Forward::desc(operation...), engine);
#endif
}
template <class Backward, class Hint, class... Operation>
auto backward_primitive(const dnnl::engine& engine, const Hint& forward,
                        const Operation&... operation) {
#if DNNL_VERSION_MAJOR >= 3
    return typename Backward::primitive_desc(engine, operation..., forward);
#else
    return
        typename Backward::primitive_desc(typename Backward::desc(operation...), engine, forward);
#endif
}

// f: forward; b: backward's own inputs; g: its gradients, which have the shapes of what they are of.

OnednnPrimitives lstm_primitives(const dnnl::engine& engine, const OnednnDescriptors& f,
                                 const OnednnDescriptors& b, const OnednnDescriptors& g) {
    const auto forward_for = [&](prop_kind kind) {
        return forward_primitive<dnnl::lstm_forward>(engine, kind, kLeftToRight, f.x, f.hx, f.cx,
                                                     f.w_ih, f.w_hh, f.bias, f.y, f.hy, f.cy);
    };
    const auto forward = forward_for(prop_kind::forward_training);
    return {forward_for(prop_kind::forward_inference), forward,
            backward_primitive<dnnl::lstm_backward>(
                engine, forward, prop_kind::backward, kLeftToRight, b.x, b.hx, b.cx, b.w_ih, b.w_hh,
                b.bias, b.y, b.hy, b.cy, g.x, g.hx, g.cx, g.w_ih, g.w_hh, g.bias, g.y, g.hy, g.cy)};
}

OnednnPrimitives gru_primitives(const dnnl::engine& engine, const OnednnDescriptors& f,
                                const OnednnDescriptors& b, const OnednnDescriptors& g) {
    const auto forward_for = [&](prop_kind kind) {
        return forward_primitive<dnnl::lbr_gru_forward>(engine, kind, kLeftToRight, f.x, f.hx,
                                                        f.w_ih, f.w_hh, f.bias, f.y, f.hy);
    };
    const auto forward = forward_for(prop_kind::forward_training);
    return {forward_for(prop_kind::forward_inference), forward,
            backward_primitive<dnnl::lbr_gru_backward>(
                engine, forward, prop_kind::backward, kLeftToRight, b.x, b.hx, b.w_ih, b.w_hh,
                b.bias, b.y, b.hy, g.x, g.hx, g.w_ih, g.w_hh, g.bias, g.y, g.hy)};
}

OnednnPrimitives vanilla_primitives(const dnnl::engine& engine, dnnl::algorithm activation,
                                    const OnednnDescriptors& f, const OnednnDescriptors& b,
                                    const OnednnDescriptors& g) {
    const auto forward_for = [&](prop_kind kind) {
        return forward_primitive<dnnl::vanilla_rnn_forward>(
            engine, kind, activation, kLeftToRight, f.x, f.hx, f.w_ih, f.w_hh, f.bias, f.y, f.hy);
    };
    const auto forward = forward_for(prop_kind::forward_training);
    return {forward_for(prop_kind::forward_inference), forward,
            backward_primitive<dnnl::vanilla_rnn_backward>(
                engine, forward, prop_kind::backward, activation, kLeftToRight, b.x, b.hx, b.w_ih,
                b.w_hh, b.bias, b.y, b.hy, g.x, g.hx, g.w_ih, g.w_hh, g.bias, g.y, g.hy)};
}

}  // namespace

std::int64_t onednn_gate(Cell cell, std::int64_t gate) {
    constexpr std::array<std::int64_t, 3> kGru{1, 0, 2};
    return cell == Cell::kGru ? kGru[static_cast<std::size_t>(gate)] : gate;
}

std::int64_t onednn_biases(Cell cell) { return cell == Cell::kGru ? 4 : cell_num_gates(cell); }

OnednnDescriptors onednn_descriptors(const GridCase& c, Tag weights) {
    const RnnSpec& s = c.spec;
    const auto plain = [](memory::dims dims, Tag tag) { return memory::desc(dims, kF32, tag); };
    const memory::dims state{s.num_layers, 1, c.batch_size, s.hidden_size};
    OnednnDescriptors d;
    d.x = plain({c.seq_len, c.batch_size, s.input_size}, Tag::tnc);
    d.y = plain({c.seq_len, c.batch_size, s.hidden_size}, Tag::tnc);
    d.hx = d.hy = plain(state, Tag::ldnc);
    d.cx = d.cy = plain(state, Tag::ldnc);
    const std::int64_t gates = s.num_gates();
    d.w_ih = plain({s.num_layers, 1, s.input_size, gates, s.hidden_size}, weights);
    d.w_hh = plain({s.num_layers, 1, s.hidden_size, gates, s.hidden_size}, weights);
    d.bias = plain({s.num_layers, 1, onednn_biases(s.cell), s.hidden_size}, Tag::ldgo);
    return d;
}

OnednnPrimitives onednn_primitives(const dnnl::engine& engine, const GridCase& c,
                                   WeightFormat format) {
    const bool any = format == WeightFormat::kAny;
    const OnednnDescriptors f = onednn_descriptors(c, any ? Tag::any : Tag::ldigo);
    const OnednnDescriptors b = onednn_descriptors(c, any ? Tag::any : Tag::ldgoi);
    switch (c.spec.cell) {
        case Cell::kLstm:
            return lstm_primitives(engine, f, b, f);
        case Cell::kGru:
            return gru_primitives(engine, f, b, f);
        case Cell::kRnnTanh:
            return vanilla_primitives(engine, dnnl::algorithm::eltwise_tanh, f, b, f);
        case Cell::kRnnRelu:
            return vanilla_primitives(engine, dnnl::algorithm::eltwise_relu, f, b, f);
        default:
            throw Error(ErrorCode::kUnsupported, std::string("oneDNN has no cell ") +
                                                     cell_name(c.spec.cell) + " for training.");
    }
}

}  // namespace carousel::bench
