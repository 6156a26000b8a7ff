#include "src/cli/bench_timing.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "src/cli/common.hpp"

namespace carousel::cli {

namespace {

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/// Linear interpolation between the neighbours in the sorted values.
double quantile(const std::vector<double>& sorted, double q) {
    const double at = q * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(low + 1, sorted.size() - 1);
    return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

std::string number_text(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value);
    return text.data();
}

/// Rounded to four significant digits: more would be noise.
double rounded(double value) { return std::strtod(number_text(value).c_str(), nullptr); }

}  // namespace

void add_timing_flags(CLI::App& app, TimingOptions& options) {
    app.add_option("--repeat", options.min_repetitions, "Timed repetitions, at least [count]")
        ->capture_default_str()
        ->check(above_zero());
    app.add_option("--min-time-ms", options.min_time_ms,
                   "Repeat each case for at least this long [ms]")
        ->capture_default_str()
        ->check(at_least_zero());
}

Timing measure(const TimingOptions& options, const std::function<void()>& body) {
    const double warm_until = now_ms() + options.min_time_ms / 10.0;
    for (int i = 0; i < 2 || now_ms() < warm_until; ++i) {
        body();
        if (interrupted()) break;
    }
    std::vector<double> times;
    double begin = now_ms();
    const double until = begin + options.min_time_ms;
    do {
        body();
        const double end = now_ms();
        times.push_back(end - begin);
        begin = now_ms();
    } while (!interrupted() &&
             (static_cast<std::int64_t>(times.size()) < options.min_repetitions || begin < until));
    std::sort(times.begin(), times.end());
    return {quantile(times, 0.5), quantile(times, 0.1), quantile(times, 0.9),
            static_cast<std::int64_t>(times.size())};
}

void BenchReport::add(nlohmann::ordered_json values, const Timing& timing, double flops) {
    values["median_ms"] = rounded(timing.median_ms);
    values["p10_ms"] = rounded(timing.p10_ms);
    values["p90_ms"] = rounded(timing.p90_ms);
    if (flops > 0.0) values["gflops"] = rounded(flops / timing.median_ms * 1e-6);
    values["repetitions"] = timing.repetitions;
    if (json_) {
        print_line(values.dump());
        return;
    }
    const auto cell = [](const nlohmann::ordered_json& value) {
        return value.is_string()         ? value.get<std::string>()
               : value.is_number_float() ? number_text(value.get<double>())
                                         : value.dump();
    };
    std::string heading;
    std::string row;
    const bool first = widths_.empty();
    std::size_t column = 0;
    for (const auto& [key, value] : values.items()) {
        // Room for what later rows may hold.
        if (first) widths_.push_back(std::max({key.size(), cell(value).size(), std::size_t{7}}));
        const auto padded = [&](std::string text) {
            if (text.size() < widths_[column]) text.insert(0, widths_[column] - text.size(), ' ');
            return text + "  ";
        };
        heading += padded(key);
        row += padded(cell(value));
        ++column;
    }
    if (first) print_line(heading);
    print_line(row);
}

}  // namespace carousel::cli
