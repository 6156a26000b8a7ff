#include "bench/cpu/onednn_side.hpp"

#include <cstring>
#include <string>
#include <unordered_map>
#include <utility>

#include "bench/cpu/onednn_primitives.hpp"
#include "carousel/error.hpp"

extern "C" void omp_set_num_threads(int);

namespace carousel::bench {

namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

/// What of a case the comparator does not drive; empty = nothing.
std::string cannot_run(const Problem& p) {
    const RnnSpec& s = p.grid_case.spec;
    if (s.dtype != DType::kF32) return std::string("dtype ") + dtype_name(s.dtype);
    if (s.bidirectional) return "second direction";
    if (s.proj_size > 0) return "projections";
    if (!p.host_lengths.empty()) return "lengths of sequences";
    if (s.num_layers > 1 && s.input_size != s.hidden_size) {
        return "stack whose input is not as wide as its state";
    }
    return {};
}

/// A tensor that is kept in plain format and used in a primitive's; the same memory if both agree.
struct Converted {
    memory plain, used;
    dnnl::reorder reorder;
    bool differ = false;
};

}  // namespace

struct OnednnSide::Impl {
    Impl(const Problem& p, WeightFormat wanted, int threads);

    /// omp_set_num_threads is the only way to tell oneDNN; Carousel's runs restore what they change.
    void use_threads() const { omp_set_num_threads(num_threads); }
    memory buffer(const memory::desc& desc, const char* what);
    memory view(const memory::desc& desc, const Buffer& data) {
        return memory(desc, engine, data.data());
    }
    Converted weights_in(const memory& plain, const memory::desc& wanted, const char* what);
    Converted gradient_out(const memory::desc& plain, const memory::desc& given, const char* what);
    void convert(Converted& tensor) {
        if (tensor.differ) tensor.reorder.execute(stream, tensor.plain, tensor.used);
    }
    void copy_weights_in();

    const Problem& problem;
    WeightFormat format;
    int num_threads;
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    std::vector<Buffer> buffers;
    dnnl::primitive inference, forward, backward;
    memory w_ih, w_hh, bias;                ///< plain, as the optimizer would see them
    memory y, hy, cy, dx, dhx, dcx, dbias;  ///< results that have one format only
    Converted inference_w_ih, inference_w_hh;
    Converted forward_w_ih, forward_w_hh, backward_w_ih, backward_w_hh;
    Converted dw_ih, dw_hh;
    Arguments inference_args, forward_args, backward_args;
    std::size_t reserve_bytes = 0;
};

memory OnednnSide::Impl::buffer(const memory::desc& desc, const char* what) {
    // The same kind of memory as Carousel's: aligned, on huge pages.
    buffers.emplace_back(desc.get_size(), Device{}, what);
    buffers.back().zero();
    return memory(desc, engine, buffers.back().data());
}

Converted OnednnSide::Impl::weights_in(const memory& plain, const memory::desc& wanted,
                                       const char* what) {
    Converted c;
    c.plain = plain;
    c.differ = wanted != plain.get_desc();
    c.used = c.differ ? buffer(wanted, what) : plain;
    if (c.differ) c.reorder = dnnl::reorder(c.plain, c.used);
    return c;
}

Converted OnednnSide::Impl::gradient_out(const memory::desc& plain, const memory::desc& given,
                                         const char* what) {
    Converted c;
    c.plain = buffer(plain, what);
    c.differ = given != plain;
    c.used = c.differ ? buffer(given, what) : c.plain;
    if (c.differ) c.reorder = dnnl::reorder(c.used, c.plain);
    return c;
}

OnednnSide::Impl::Impl(const Problem& p, WeightFormat wanted, int threads)
    : problem(p), format(wanted), num_threads(threads) {
    const GridCase& c = p.grid_case;
    if (const std::string reason = cannot_run(p); !reason.empty()) {
        throw Error(ErrorCode::kUnsupported, "oneDNN's comparator has no " + reason + ".");
    }
    use_threads();  // a primitive is laid out for the number of threads at its making
    const OnednnPrimitives made = onednn_primitives(engine, c, format);
    inference = dnnl::primitive(made.inference.get());
    forward = dnnl::primitive(made.forward.get());
    backward = dnnl::primitive(made.backward.get());
    const OnednnDescriptors d = onednn_descriptors(c, Tag::ldigo);
    w_ih = buffer(d.w_ih, "w_ih");
    w_hh = buffer(d.w_hh, "w_hh");
    bias = buffer(d.bias, "bias");
    copy_weights_in();
    inference_w_ih = weights_in(w_ih, made.inference.weights_layer_desc(), "inference w_ih");
    inference_w_hh = weights_in(w_hh, made.inference.weights_iter_desc(), "inference w_hh");
    forward_w_ih = weights_in(w_ih, made.forward.weights_layer_desc(), "forward w_ih");
    forward_w_hh = weights_in(w_hh, made.forward.weights_iter_desc(), "forward w_hh");
    backward_w_ih = weights_in(w_ih, made.backward.weights_layer_desc(), "backward w_ih");
    backward_w_hh = weights_in(w_hh, made.backward.weights_iter_desc(), "backward w_hh");
    const auto gradient_desc = [&](int argument) {
        return made.backward.query_md(dnnl::query::exec_arg_md, argument);
    };
    dw_ih = gradient_out(d.w_ih, gradient_desc(DNNL_ARG_DIFF_WEIGHTS_LAYER), "dw_ih");
    dw_hh = gradient_out(d.w_hh, gradient_desc(DNNL_ARG_DIFF_WEIGHTS_ITER), "dw_hh");
    dbias = buffer(d.bias, "dbias");
    y = buffer(d.y, "y");
    hy = buffer(d.hy, "hy");
    dx = buffer(d.x, "dx");
    dhx = buffer(d.hx, "dhx");
    forward_args = {{DNNL_ARG_SRC_LAYER, view(d.x, p.x)},
                    {DNNL_ARG_SRC_ITER, view(d.hx, p.hx)},
                    {DNNL_ARG_WEIGHTS_LAYER, forward_w_ih.used},
                    {DNNL_ARG_WEIGHTS_ITER, forward_w_hh.used},
                    {DNNL_ARG_BIAS, bias},
                    {DNNL_ARG_DST_LAYER, y},
                    {DNNL_ARG_DST_ITER, hy}};
    if (cell_has_c(c.spec.cell)) {
        cy = buffer(d.cy, "cy");
        dcx = buffer(d.cx, "dcx");
        forward_args[DNNL_ARG_SRC_ITER_C] = view(d.cx, p.cx);
        forward_args[DNNL_ARG_DST_ITER_C] = cy;
    }
    inference_args = forward_args;
    inference_args[DNNL_ARG_WEIGHTS_LAYER] = inference_w_ih.used;
    inference_args[DNNL_ARG_WEIGHTS_ITER] = inference_w_hh.used;
    forward_args[DNNL_ARG_WORKSPACE] = buffer(made.forward.workspace_desc(), "workspace");
    reserve_bytes = made.forward.workspace_desc().get_size();
    backward_args = forward_args;
    backward_args[DNNL_ARG_WEIGHTS_LAYER] = backward_w_ih.used;
    backward_args[DNNL_ARG_WEIGHTS_ITER] = backward_w_hh.used;
    backward_args[DNNL_ARG_DIFF_DST_LAYER] = view(d.y, p.dy);
    backward_args[DNNL_ARG_DIFF_DST_ITER] = view(d.hy, p.dhy);
    backward_args[DNNL_ARG_DIFF_SRC_LAYER] = dx;
    backward_args[DNNL_ARG_DIFF_SRC_ITER] = dhx;
    backward_args[DNNL_ARG_DIFF_WEIGHTS_LAYER] = dw_ih.used;
    backward_args[DNNL_ARG_DIFF_WEIGHTS_ITER] = dw_hh.used;
    backward_args[DNNL_ARG_DIFF_BIAS] = dbias;
    if (cell_has_c(c.spec.cell)) {
        backward_args[DNNL_ARG_DIFF_DST_ITER_C] = view(d.cy, p.dcy);
        backward_args[DNNL_ARG_DIFF_SRC_ITER_C] = dcx;
    }
    for (Converted* weights : {&inference_w_ih, &inference_w_hh, &forward_w_ih, &forward_w_hh,
                               &backward_w_ih, &backward_w_hh}) {
        convert(*weights);
    }
    stream.wait();
}

/// Our w [G*H, I] and its place in ldigo [L,1,I,G,H], by layer; the loop of both directions.
template <class Visit>
static void for_each_weight(const RnnSpec& s, std::int64_t layer, std::int64_t width,
                            const Visit& visit) {
    const std::int64_t gates = s.num_gates(), hidden = s.hidden_size;
    for (std::int64_t gate = 0; gate < gates; ++gate) {
        const std::int64_t place = onednn_gate(s.cell, gate);
        for (std::int64_t j = 0; j < hidden; ++j) {
            for (std::int64_t i = 0; i < width; ++i) {
                visit((gate * hidden + j) * width + i,
                      ((layer * width + i) * gates + place) * hidden + j);
            }
        }
    }
}

void OnednnSide::Impl::copy_weights_in() {
    const RnnSpec& s = problem.grid_case.spec;
    const RnnParams params = params_from_flat(s, problem.weights.data());
    const auto floats = [](const memory& m) { return static_cast<float*>(m.get_data_handle()); };
    for (std::int64_t layer = 0; layer < s.num_layers; ++layer) {
        const RnnLayerParams& ours = params.layers[static_cast<std::size_t>(layer)];
        const auto copy = [&](const ConstTensorView& from, const memory& to, std::int64_t width) {
            const auto* source = static_cast<const float*>(from.data);
            for_each_weight(s, layer, width, [&](std::int64_t mine, std::int64_t theirs) {
                floats(to)[theirs] = source[mine];
            });
        };
        copy(ours.w_ih, w_ih, s.layer_input_size(layer));
        copy(ours.w_hh, w_hh, s.hidden_size);
        const auto* b_ih = static_cast<const float*>(ours.b_ih.data);
        const auto* b_hh = static_cast<const float*>(ours.b_hh.data);
        float* to = floats(bias) + layer * onednn_biases(s.cell) * s.hidden_size;
        for (std::int64_t gate = 0; gate < s.num_gates(); ++gate) {
            const bool apart = s.cell == Cell::kGru && gate == 2;
            for (std::int64_t j = 0; j < s.hidden_size; ++j) {
                const std::int64_t from = gate * s.hidden_size + j;
                to[onednn_gate(s.cell, gate) * s.hidden_size + j] =
                    apart ? b_ih[from] : b_ih[from] + b_hh[from];
                if (apart) to[3 * s.hidden_size + j] = b_hh[from];
            }
        }
    }
}

OnednnSide::OnednnSide(const Problem& problem, WeightFormat format, int num_threads) {
    try {
        impl_ = std::make_unique<Impl>(problem, format, num_threads);
    } catch (const dnnl::error& error) {
        throw Error(ErrorCode::kUnsupported,
                    "oneDNN rejects " + problem.grid_case.row.text + ": " + error.message + ".");
    }
}

OnednnSide::~OnednnSide() = default;

const char* weight_format_name(WeightFormat format) noexcept {
    return format == WeightFormat::kAny ? "any" : "plain";
}

std::string OnednnSide::name() const {
    return std::string("onednn ") + weight_format_name(impl_->format);
}

std::size_t OnednnSide::reserve_bytes() const { return impl_->reserve_bytes; }

std::string OnednnSide::cannot(Pass pass) const {
    return pass == Pass::kBackwardData ? "oneDNN has no backward pass for data alone" : "";
}

void OnednnSide::forward(StreamRef, bool training) {
    Impl& m = *impl_;
    m.use_threads();
    if (training) {
        m.forward.execute(m.stream, m.forward_args);
    } else {
        m.inference.execute(m.stream, m.inference_args);
    }
    m.stream.wait();
}

void OnednnSide::backward(StreamRef, bool) {
    Impl& m = *impl_;
    m.use_threads();
    for (const memory* sum : {&m.dw_ih.used, &m.dw_hh.used, &m.dbias}) {
        std::memset(sum->get_data_handle(), 0, sum->get_desc().get_size());
    }
    m.backward.execute(m.stream, m.backward_args);
    for (Converted* gradient : {&m.dw_ih, &m.dw_hh}) {
        if (gradient->differ) gradient->reorder.execute(m.stream, gradient->used, gradient->plain);
    }
    m.stream.wait();
}

void OnednnSide::train(StreamRef stream) {
    Impl& m = *impl_;
    m.use_threads();
    for (Converted* weights :
         {&m.forward_w_ih, &m.forward_w_hh, &m.backward_w_ih, &m.backward_w_hh}) {
        m.convert(*weights);
    }
    m.forward.execute(m.stream, m.forward_args);
    backward(stream, true);
}

Outcome OnednnSide::outcome(bool states_and_weights) {
    const Impl& m = *impl_;
    const RnnSpec& s = m.problem.grid_case.spec;
    const auto values = [](const memory& t) {
        const auto* data = static_cast<const float*>(t.get_data_handle());
        return std::vector<double>(data, data + t.get_desc().get_size() / sizeof(float));
    };
    Outcome o;
    o.hy = values(m.hy);
    o.dhx = values(m.dhx);
    if (!states_and_weights) {
        o.y = values(m.y);
        o.dx = values(m.dx);
    }
    if (!states_and_weights && cell_has_c(s.cell)) {
        o.cy = values(m.cy);
        o.dcx = values(m.dcx);
    }
    o.dweights.resize(static_cast<std::size_t>(param_count(s)));
    RnnSpec wide = s;
    wide.dtype = DType::kF64;
    const RnnGrads grads = grads_from_flat(wide, o.dweights.data());
    const auto* dbias = static_cast<const float*>(m.dbias.get_data_handle());
    for (std::int64_t layer = 0; layer < s.num_layers; ++layer) {
        const RnnLayerGrads& ours = grads.layers[static_cast<std::size_t>(layer)];
        const auto copy = [&](const Converted& from, const TensorView& to, std::int64_t width) {
            const auto* source = static_cast<const float*>(from.plain.get_data_handle());
            for_each_weight(s, layer, width, [&](std::int64_t mine, std::int64_t theirs) {
                static_cast<double*>(to.data)[mine] = static_cast<double>(source[theirs]);
            });
        };
        copy(m.dw_ih, ours.dw_ih, s.layer_input_size(layer));
        copy(m.dw_hh, ours.dw_hh, s.hidden_size);
        const float* from = dbias + layer * onednn_biases(s.cell) * s.hidden_size;
        for (std::int64_t gate = 0; gate < s.num_gates(); ++gate) {
            const std::int64_t place = onednn_gate(s.cell, gate);
            // A bias that is a sum has the same gradient for both terms.
            const std::int64_t state_side = s.cell == Cell::kGru && gate == 2 ? 3 : place;
            for (std::int64_t j = 0; j < s.hidden_size; ++j) {
                const std::int64_t to = gate * s.hidden_size + j;
                static_cast<double*>(ours.db_ih.data)[to] =
                    static_cast<double>(from[place * s.hidden_size + j]);
                static_cast<double*>(ours.db_hh.data)[to] =
                    static_cast<double>(from[state_side * s.hidden_size + j]);
            }
        }
    }
    return o;
}

const char* OnednnSide::version() {
    static const std::string text = [] {
        const dnnl::version_t* v = dnnl::version();
        return std::to_string(v->major) + "." + std::to_string(v->minor) + "." +
               std::to_string(v->patch);
    }();
    return text.c_str();
}

}  // namespace carousel::bench
