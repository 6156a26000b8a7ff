#include "bench/core/side.hpp"

#include <algorithm>

#include "carousel/error.hpp"

namespace carousel::bench {

Arena::Arena(const Problem& p) : device_(p.device) {
    const RnnSpec& s = p.grid_case.spec;
    const std::size_t e = dtype_bytes(p.value);
    const auto room = [&](std::int64_t count, std::size_t bytes, const char* what) {
        return count == 0 ? Buffer()
                          : Buffer(static_cast<std::size_t>(count) * bytes, device_, what);
    };
    // Where Carousel keeps f32 beside 16-bit tensors, the peer keeps less: the greater is taken.
    const std::size_t wide = std::max(e, dtype_bytes(p.state));
    const std::int64_t c_count = cell_has_c(s.cell) ? p.c_count() : 0;
    y = room(p.tokens() * p.output_width(), e, "y");
    hy = room(p.h_count(), e, "hy");
    cy = room(c_count, wide, "cy");
    dx = room(p.tokens() * s.input_size, e, "dx");
    dhx = room(p.h_count(), e, "dhx");
    dcx = room(c_count, wide, "dcx");
    dweights = room(param_count(s), wide, "dweights");
}

void Arena::need(std::size_t workspace_bytes, std::size_t reserve_bytes) {
    workspace_bytes_ = std::max(workspace_bytes_, workspace_bytes);
    reserve_bytes_ = std::max(reserve_bytes_, reserve_bytes);
}

void Arena::allocate() {
    workspace = Buffer(workspace_bytes_ + 256, device_, "workspace");
    reserve = Buffer(reserve_bytes_ + 256, device_, "reserve");
    try {
        saved_reserve = Buffer(reserve_bytes_ + 256, device_, "copy of the reserve");
    } catch (const Error& error) {
        // Then a forward pass restores it.
        if (error.code() != ErrorCode::kOutOfMemory) throw;
    }
}

void Arena::clear_outputs() {
    for (Buffer* output : {&y, &hy, &cy, &dx, &dhx, &dcx, &dweights}) {
        if (output->data() != nullptr) output->zero();
    }
}

void run_pass(Side& side, Pass pass, StreamRef stream) {
    switch (pass) {
        case Pass::kInfer:
            return side.forward(stream, false);
        case Pass::kForward:
            return side.forward(stream, true);
        case Pass::kBackwardData:
            return side.backward(stream, false);
        case Pass::kBackward:
            return side.backward(stream, true);
        case Pass::kTrain:
            return side.train(stream);
    }
}

}  // namespace carousel::bench
