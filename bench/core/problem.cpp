#include "bench/core/problem.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <thread>

#include "carousel/error.hpp"
#include "src/io/convert.hpp"

namespace carousel::bench {

namespace {

constexpr std::int64_t kBlock = std::int64_t{1} << 20;
constexpr std::int64_t kCheckedSteps = 16;
constexpr double kCheckedFlops = 2e11;
// Where rounding puts a preactivation on the other side of ReLU's kink, its gradient jumps: of a
// million elements a few in f32, some thousands in 16 bits.
constexpr double kReluGradientFactor = 16.0;

/// `count` numbers in [-scale, scale), a function of `seed` alone.
std::vector<double> random_block(std::uint64_t seed, std::int64_t count, double scale) {
    std::vector<double> values(static_cast<std::size_t>(count));
    std::uint64_t state = seed * 0x9e3779b97f4a7c15u;
    for (double& value : values) {
        state += 0x9e3779b97f4a7c15u;  // splitmix64
        std::uint64_t z = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        value = scale * (2.0 * static_cast<double>(z >> 11) * 0x1p-53 - 1.0);
    }
    return values;
}

double rounded_to(DType dtype, double value) {
    switch (dtype) {
        case DType::kF64:
            return value;
        case DType::kBf16:
            return io::bf16_to_f64(io::f64_to_bf16(value));
        case DType::kF16:
            return io::f16_to_f64(io::f64_to_f16(value));
        default:
            return static_cast<double>(static_cast<float>(value));
    }
}

template <class T, class Convert>
std::vector<std::byte> stored(const std::vector<double>& values, Convert convert) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const T element = convert(values[i]);
        std::memcpy(bytes.data() + i * sizeof(T), &element, sizeof(T));
    }
    return bytes;
}

std::vector<std::byte> stored_as(DType dtype, const std::vector<double>& values) {
    switch (dtype) {
        case DType::kF64:
            return stored<double>(values, [](double v) { return v; });
        case DType::kBf16:
            return stored<std::uint16_t>(values, io::f64_to_bf16);
        case DType::kF16:
            return stored<std::uint16_t>(values, io::f64_to_f16);
        default:
            return stored<float>(values, [](double v) { return static_cast<float>(v); });
    }
}

double value_at(const std::byte* data, DType dtype, std::size_t i) {
    if (dtype == DType::kF64) {
        double element;
        std::memcpy(&element, data + i * 8, 8);
        return element;
    }
    if (dtype == DType::kBf16 || dtype == DType::kF16) {
        std::uint16_t bits;
        std::memcpy(&bits, data + i * 2, 2);
        return dtype == DType::kBf16 ? io::bf16_to_f64(bits) : io::f16_to_f64(bits);
    }
    float element;
    std::memcpy(&element, data + i * 4, 4);
    return static_cast<double>(element);
}

enum Seed : std::uint64_t { kWeights = 1, kX, kHx, kCx, kDy, kDhy, kDcy };

/// Values of a tensor, in the case's dtype: element i is block[i % kBlock].
std::vector<double> values_for(const GridCase& c, Seed seed, std::int64_t count) {
    const double scale =
        seed == kWeights ? 1.0 / std::sqrt(static_cast<double>(c.spec.hidden_size)) : 1.0;
    std::vector<double> block = random_block(seed, std::min(count, kBlock), scale);
    for (double& value : block) value = rounded_to(c.spec.dtype, value);
    return block;
}

/// `bytes` in memory of the device: the block again and again.
Buffer repeated(const std::vector<std::byte>& block, std::size_t bytes, const Device& device,
                const char* what) {
    Buffer buffer(bytes, device, what);
    for (std::size_t done = 0; done < bytes; done += block.size()) {
        copy_to_device(buffer.as<std::byte>() + done, block.data(),
                       std::min(block.size(), bytes - done), device);
    }
    return buffer;
}

Buffer make(const GridCase& c, Seed seed, std::int64_t count, DType dtype, const Device& device,
            const char* what) {
    if (count == 0) return {};
    return repeated(stored_as(dtype, values_for(c, seed, count)),
                    static_cast<std::size_t>(count) * dtype_bytes(dtype), device, what);
}

template <class T>
Buffer uploaded(const std::vector<T>& values, const Device& device, const char* what) {
    if (values.empty()) return {};
    Buffer buffer(values.size() * sizeof(T), device, what);
    copy_to_device(buffer.data(), values.data(), buffer.bytes(), device);
    return buffer;
}

/// The same case in f64, whose inputs keep the values of the case's dtype.
struct Widened {
    GridCase c;
    Buffer operator()(const GridCase& narrow, Seed seed, std::int64_t count) const {
        if (count == 0) return {};
        const std::vector<double> block = values_for(narrow, seed, count);
        Buffer buffer(static_cast<std::size_t>(count) * sizeof(double));
        for (std::int64_t i = 0; i < count; ++i) {
            buffer.as<double>()[i] = block[static_cast<std::size_t>(i % kBlock)];
        }
        return buffer;
    }
};

/// Calls body(begin, end) for parts of [0, count) on all cores: gradients of a hundred million weights
/// are compared once a side, and a card waits meanwhile.
template <class Body>
void in_parts(std::size_t count, const Body& body) {
    const std::size_t most = std::max(1U, std::thread::hardware_concurrency());
    const std::size_t parts =
        std::clamp(count / static_cast<std::size_t>(kBlock), std::size_t{1}, most);
    const auto begin = [&](std::size_t part) { return count / parts * part; };
    std::vector<std::thread> threads;
    for (std::size_t part = 1; part < parts; ++part) {
        threads.emplace_back(
            [&, part] { body(begin(part), part + 1 < parts ? begin(part + 1) : count); });
    }
    body(0, parts > 1 ? begin(1) : count);
    for (std::thread& thread : threads) thread.join();
}

double difference(const double* a, const double* b, std::size_t count) {
    double square = 0.0, reference = 0.0;
    std::mutex mutex;
    in_parts(count, [&](std::size_t begin, std::size_t end) {
        double part = 0.0, of_reference = 0.0;
        for (std::size_t i = begin; i < end; ++i) {
            part += (a[i] - b[i]) * (a[i] - b[i]);
            of_reference += b[i] * b[i];
        }
        const std::lock_guard lock(mutex);
        square += part;
        reference += of_reference;
    });
    // A reference of zeros would make any result look right.
    const double relative =
        reference > 0.0 ? std::sqrt(square / reference) : std::numeric_limits<double>::infinity();
    return std::isnan(relative) ? std::numeric_limits<double>::infinity() : relative;
}

/// With what lies beyond the sequences' ends set to 0.
std::vector<double> within_lengths(const Problem& p, std::vector<double> values) {
    if (p.host_lengths.empty() || values.empty()) return values;
    const auto n = static_cast<std::size_t>(p.grid_case.batch_size);
    const std::size_t width = values.size() / static_cast<std::size_t>(p.tokens());
    for (std::size_t token = 0; token < static_cast<std::size_t>(p.tokens()); ++token) {
        if (static_cast<std::int64_t>(token / n) < p.host_lengths[token % n]) continue;
        std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(token * width), width, 0.0);
    }
    return values;
}

}  // namespace

Problem::Problem(const GridCase& c, const Device& on) : grid_case(c), device(on) {
    const RnnSpec& s = c.spec;
    value = s.dtype == DType::kTf32 ? DType::kF32 : s.dtype;
    state = s.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    const auto fill = [&](Seed seed, std::int64_t count, DType dtype, const char* what) {
        return make(c, seed, count, dtype, device, what);
    };
    weights = fill(kWeights, param_count(s), value, "weights");
    x = fill(kX, tokens() * s.input_size, value, "x");
    hx = fill(kHx, h_count(), value, "hx");
    dy = fill(kDy, tokens() * output_width(), value, "dy");
    dhy = fill(kDhy, h_count(), value, "dhy");
    if (cell_has_c(s.cell)) {
        cx = fill(kCx, c_count(), state, "cx");
        dcy = fill(kDcy, c_count(), state, "dcy");
        cx_value = fill(kCx, c_count(), value, "cx");
        dcy_value = fill(kDcy, c_count(), value, "dcy");
    }
    host_lengths = case_lengths(c);
    lengths = uploaded(host_lengths, device, "lengths");
    resets = uploaded(case_resets(c), device, "resets");
}

Buffer random_tensor(DType dtype, std::uint64_t seed, std::int64_t count, const Device& device,
                     const char* what) {
    return repeated(stored_as(dtype, random_block(seed, std::min(count, kBlock), 1.0)),
                    static_cast<std::size_t>(count) * dtype_bytes(dtype), device, what);
}

std::vector<double> values_of(const void* data, DType dtype, std::int64_t count,
                              const Device& device) {
    std::vector<double> values(static_cast<std::size_t>(count));
    if (count == 0) return values;
    std::vector<std::byte> bytes(values.size() * dtype_bytes(dtype));
    copy_to_host(bytes.data(), data, bytes.size(), device);
    in_parts(values.size(), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) values[i] = value_at(bytes.data(), dtype, i);
    });
    return values;
}

Outcome reference_outcome(const GridCase& c, bool with_resets, int threads) {
    RnnSpec s = c.spec;
    s.dtype = DType::kF64;
    RnnPlanOptions options;
    options.seq_len = c.seq_len;
    options.batch_size = c.batch_size;
    options.num_threads = threads;
    const RnnPlan plan = RnnPlan::create(s, options);

    const Widened wide{c};
    const std::int64_t t = c.seq_len, n = c.batch_size, states = s.num_states();
    const std::int64_t o = s.output_size(), width = s.num_directions() * o;
    const std::int64_t h_count = states * n * o;
    const std::int64_t c_count = cell_has_c(s.cell) ? states * n * s.hidden_size : 0;
    const Buffer weights = wide(c, kWeights, param_count(s)), x = wide(c, kX, t * n * s.input_size);
    const Buffer hx = wide(c, kHx, h_count), cx = wide(c, kCx, c_count);
    const Buffer dy = wide(c, kDy, t * n * width), dhy = wide(c, kDhy, h_count);
    const Buffer dcy = wide(c, kDcy, c_count);
    const auto lengths = case_lengths(c);
    const auto resets = with_resets ? case_resets(c) : std::vector<std::uint8_t>();

    Outcome out;
    const auto room = [](std::vector<double>& values, std::int64_t count) {
        values.resize(static_cast<std::size_t>(count));
        return values.data();
    };
    Buffer workspace(plan.workspace_bytes()), reserve(plan.reserve_bytes());
    const RnnParams params = params_from_flat(s, weights.data());
    RnnGrads grads = grads_from_flat(s, room(out.dweights, param_count(s)));
    const auto view = [](auto* data, std::int64_t a, std::int64_t b, std::int64_t w) {
        return BasicTensorView<std::remove_pointer_t<decltype(data)>>(data, DType::kF64, {a, b, w});
    };
    RnnForwardArgs f;
    f.seq_len = t;
    f.batch_size = n;
    f.x = view(x.data(), t, n, s.input_size);
    f.hx = view(hx.data(), states, n, o);
    f.y = view(static_cast<void*>(room(out.y, t * n * width)), t, n, width);
    f.hy = view(static_cast<void*>(room(out.hy, h_count)), states, n, o);
    if (c_count > 0) {
        f.cx = view(cx.data(), states, n, s.hidden_size);
        f.cy = view(static_cast<void*>(room(out.cy, c_count)), states, n, s.hidden_size);
    }
    f.mask.lengths = lengths.empty() ? nullptr : lengths.data();
    f.mask.reset = resets.empty() ? nullptr : resets.data();
    f.params = &params;
    f.workspace = workspace.data();
    f.workspace_bytes = workspace.bytes();
    f.reserve = reserve.data();
    f.reserve_bytes = reserve.bytes();
    forward_training(plan, f);

    RnnBackwardArgs b;
    b.seq_len = t;
    b.batch_size = n;
    b.x = f.x;
    b.hx = f.hx;
    b.cx = f.cx;
    b.y = f.y;
    b.mask = f.mask;
    b.params = &params;
    b.dy = view(dy.data(), t, n, width);
    b.dhy = view(dhy.data(), states, n, o);
    b.dx = view(static_cast<void*>(room(out.dx, t * n * s.input_size)), t, n, s.input_size);
    b.dhx = view(static_cast<void*>(room(out.dhx, h_count)), states, n, o);
    if (c_count > 0) {
        b.dcy = view(dcy.data(), states, n, s.hidden_size);
        b.dcx = view(static_cast<void*>(room(out.dcx, c_count)), states, n, s.hidden_size);
    }
    b.grads = &grads;
    b.workspace = workspace.data();
    b.workspace_bytes = workspace.bytes();
    b.reserve = reserve.data();
    b.reserve_bytes = reserve.bytes();
    backward(plan, b);
    return out;
}

GridCase checking_case(const GridCase& c) {
    GridCase check = c;
    check.seq_len = std::min(c.seq_len, kCheckedSteps);
    while (check.batch_size > 1 && 3.0 * forward_flops(check) > kCheckedFlops) {
        // Persistent kernels of the peer want a multiple of 8.
        check.batch_size =
            check.batch_size > 16 ? (check.batch_size / 2 + 7) / 8 * 8 : check.batch_size / 2;
    }
    return check;
}

double allowed_error(DType dtype) {
    switch (dtype) {
        case DType::kF64:
            return 1e-10;
        case DType::kTf32:
            return 1e-2;  // 10 bits of each factor
        case DType::kF16:
            return 1e-2;
        case DType::kBf16:
            return 5e-2;  // 8 bits, over up to 16 steps
        default:
            return 1e-4;
    }
}

double relative_error(const Problem& p, const Outcome& a, const Outcome& reference) {
    const bool jumps =
        p.grid_case.spec.cell == Cell::kRnnRelu && p.grid_case.spec.dtype != DType::kF64;
    const double gradient_factor = jumps ? 1.0 / kReluGradientFactor : 1.0;
    double worst = 0.0;
    const auto compare = [&](const std::vector<double>& got, const std::vector<double>& want,
                             double factor = 1.0) {
        if (got.empty() || want.empty()) return;
        worst = std::max(worst, got.size() == want.size()
                                    ? factor * difference(got.data(), want.data(), got.size())
                                    : std::numeric_limits<double>::infinity());
    };
    compare(within_lengths(p, a.y), within_lengths(p, reference.y));
    compare(a.hy, reference.hy);
    compare(a.cy, reference.cy);
    compare(within_lengths(p, a.dx), within_lengths(p, reference.dx), gradient_factor);
    compare(a.dhx, reference.dhx, gradient_factor);
    compare(a.dcx, reference.dcx, gradient_factor);
    if (a.dweights.empty() || reference.dweights.empty()) return worst;
    for (const RnnParamInfo& info : param_layout(p.grid_case.spec)) {
        worst =
            std::max(worst, gradient_factor * difference(a.dweights.data() + info.offset,
                                                         reference.dweights.data() + info.offset,
                                                         static_cast<std::size_t>(info.numel)));
    }
    return worst;
}

}  // namespace carousel::bench
