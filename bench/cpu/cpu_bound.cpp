#include "bench/cpu/cpu_bound.hpp"

#include <algorithm>

namespace carousel::bench {

std::size_t recurrent_weight_bytes(const GridCase& c) {
    return static_cast<std::size_t>(c.spec.num_gates() * c.spec.hidden_size *
                                    c.spec.output_size()) *
           dtype_bytes(c.spec.dtype);
}

LowerBound cpu_lower_bound(const GridCase& c, Pass pass, double peak_gflops, double read_gb_s) {
    const RnnSpec& s = c.spec;
    const double flops = forward_flops(c);
    // forward_flops counts the recurrent products of every state once; lengths cut both alike.
    double recurrent = 0.0, all = 0.0;
    for (std::int64_t layer = 0; layer < s.num_layers; ++layer) {
        recurrent += static_cast<double>(s.output_size());
        all += static_cast<double>(s.layer_input_size(layer) + s.output_size());
    }
    const double recurrent_flops = flops * recurrent / all;
    const double per_us = peak_gflops * 1e3, bytes_per_us = read_gb_s * 1e3;
    const double reads_us = static_cast<double>(c.seq_len * s.num_states()) *
                            static_cast<double>(recurrent_weight_bytes(c)) / bytes_per_us;
    const double sweep_us = std::max(recurrent_flops / per_us, reads_us);
    const double other_us = (flops - recurrent_flops) / per_us;
    LowerBound bound;
    switch (pass) {
        case Pass::kInfer:
        case Pass::kForward:
        case Pass::kBackwardData:
            bound.throughput_us = sweep_us + other_us;
            break;
        case Pass::kBackward:  // and once more all products, for the gradients of weights
            bound.throughput_us = sweep_us + other_us + flops / per_us;
            break;
        case Pass::kTrain:
            bound.throughput_us = 2.0 * (sweep_us + other_us) + flops / per_us;
            break;
    }
    return bound;
}

}  // namespace carousel::bench
