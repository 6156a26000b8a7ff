#include <cstdint>

#include "carousel/error.hpp"
#include "src/api/check.hpp"
#include "src/backend/cpu/rnn_context.hpp"
#include "src/backend/rnn_executor.hpp"
#include "src/util/dtypes.hpp"

namespace carousel {

namespace {

[[noreturn]] void fail(const std::string& sentence) {
    throw Error(ErrorCode::kInvalidArgument, sentence);
}

struct AddressRange {
    std::uintptr_t begin, end;
};

AddressRange range_of(const ConstTensorView& view) {
    std::int64_t last = 0;
    for (int d = 0; d < view.ndim; ++d) {
        last += (view.shape[static_cast<std::size_t>(d)] - 1) *
                view.strides[static_cast<std::size_t>(d)];
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(view.data);
    return {begin, begin + (static_cast<std::uintptr_t>(last) + 1) * dtype_bytes(view.dtype)};
}

/// `out` must not share memory with `in`; with same_start, unless both start at the same address.
void check_overlap(const char* out_name, const ConstTensorView& out, const char* in_name,
                   const ConstTensorView& in, bool same_start = false) {
    if (!out.defined() || !in.defined() || (same_start && out.data == in.data)) return;
    const AddressRange a = range_of(out), b = range_of(in);
    if (a.begin < b.end && b.begin < a.end) {
        fail(std::string(out_name) + " overlaps " + in_name + " in memory; " +
             (same_start ? "expected the very same tensor or separate ones"
                         : "expected separate tensors"));
    }
}

void check_extent(const char* name, const char* axis, std::int64_t value, std::int64_t planned) {
    if (value < 1 || value > planned) {
        fail(std::string(name) + " (" + axis + ") is " + std::to_string(value) +
             "; expected 1 to " + std::to_string(planned) +
             ", what was planned: make a plan for a larger one");
    }
}

void check_memory(const char* name, const void* memory, std::size_t given, std::size_t needed) {
    if (memory == nullptr || given < needed) {
        fail(std::string(name) + " has " + std::to_string(memory == nullptr ? 0 : given) +
             " bytes; the plan needs " + std::to_string(needed) + " (RnnPlan::" + name + "_bytes)");
    }
    if (reinterpret_cast<std::uintptr_t>(memory) % 64 != 0) {
        fail(std::string(name) +
             " is not aligned; expected an address that is a multiple of 64 (Buffer gives one)");
    }
}

/// Tensor rules that forward and backward share: one object per call.
class Door {
public:
    Door(const RnnPlan& plan, std::int64_t T, std::int64_t N)
        : impl_(plan.impl()), spec_(impl_.spec), T_(T), N_(N) {
        check_extent("seq_len", "T", T, impl_.options.seq_len);
        check_extent("batch_size", "N", N, impl_.options.batch_size);
    }

    void tensor(const char* name, const ConstTensorView& view, std::initializer_list<Axis> axes,
                bool dense) const {
        check_tensor(name, view, storage_dtype(spec_.dtype), impl_.options.device, axes, dense);
    }
    /// Cell states, their gradients and norms are kept in more precision than 16 bits.
    void sum_tensor(const char* name, const ConstTensorView& view,
                    std::initializer_list<Axis> axes) const {
        check_tensor(name, view, accumulator_dtype(spec_.dtype), impl_.options.device, axes, true);
    }
    void sequence(const char* name, const ConstTensorView& view, bool input) const {
        const std::int64_t width = spec_.num_directions() * spec_.output_size();
        tensor(name, view,
               {{"T", T_}, {"N", N_}, input ? Axis{"I", spec_.input_size} : Axis{"D*O", width}},
               false);
    }
    void optional_sequence(const char* name, const ConstTensorView& view, bool input) const {
        if (view.defined()) sequence(name, view, input);
    }
    void h_state(const char* name, const ConstTensorView& view) const {
        if (view.defined())
            tensor(name, view, {{"L*D", spec_.num_states()}, {"N", N_}, {"O", spec_.output_size()}},
                   true);
    }
    void c_state(const char* name, const ConstTensorView& view) const {
        if (!view.defined()) return;
        no_c(name, view);
        sum_tensor(name, view, {{"L*D", spec_.num_states()}, {"N", N_}, {"H", spec_.hidden_size}});
    }
    void no_c(const char* name, const ConstTensorView& view) const {
        if (view.defined() && !cell_has_c(spec_.cell)) {
            fail(std::string(name) + " is given, but a " + cell_name(spec_.cell) +
                 " has no cell state; leave it undefined");
        }
    }
    void mask(const SequenceMask& mask) const {
        // On a CUDA device they are device memory, which the kernels check.
        if (mask.lengths == nullptr || impl_.options.device.type == DeviceType::kCuda) return;
        for (std::int64_t n = 0; n < N_; ++n) {
            if (mask.lengths[n] < 0 || mask.lengths[n] > T_) {
                fail("lengths[" + std::to_string(n) + "] is " + std::to_string(mask.lengths[n]) +
                     "; expected 0 to T = " + std::to_string(T_));
            }
        }
    }
    void weights(const RnnParams* params, const PackedWeights* packed, bool backward) const {
        if (params == nullptr && packed == nullptr) {
            fail(
                "neither params nor packed is given; expected one of them: plain weights or "
                "PackedWeights");
        }
        if (params != nullptr && packed != nullptr) {
            fail(
                "both params and packed are given; expected one of them, or the two could "
                "disagree");
        }
        if (params != nullptr) {
            check_params(spec_, *params, impl_.options.device);
            return;
        }
        const PackedWeights::Impl& made = packed->impl();
        RnnSpec with_dropout = made.spec;
        with_dropout.dropout = spec_.dropout;
        if (cpu::spec_hash(with_dropout) != cpu::spec_hash(spec_)) {
            fail("packed was made for " + to_string(made.spec) + "; this plan is for " +
                 to_string(spec_) + ": make PackedWeights with this plan's spec");
        }
        if (made.device != impl_.options.device) {
            fail("packed is on " + made.device.name() + "; the plan runs on " +
                 impl_.options.device.name());
        }
        if (backward && !made.for_backward) {
            fail(
                "packed was made with for_backward = false; backward needs PackedWeights made with "
                "it true");
        }
    }

    const RnnPlan::Impl& impl_;
    const RnnSpec& spec_;
    std::int64_t T_, N_;
};

void check_valid(const RnnPlan& plan, bool training) {
    if (!plan.valid()) fail("plan is empty; make one with RnnPlan::create");
    if (training && !plan.options().training) {
        fail("the plan was made without training; set RnnPlanOptions::training to true");
    }
}

}  // namespace

void check_forward(const RnnPlan& plan, const RnnForwardArgs& args, bool training) {
    check_valid(plan, training);
    const Door door(plan, args.seq_len, args.batch_size);
    const RnnSpec& spec = plan.spec();
    const std::int64_t S = spec.num_states(), H = spec.hidden_size, T = args.seq_len,
                       N = args.batch_size;
    door.sequence("x", args.x, true);
    door.h_state("hx", args.hx);
    door.c_state("cx", args.cx);
    door.sequence("y", args.y, false);
    door.h_state("hy", args.hy);
    door.c_state("cy", args.cy);
    if (args.layer_outputs.defined()) {
        door.tensor("layer_outputs", args.layer_outputs,
                    {{"L", spec.num_layers},
                     {"T", T},
                     {"N", N},
                     {"D*O", spec.num_directions() * spec.output_size()}},
                    true);
    }
    door.no_c("cell_states", args.cell_states);
    if (args.cell_states.defined()) {
        door.sum_tensor("cell_states", args.cell_states,
                        {{"L*D", S}, {"T", T}, {"N", N}, {"H", H}});
    }
    if (args.gates.defined()) {
        door.tensor("gates", args.gates,
                    {{"L*D", S}, {"T", T}, {"N", N}, {"G*H", spec.num_gates() * H}}, true);
    }
    check_overlap("y", args.y, "x", args.x);
    check_overlap("y", args.y, "hx", args.hx);
    check_overlap("y", args.y, "cx", args.cx);
    check_overlap("hy", args.hy, "hx", args.hx, true);
    check_overlap("cy", args.cy, "cx", args.cx, true);
    door.mask(args.mask);
    door.weights(args.params, args.packed, false);
    check_memory("workspace", args.workspace, args.workspace_bytes, plan.workspace_bytes());
    if (training) check_memory("reserve", args.reserve, args.reserve_bytes, plan.reserve_bytes());
}

void check_backward(const RnnPlan& plan, const RnnBackwardArgs& args) {
    check_valid(plan, true);
    const Door door(plan, args.seq_len, args.batch_size);
    const RnnSpec& spec = plan.spec();
    door.sequence("x", args.x, true);
    door.h_state("hx", args.hx);
    door.c_state("cx", args.cx);
    door.sequence("y", args.y, false);
    door.optional_sequence("dy", args.dy, false);
    door.h_state("dhy", args.dhy);
    door.c_state("dcy", args.dcy);
    door.optional_sequence("dx", args.dx, true);
    door.h_state("dhx", args.dhx);
    door.c_state("dcx", args.dcx);
    if (args.dh_norms.defined()) {
        door.sum_tensor("dh_norms", args.dh_norms,
                        {{"L*D", spec.num_states()}, {"T", args.seq_len}});
    }
    check_overlap("dx", args.dx, "x", args.x);
    check_overlap("dx", args.dx, "dy", args.dy);
    check_overlap("dx", args.dx, "y", args.y);
    check_overlap("dhx", args.dhx, "dhy", args.dhy, true);
    check_overlap("dcx", args.dcx, "dcy", args.dcy, true);
    door.mask(args.mask);
    door.weights(args.params, args.packed, true);
    if (args.grads != nullptr) check_grads(spec, *args.grads, plan.options().device);
    check_memory("workspace", args.workspace, args.workspace_bytes, plan.workspace_bytes());
    check_memory("reserve", args.reserve, args.reserve_bytes, plan.reserve_bytes());
    plan.impl().executor->check_reserve(args);
}

}  // namespace carousel
