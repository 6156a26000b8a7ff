#include <algorithm>
#include <cstring>
#include <string>

#include "src/api/c_convert.hpp"

// The C interface: plans and runs.

using namespace carousel;
using namespace carousel::c_api;

namespace {

/// Runs `pass` (forward_inference or forward_training) with the arguments of a C caller.
template <class Pass>
void run_forward(const carousel_rnn_plan* plan, const carousel_rnn_forward_args* given, Pass pass) {
    need(plan, "plan");
    const auto a = versioned(given, sizeof(carousel_rnn_forward_args), "args");
    RnnForwardArgs args;
    static thread_local RnnParams params;  // its memory is kept, so that a run allocates nothing
    args.seq_len = a.seq_len;
    args.batch_size = a.batch_size;
    args.x = view_of(a.x, "x");
    args.hx = view_of(a.hx, "hx");
    args.cx = view_of(a.cx, "cx");
    args.y = view_of(a.y, "y");
    args.hy = view_of(a.hy, "hy");
    args.cy = view_of(a.cy, "cy");
    args.mask = {a.lengths, a.reset};
    if (a.layers != nullptr) {
        fill_params(params, a.layers, a.num_layer_entries, plan->plan.spec());
        args.params = &params;
    }
    if (a.packed != nullptr) args.packed = &a.packed->weights;
    args.layer_outputs = view_of(a.layer_outputs, "layer_outputs");
    args.cell_states = view_of(a.cell_states, "cell_states");
    args.gates = view_of(a.gates, "gates");
    args.dropout_seed = a.dropout_seed;
    args.dropout_step = a.dropout_step;
    args.workspace = a.workspace;
    args.workspace_bytes = a.workspace_bytes;
    args.reserve = a.reserve;
    args.reserve_bytes = a.reserve_bytes;
    args.stream.native = a.stream;
    pass(plan->plan, args);
}

void run_backward(const carousel_rnn_plan* plan, const carousel_rnn_backward_args* given) {
    need(plan, "plan");
    const auto a = versioned(given, sizeof(carousel_rnn_backward_args), "args");
    RnnBackwardArgs args;
    static thread_local RnnParams params;  // their memory is kept, as in run_forward
    static thread_local RnnGrads grads;
    args.seq_len = a.seq_len;
    args.batch_size = a.batch_size;
    args.x = view_of(a.x, "x");
    args.hx = view_of(a.hx, "hx");
    args.cx = view_of(a.cx, "cx");
    args.y = view_of(a.y, "y");
    args.mask = {a.lengths, a.reset};
    if (a.layers != nullptr) {
        fill_params(params, a.layers, a.num_layer_entries, plan->plan.spec());
        args.params = &params;
    }
    if (a.packed != nullptr) args.packed = &a.packed->weights;
    args.dy = view_of(a.dy, "dy");
    args.dhy = view_of(a.dhy, "dhy");
    args.dcy = view_of(a.dcy, "dcy");
    args.dx = view_of(a.dx, "dx");
    args.dhx = view_of(a.dhx, "dhx");
    args.dcx = view_of(a.dcx, "dcx");
    if (a.grads != nullptr) {
        fill_grads(grads, a.grads, a.num_grad_entries, plan->plan.spec());
        args.grads = &grads;
    }
    args.accumulate = checked_enum(a.accumulate, 1, "args->accumulate") != 0;
    args.dh_norms = view_of(a.dh_norms, "dh_norms");
    args.workspace = a.workspace;
    args.workspace_bytes = a.workspace_bytes;
    args.reserve = a.reserve;
    args.reserve_bytes = a.reserve_bytes;
    args.stream.native = a.stream;
    backward(plan->plan, args);
}

}  // namespace

extern "C" {

carousel_status carousel_rnn_plan_create(const carousel_rnn_spec* spec,
                                         const carousel_rnn_plan_options* options,
                                         carousel_rnn_plan** plan) {
    return guarded([&] {
        need(plan, "plan");
        const RnnSpec s = spec_of(spec);
        const auto o = versioned(options, sizeof(carousel_rnn_plan_options), "options");
        RnnPlanOptions plan_options;
        plan_options.seq_len = o.seq_len;
        plan_options.batch_size = o.batch_size;
        plan_options.training = checked_enum(o.training, 1, "options->training") != 0;
        plan_options.num_threads = o.num_threads;
        plan_options.device = device_of(o.device);
        if (o.pool != nullptr) plan_options.pool = o.pool->pool;
        plan_options.algorithm =
            checked_enum(o.algorithm, Algorithm::kStepwise, "options->algorithm");
        *plan = new carousel_rnn_plan{RnnPlan::create(s, plan_options)};
    });
}

void carousel_rnn_plan_destroy(carousel_rnn_plan* plan) { delete plan; }

size_t carousel_rnn_plan_workspace_bytes(const carousel_rnn_plan* plan) {
    return plan == nullptr ? 0 : plan->plan.workspace_bytes();
}

size_t carousel_rnn_plan_reserve_bytes(const carousel_rnn_plan* plan) {
    return plan == nullptr ? 0 : plan->plan.reserve_bytes();
}

carousel_status carousel_rnn_plan_describe(const carousel_rnn_plan* plan, char* text,
                                           size_t capacity, size_t* needed) {
    return guarded([&] {
        need(plan, "plan");
        if (capacity > 0) need(text, "text");
        const std::string whole = plan->plan.describe();
        if (needed != nullptr) *needed = whole.size() + 1;
        if (capacity > 0) {
            const std::size_t length = std::min(whole.size(), capacity - 1);
            std::memcpy(text, whole.data(), length);
            text[length] = '\0';
        }
    });
}

carousel_status carousel_rnn_forward_inference(const carousel_rnn_plan* plan,
                                               const carousel_rnn_forward_args* args) {
    return guarded([&] { run_forward(plan, args, forward_inference); });
}

carousel_status carousel_rnn_forward_training(const carousel_rnn_plan* plan,
                                              const carousel_rnn_forward_args* args) {
    return guarded([&] { run_forward(plan, args, forward_training); });
}

carousel_status carousel_rnn_backward(const carousel_rnn_plan* plan,
                                      const carousel_rnn_backward_args* args) {
    return guarded([&] { run_backward(plan, args); });
}

}  // extern "C"
