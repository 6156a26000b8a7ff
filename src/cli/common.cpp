#include "src/cli/common.hpp"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "src/io/file.hpp"

namespace carousel::cli {

namespace {

// One interruption may arrive twice: `timeout` and batch systems signal a process and then its group.
constexpr std::int64_t kSameInterruptMs = 300;

volatile sig_atomic_t g_interrupted = 0;
std::int64_t g_interrupted_ms = 0;  ///< read and written by the handler alone
std::string g_program = "carousel";

void note_interrupt(int) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const std::int64_t now_ms = std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
    if (g_interrupted == 0) {
        g_interrupted_ms = now_ms;
        g_interrupted = 1;
    } else if (now_ms - g_interrupted_ms > kSameInterruptMs) {
        io::remove_unfinished_files();
        ::_exit(kExitInterrupted);
    }
}

[[noreturn]] void fail_output(int error_number) {
    if (error_number == EPIPE) throw ReaderGone{};
    throw Error(ErrorCode::kIo, std::string("cannot write to the standard output: ") +
                                    std::strerror(error_number) + ".");
}

/// True if the whole text is a finite number; `value` is it.
bool is_number(const std::string& text, double& value) {
    char* end = nullptr;
    value = std::strtod(text.c_str(), &end);
    return !text.empty() && *end == '\0' && std::isfinite(value);
}

/// "" if a number is small enough to count with; the parser takes the largest one for what is larger.
std::string size_problem(const std::string& text, double value) {
    constexpr double kLargest = 9007199254740992.0;  // 2^53
    return value <= kLargest ? "" : "Value " + text + " is too large; the most is 2^53.";
}

/// Any number of 64 bits. The parser itself takes what is too large for the largest of them.
std::string seed_problem(const std::string& text) {
    errno = 0;
    char* end = nullptr;
    static_cast<void>(std::strtoull(text.c_str(), &end, 0));
    const bool whole = !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) != 0;
    if (whole && *end == '\0' && errno == 0) return "";
    return "Value " + text + " is not a whole number from 0 to 2^64-1.";
}

constexpr int kMostThreads = 1024;  // of a pool

// The texts of flags that several commands have, so that a flag means the same everywhere.
constexpr const char* kDeviceText = "Device to run on: cpu, cuda, cuda:<index>, or auto (the best)";
constexpr const char* kThreadsText = "CPU threads; 0 = chosen from the cores and the work";
constexpr const char* kDTypeText = "Type of tensors and arithmetic: f32, f64, tf32, bf16, f16";
constexpr const char* kSeedText = "Seed of all random numbers";
constexpr const char* kJsonText = "Machine-readable output: one JSON object per line";
constexpr const char* kCellText = "Cell: lstm, gru, gru_reset_before, rnn_tanh, rnn_relu";
constexpr const char* kHiddenText = "Hidden size [units per layer]";
constexpr const char* kLayersText = "Stacked recurrent layers [count]";
constexpr const char* kBatchText = "Batch size [sequences]";
constexpr const char* kSeqLenText = "Sequence length [time steps]";

template <class T>
CLI::Option* flag(CLI::App& app, const char* name, T& value, const char* text) {
    return app.add_option(name, value, text)->capture_default_str();
}

template <class T>
CLI::Option* flag(CLI::App& app, const char* name, std::vector<T>& values, const char* text) {
    return app.add_option(name, values, std::string(text) + "; a list a,b,... tries each")
        ->delimiter(',')
        ->capture_default_str();
}

}  // namespace

void print(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_output(errno);
}

void flush_output() {
    if (std::fflush(stdout) != 0) fail_output(errno);
}

void print_line(std::string_view text) {
    print(text);
    print("\n");
    flush_output();
}

void note(std::string_view text) {
    const std::string line = std::string(text) + "\n";
    std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string shell_quoted(const std::string& path) {
    const auto plain = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '.' ||
               c == '_' || c == '-' || c == '+';
    };
    if (!path.empty() && std::all_of(path.begin(), path.end(), plain)) return path;
    std::string out = "'";
    for (const char c : path) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

void set_program(const char* name) {
    if (name != nullptr && *name != '\0') g_program = name;
}

std::string program() { return shell_quoted(g_program); }

void catch_interrupts() {
    struct sigaction action {};
    action.sa_handler = note_interrupt;
    // One at a time: the handler keeps a time of its own.
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() noexcept { return g_interrupted != 0; }

CLI::Option* flag_device(CLI::App& app, std::string& device) {
    return flag(app, "--device", device, kDeviceText);
}
CLI::Option* flag_threads(CLI::App& app, int& threads) {
    return flag(app, "--threads", threads, kThreadsText)->check(CLI::Range(0, kMostThreads));
}
CLI::Option* flag_dtype(CLI::App& app, std::string& dtype) {
    return flag(app, "--dtype", dtype, kDTypeText);
}
CLI::Option* flag_seed(CLI::App& app, std::uint64_t& seed) {
    return flag(app, "--seed", seed, kSeedText)->check(CLI::Validator(seed_problem, "NONNEGATIVE"));
}
CLI::Option* flag_json(CLI::App& app, bool& json) {
    return app.add_flag("--json", json, kJsonText);
}
CLI::Option* flag_cell(CLI::App& app, std::string& cell) {
    return flag(app, "--cell", cell, kCellText);
}
CLI::Option* flag_hidden(CLI::App& app, std::int64_t& hidden) {
    return flag(app, "--hidden", hidden, kHiddenText)->check(above_zero());
}
CLI::Option* flag_layers(CLI::App& app, std::int64_t& layers) {
    return flag(app, "--layers", layers, kLayersText)->check(above_zero());
}
CLI::Option* flag_batch(CLI::App& app, std::int64_t& batch) {
    return flag(app, "--batch", batch, kBatchText)->check(above_zero());
}
CLI::Option* flag_seq_len(CLI::App& app, std::int64_t& seq_len) {
    return flag(app, "--seq-len", seq_len, kSeqLenText)->check(above_zero());
}

CLI::Option* flag_threads(CLI::App& app, std::vector<int>& threads) {
    return flag(app, "--threads", threads, kThreadsText)->check(CLI::Range(0, kMostThreads));
}
CLI::Option* flag_dtype(CLI::App& app, std::vector<std::string>& dtype) {
    return flag(app, "--dtype", dtype, kDTypeText);
}
CLI::Option* flag_cell(CLI::App& app, std::vector<std::string>& cell) {
    return flag(app, "--cell", cell, kCellText);
}
CLI::Option* flag_hidden(CLI::App& app, std::vector<std::int64_t>& hidden) {
    return flag(app, "--hidden", hidden, kHiddenText)->check(above_zero());
}
CLI::Option* flag_layers(CLI::App& app, std::vector<std::int64_t>& layers) {
    return flag(app, "--layers", layers, kLayersText)->check(above_zero());
}
CLI::Option* flag_batch(CLI::App& app, std::vector<std::int64_t>& batch) {
    return flag(app, "--batch", batch, kBatchText)->check(above_zero());
}
CLI::Option* flag_seq_len(CLI::App& app, std::vector<std::int64_t>& seq_len) {
    return flag(app, "--seq-len", seq_len, kSeqLenText)->check(above_zero());
}

CLI::Validator above_zero() {
    const auto problem = [](const std::string& text) {
        double value = 0.0;
        if (is_number(text, value) && value > 0.0) return size_problem(text, value);
        return "Value " + text + " is not a number above 0.";
    };
    return CLI::Validator(problem, "POSITIVE");
}

CLI::Validator at_least_zero() {
    const auto problem = [](const std::string& text) {
        double value = 0.0;
        if (is_number(text, value) && value >= 0.0) return size_problem(text, value);
        return "Value " + text + " is not a number from 0 on.";
    };
    return CLI::Validator(problem, "NONNEGATIVE");
}

DType layer_dtype(const std::string& text) {
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kTf32, DType::kBf16, DType::kF16}) {
        if (text == dtype_name(dtype)) return dtype;
    }
    throw Error(ErrorCode::kInvalidArgument,
                "--dtype is '" + text + "'; expected f32, f64, tf32, bf16 or f16");
}

Device resolve_device(const std::string& text) {
    const Device device = Device::parse(text);
    std::string why;
    if (!device_usable(device, &why)) {
        throw Error(ErrorCode::kUnsupported, "--device " + text + " cannot be used here: " + why);
    }
    return device;
}

std::string bytes_text(std::uint64_t bytes) {
    constexpr std::array<const char*, 5> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < 1024) return std::to_string(bytes) + " B";
    double value = static_cast<double>(bytes) / 1024.0;
    std::size_t unit = 0;
    while (value >= 1024.0 && unit + 1 < kUnits.size()) {
        value /= 1024.0;
        ++unit;
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
    return text.data();
}

}  // namespace carousel::cli
